"""The command line itself: help, versions, unknown words, JSON, and how errors end."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import Cli, installed_program, run_program

import genslim.command
from genslim.command import Command, Common, Group, report_errors
from genslim.errors import GateFailed, MissingDependency, UserError
from genslim.plugins import groups

PROGRAMS = ("genslim", "compress", "export", "bench", "generators")
HEAVY = ("torch", "numpy", "onnx", "openvino", "rich", "cyclopts", "matplotlib", "PIL")
"""What no overview may import: together they take seconds."""

COMMANDS = [(name, c.name) for name, group in sorted(groups().items()) for c in group.commands]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_console_script_and_the_module_print_the_same_help(name: str) -> None:
    script = run_program([installed_program(name), "--help"])
    module = run_program([sys.executable, "-m", name, "--help"])
    assert script.status == module.status == 0
    assert script.err == ""
    assert script.out.startswith(f"usage: {name} COMMAND")
    assert script.out == module.out


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_overview_imports_nothing_heavy(name: str) -> None:
    place = "genslim.main:main" if name == "genslim" else f"{name}.cli:{name}"
    module, _, function = place.partition(":")
    code = (
        f"import sys; from {module} import {function} as program; status = program(['--help']); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    outcome = run_program([sys.executable, "-c", code])
    assert outcome.status == 0
    assert outcome.err.strip() == "[]"


def test_the_overview_names_every_group_and_command(cli: Cli) -> None:
    overview = cli("genslim").out
    for group, command in COMMANDS:
        assert group in overview
        assert command in cli(group, "--help").out


def test_the_umbrella_reaches_the_same_commands_as_the_programs(cli: Cli) -> None:
    for name in PROGRAMS[1:]:
        script = run_program([installed_program(name), "--help"])
        assert cli("genslim", name, "--help").out == script.out


@pytest.mark.parametrize(("group", "command"), COMMANDS)
def test_each_command_explains_its_flags(cli: Cli, group: str, command: str) -> None:
    outcome = cli(group, command, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"Usage: {group} {command}")
    assert outcome.err == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_version(cli: Cli, name: str) -> None:
    from importlib.metadata import version

    assert cli(name, "--version").out.strip() == version("genslim")


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unknown_command_is_one_line_with_what_there_is(cli: Cli, name: str) -> None:
    line = cli(name, "conquer").refused()
    assert "'conquer'" in line
    assert "there are" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("compress", "prune", "--no-such-flag"), "--no-such-flag"),
        (("compress", "prune", "--ratio", "half"), "half"),
        (("compress", "prune", "--of", "wishes"), "wishes"),
        (("compress", "prune", "--ratio"), "--ratio"),
        (("compress", "prune", "one", "two"), "two"),
        (("export", "onnx", "--no-such-flag"), "--no-such-flag"),
        (("bench", "run", "--no-such-flag"), "--no-such-flag"),
        (("generators", "train", "--no-such-flag"), "--no-such-flag"),
        (("genslim", "shell-init", "fish"), "fish"),
    ],
)
def test_an_unknown_flag_or_value_is_named(cli: Cli, words: tuple[str, ...], named: str) -> None:
    line = cli(*words).refused()
    assert named in line
    assert f"see {words[0]} {words[1]} --help" in line


def test_a_misuse_ends_a_real_process_with_2_and_no_traceback() -> None:
    outcome = run_program([installed_program("compress"), "prune", "--no-such-flag"])
    assert "--no-such-flag" in outcome.refused()
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("error", "status"), [(UserError, 2), (GateFailed, 1), (MissingDependency, 3)]
)
def test_each_kind_of_error_has_its_exit_status(
    capsys: pytest.CaptureFixture[str], error: type[UserError], status: int
) -> None:
    def work() -> int:
        raise error("the cat is out", hint="call it in")

    assert report_errors(work) == status
    assert capsys.readouterr().err == "error: the cat is out; call it in\n"


def test_a_defect_is_named_as_one_and_a_traceback_is_to_be_had(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> int:
        raise ZeroDivisionError("division by zero")

    assert report_errors(work) == genslim.command.FAILED_UNEXPECTEDLY
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "a defect in genslim: ZeroDivisionError" in err
    monkeypatch.setenv("GENSLIM_TRACEBACK", "1")
    report_errors(work)
    assert "Traceback" in capsys.readouterr().err


def test_interruption_ends_as_shells_have_it() -> None:
    def work() -> int:
        raise KeyboardInterrupt

    assert report_errors(work) == 130


def say(source: str | None = None, /, *, loud: bool = False, common: Common = Common()) -> int:  # noqa: B008
    """Say what was heard.

    A second paragraph, which is long enough to be broken in the source over
    two lines.

    Parameters
    ----------
    source:
        What to repeat.
    loud:
        In capitals.
    """
    console = common.console()
    console.info("listening")
    console.table(("word", "length"), [(str(source), "1")])
    console.finish({"source": source, "loud": loud}, wrote=common.output, following="listen")
    return 0


GROUP = Group(
    "tell", "For tests.", (Command("say", "say it", "test_cli:say", {"--shout": ("--loud",)}),)
)


def test_flags_come_from_the_function_and_its_dataclasses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert GROUP(["say", "hello", "--shout", "-o", "there", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"source": "hello", "loud": True, "wrote": "there"}
    assert "listening" in err, "with --json, what is for people goes to standard error"


def test_the_last_line_of_standard_output_is_json_for_a_real_process() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from test_cli import GROUP; "
        "sys.exit(GROUP(sys.argv[1:]))"
    )
    here = __file__.rpartition("/")[0]
    outcome = run_program([sys.executable, "-c", code, here, "say", "hello", "--json"])
    assert outcome.status == 0
    assert json.loads(outcome.out.splitlines()[-1])["source"] == "hello"
    assert "listening" in outcome.err


def test_without_json_people_get_a_table_and_the_next_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert GROUP(["say", "hello", "-o", "there"]) == 0
    out, err = capsys.readouterr()
    assert "hello" in out
    assert "wrote there" in out
    assert "next: listen" in out
    assert err == ""


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert GROUP(["say", "hello", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_help_of_a_command_shows_flags_defaults_and_shorthands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert GROUP(["say", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in (
        "Say what was heard.",
        "--loud",
        "In capitals.",
        "--shout for --loud",
        "--dry-run",
    ):
        assert part in text
    assert "broken in the source over two lines." in text
    assert "Parameters" not in text.split("Usage")[1].split("Arguments")[0]


def test_an_error_inside_a_dataclass_surfaces_as_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = Group("tell", "For tests.", (Command("refuse", "refuse", "test_cli:refuse"),))
    assert group(["refuse"]) == 2
    assert capsys.readouterr().err == "error: no; ask again\n"


def refuse() -> None:
    """Refuse."""
    raise UserError("no", hint="ask again")


def test_a_reader_who_leaves_is_no_error() -> None:
    program = installed_program("genslim")
    outcome = run_program(["bash", "-c", f"set -o pipefail; {program} --help | true"])
    assert outcome.err == ""
