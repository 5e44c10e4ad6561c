"""``genslim shell-init`` in real shells: the program gets its commands, the builtin the rest."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli, Outcome, run_program

from genslim.plugins import groups

FAKE = """\
#!/bin/sh
printf 'PROGRAM'
printf ' [%s]' "$@"
echo
"""
"""A program that prints its arguments, first on PATH under the name ``export``."""

ASSIGNMENTS = """\
value="two  words *"
export FOO=bar
export A=1 B=2
export PATH="$PATH:/x"
export SPLIT=$value
export COMMAND=$(echo p q)
export QUOTED="a  b"
export TILDE=~/x:~/y
export EMPTY=
later=3; export later
export GLOB=*
export -p | grep -E '(FOO|A|B|SPLIT|COMMAND|QUOTED|TILDE|EMPTY|later|GLOB)='
env | grep -E '^(FOO|A|B|PATH|SPLIT|COMMAND|QUOTED|TILDE|EMPTY|later|GLOB)=' | sort
"""
"""What people export; the last two lines print what came of it."""


@pytest.fixture
def fake_export(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH begins with the fake program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "export"
    program.write_text(FAKE)
    program.chmod(0o755)
    (folder / "genslim").symlink_to(Path(sys.executable).with_name("genslim"))
    (tmp_path / "home").mkdir()
    return {
        "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "TERM": "dumb",
    }


def need(shell: str) -> str:
    """The shell's path; skip the test where it is not installed."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed here")
    return path


def run_shell(shell: str, script: str, env: dict[str, str]) -> Outcome:
    """Run ``script`` in a shell that reads no start-up files, after the line from the README.

    From a file: zsh parses all of ``-c`` before it runs any of it.
    """
    flag = {"bash": "--norc", "zsh": "-f"}[shell]
    file = Path(env["HOME"]) / "script"
    file.write_text(f'eval "$(genslim shell-init {shell})"\n{script}')
    return run_program([need(shell), flag, file], env=env)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_every_command_of_export_reaches_the_program(
    shell: str, fake_export: dict[str, str]
) -> None:
    commands = [c.name for c in groups()["export"].commands]
    script = "\n".join(f"export {name} --fp16 'a  b'" for name in commands)
    outcome = run_shell(shell, script, fake_export)
    assert outcome.out.splitlines() == [f"PROGRAM [{name}] [--fp16] [a  b]" for name in commands]
    assert outcome.err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_help_reaches_the_program(shell: str, fake_export: dict[str, str]) -> None:
    outcome = run_shell(shell, "export --help\nexport trt --help", fake_export)
    assert outcome.out.splitlines() == ["PROGRAM [--help]", "PROGRAM [trt] [--help]"]


def test_in_bash_everything_else_is_as_with_the_builtin_alone(
    fake_export: dict[str, str],
) -> None:
    script = ASSIGNMENTS + "export ARRAY=(1 2); declare -p ARRAY\nexport 1x=2; echo status $?\n"
    with_function = run_shell("bash", script, fake_export)
    alone = run_program([need("bash"), "--norc", "-c", script], env=fake_export)
    assert "SPLIT=two  words *\n" in alone.out
    assert with_function.out == alone.out
    assert "1x=2" in with_function.err


def test_in_bash_the_function_bears_set_u_and_no_arguments(fake_export: dict[str, str]) -> None:
    outcome = run_shell("bash", "set -eu\nexport FOO=bar\nexport | grep FOO", fake_export)
    assert outcome == Outcome(0, 'declare -x FOO="bar"\n', "")


def test_in_bash_a_local_variable_stays_local(fake_export: dict[str, str]) -> None:
    script = "f() { local FOO=1; export FOO BAR=2; env | grep ^FOO; }; f; echo ${FOO-gone} $BAR"
    assert run_shell("bash", script, fake_export).out == "FOO=1\ngone 2\n"


def test_in_a_zsh_script_quoted_assignments_are_kept(fake_export: dict[str, str]) -> None:
    script = 'value="two  words *"\nexport FOO=bar A=1 QUOTED="$(echo p q)" SPLIT=$value\n'
    script += "export -p | grep FOO=\nenv | grep -E '^(FOO|A|QUOTED|SPLIT)=' | sort\n"
    outcome = run_shell("zsh", script, fake_export)
    assert outcome.out.splitlines() == [
        "export FOO=bar",
        "A=1",
        "FOO=bar",
        "QUOTED=p q",
        "SPLIT=two  words *",
    ]


def type_into_zsh(lines: list[str], startup: str, env: dict[str, str]) -> list[str]:
    """Type lines at an interactive zsh on a terminal and return what it printed in between."""
    import pty

    home = Path(env["HOME"])
    (home / ".zshrc").write_text(startup + "PS1=; unsetopt prompt_sp; stty -echo\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [need("zsh"), "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "ZDOTDIR": str(home)},
        start_new_session=True,
    )
    os.close(theirs)

    def read_until(mark: str) -> str:
        text, deadline = "", time.monotonic() + 20
        while mark not in text and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                text += os.read(ours, 65536).decode()
        assert mark in text, text
        return text

    try:
        answers = []
        for number, line in enumerate(lines):
            # The mark is put together by the shell, so that the echo of the line is not it.
            os.write(ours, f"{line}\nprint -- '<do''ne'{number}'>'\n".encode())
            answers.append(read_until(f"<done{number}>"))
        return answers
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_at_an_interactive_zsh_both_work_without_quotes(fake_export: dict[str, str]) -> None:
    startup = 'eval "$(genslim shell-init zsh)"\nexport RC=$(echo r s)\n'
    lines = ["export trt --fp16 'a  b'", "true && export onnx", "export --help"]
    lines += ["export COMMAND=$(echo p q) TILDE=~/x:~/y FOO=bar trt=3", "env | sort", "disable -r"]
    answers = type_into_zsh(lines, startup, fake_export)
    assert "PROGRAM [trt] [--fp16] [a  b]" in answers[0]
    assert "PROGRAM [onnx]" in answers[1]
    assert "PROGRAM [--help]" in answers[2]
    assert "PROGRAM" not in answers[3]
    home = fake_export["HOME"]
    for line in ("RC=r s", "COMMAND=p q", f"TILDE={home}/x:{home}/y", "FOO=bar", "trt=3"):
        assert line in answers[4].replace("\r", "").splitlines()
    assert "export" not in answers[5].replace("disable -r", "").split("print")[0]


def test_without_the_function_export_does_not_reach_the_program(
    fake_export: dict[str, str],
) -> None:
    outcome = run_program([need("bash"), "--norc", "-c", "export trt"], env=fake_export)
    assert "PROGRAM" not in outcome.out, "then nobody would need the function"


def test_only_bash_and_zsh_are_known(cli: Cli) -> None:
    assert "fish" in cli("genslim", "shell-init", "fish").refused()
