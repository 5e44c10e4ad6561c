"""The README runs: its Python is executed, and every command and flag it shows exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import REPOSITORY, Cli

from genslim.demo import chain
from genslim.main import OWN
from genslim.plugins import groups

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PROGRAMS = ("genslim", "compress", "export", "bench", "generators")


def blocks(language: str) -> list[str]:
    """The fenced blocks of ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of ours in a block or in a span of code."""
    lines = [line for block in blocks("bash") + blocks("console") for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", README)
    candidates = [line.removeprefix("$ ").partition("#")[0].strip() for line in lines + spans]
    return [c for c in candidates if c.split(" ")[0] in PROGRAMS and " " in c]


def known_commands(program: str) -> set[str]:
    """What may follow the name of a program."""
    found = groups()
    if program == "genslim":
        return {command.name for command in OWN} | set(found)
    return {command.name for command in found[program].commands}


@pytest.mark.parametrize("line", dict.fromkeys(commands()))
def test_every_command_and_flag_exists(cli: Cli, line: str) -> None:
    line = re.sub(r"[\[\]\\]", " ", line)  # optional parts, escaped bars of tables
    program, word, *rest = shlex.split(line)
    if program == "genslim" and word in groups():
        program, word, rest = word, rest[0], rest[1:]
    names = word.split("|")
    assert set(names) <= known_commands(program), line
    done = cli(program, *names[:1], "--help")
    assert done.status == 0
    flags = [word for part in rest for word in part.split("|") if word.startswith("-")]
    for flag in flags:
        assert re.search(rf"(^|\s|\(){re.escape(flag)}\b", done.out), (flag, done.out)


def test_the_chain_that_the_demo_runs_is_the_one_shown() -> None:
    shown = [line for block in blocks("console") for line in block.splitlines()]
    for line in chain("RUN", "dcgan-mnist"):
        assert f"$ {line}" in shown


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {})
    assert "(25, 1, 32, 32)\n(1, 1, 32, 32) openvino fp32" in capsys.readouterr().out
    assert Path("fast.onnx").is_file()
    assert Path("report.html").stat().st_size > 10_000


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((REPOSITORY / picture).is_file() for picture in pictures)
