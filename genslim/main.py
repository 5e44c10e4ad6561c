"""The umbrella command: ``genslim demo``, ``genslim shell-init``, and the siblings' groups.

The siblings announce their groups as entry points in ``genslim.commands``; a package of someone
else's does the same to appear here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from genslim.command import Command, program_version, report_errors, run_command
from genslim.errors import UserError
from genslim.plugins import groups

SUMMARY = "Makes trained image generators small and fast, and shows what every step cost."

OWN = (
    Command(
        "demo", "the whole chain on the shipped generator, and the report", "genslim.demo:demo"
    ),
    Command(
        "shell-init",
        "lets bash or zsh run `export trt` (export is a builtin)",
        "genslim.shell:shell_init",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``genslim`` and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: dispatch(arguments))


def dispatch(arguments: list[str]) -> int:
    """Find the command and run it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return 0
    if arguments[0] == "--version":
        print(program_version())
        return 0
    name, *rest = arguments
    for command in OWN:
        if command.name == name:
            return run_command("genslim", command, rest)
    found = groups()
    if name in found:
        return found[name].dispatch(rest)
    raise UserError(
        f"genslim has no command {name!r}",
        hint="there are " + ", ".join([*(c.name for c in OWN), *found]),
    )


def help_text() -> str:
    """Every command, the groups with the commands in them."""
    lines = ["usage: genslim COMMAND [ARGUMENTS]", "", SUMMARY, ""]
    lines += [f"  {command.name:<12}{command.summary}" for command in OWN]
    for name, group in sorted(groups().items()):
        inside = ", ".join(command.name for command in group.commands)
        lines.append(f"  {name:<12}{inside}")
    lines += [
        "",
        "genslim GROUP --help lists a group; genslim GROUP COMMAND --help shows the flags.",
    ]
    return "\n".join(lines)
