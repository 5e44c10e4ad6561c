"""Commands: a dataclass becomes flags, errors become one line and an exit status.

A package lists its commands as plain data, so that ``--help`` on a group imports nothing heavy;
cyclopts reads the flags of the one command that is run.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from genslim.errors import GenslimError, UserError

if TYPE_CHECKING:
    from genslim.console import Console

FAILED_UNEXPECTEDLY = 70
"""Exit status of a defect in genslim itself (EX_SOFTWARE in sysexits.h)."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
SHORT = {"-o": ("--output",)}
"""Short flags that every command understands."""


@dataclass(frozen=True)
class Command:
    """One command of a group."""

    name: str
    summary: str
    function: str
    """``module:function``, imported when the command is run. Its parameters are the flags."""
    shorthands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Flags that stand for others: ``{"--int8": ("--precision", "int8")}``."""
    epilogue: str = ""
    """Examples shown under the command's help."""


@dataclass(frozen=True)
class Group:
    """A program: ``compress``, ``export``, ``bench``, ``generators``."""

    name: str
    summary: str
    commands: tuple[Command, ...]

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the command that ``argv`` names and return the exit status."""
        arguments = list(sys.argv[1:] if argv is None else argv)
        return report_errors(lambda: self.dispatch(arguments))

    def dispatch(self, arguments: list[str]) -> int:
        """Find the command and run it; answer ``--help`` and ``--version`` without imports."""
        if not arguments or arguments[0] in ("-h", "--help"):
            print(self.help())
            return 0
        if arguments[0] == "--version":
            print(program_version())
            return 0
        for command in self.commands:
            if command.name == arguments[0]:
                return run_command(self.name, command, arguments[1:])
        raise UserError(
            f"{self.name} has no command {arguments[0]!r}",
            hint="there are " + ", ".join(command.name for command in self.commands),
        )

    def help(self) -> str:
        """Name and purpose of every command."""
        width = max(len(command.name) for command in self.commands) + 2
        rows = "\n".join(f"  {c.name:<{width}}{c.summary}" for c in self.commands)
        return (
            f"usage: {self.name} COMMAND [ARGUMENTS]\n\n{self.summary}\n\n{rows}\n\n"
            f"{self.name} COMMAND --help shows its flags."
        )


@dataclass(frozen=True)
class Common:
    """What every command that opens a source takes."""

    output: str | None = None
    """Where to write (-o). Steps: a run folder, new or old; exports: a file or folder."""
    images: str | None = None
    """Folder of images, for generators that take images."""
    input: tuple[str, ...] = ()
    """[NAME:]SHAPE of an input that can't be told from the source, the batch first: z:1,100."""
    weights: str | None = None
    """File of weights for package.module:factory."""
    value_range: tuple[float, float] | None = None
    """Least and greatest value of a pixel, where it can't be told from the source: -1 1."""
    json: bool = False
    """End standard output with one line of JSON; everything else goes to standard error."""
    quiet: bool = False
    """Say nothing but errors."""
    dry_run: bool = False
    """Say what would be done, and do nothing."""

    def console(self) -> Console:
        """The console these flags ask for; of several processes the first alone speaks."""
        from genslim.console import SILENT, Console
        from genslim.processes import leads

        if not leads():
            return SILENT
        return Console(quiet=self.quiet, as_json=self.json)


def run_command(group: str, command: Command, arguments: list[str]) -> int:
    """Parse ``arguments`` into the command's parameters and call it."""
    import cyclopts

    place, _, name = command.function.partition(":")
    function = getattr(import_module(place), name)
    shorthands = {**SHORT, **command.shorthands}
    expanded = [word for a in arguments for word in shorthands.get(a, (a,))]
    app = cyclopts.App(
        name=f"{group} {command.name}",
        help=description(function, command),
        help_epilogue=command.epilogue or None,
        help_format="markdown",  # joins the lines of a paragraph; plain text would keep them
        version_flags=[],
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # report_errors has a line for it
        default_parameter=cyclopts.Parameter(negative_iterable=(), show_default=shown_default),
    )
    app["--help"].group = app.group_parameters
    app.default(with_flags(function))
    try:
        status = app(expanded, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        # A check inside a dataclass surfaces wrapped: the user wants the reason alone.
        if isinstance(cause := error.__cause__, GenslimError):
            raise cause from None
        line = " ".join(str(error).split())
        raise UserError(line, hint=f"see {group} {command.name} --help") from None
    return int(status or 0)


def with_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` annotated for cyclopts: fields of its dataclass parameters become flags."""
    from cyclopts import Parameter

    def annotated(parameter: inspect.Parameter, hint: Any) -> inspect.Parameter:
        if hasattr(hint, "__dataclass_fields__"):
            return parameter.replace(annotation=Annotated[hint, Parameter(name="*")])
        return parameter.replace(annotation=hint)

    hints = inspect.get_annotations(function, eval_str=True)
    signature = inspect.signature(function)
    parameters = [annotated(p, hints[n]) for n, p in signature.parameters.items()]

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    call.__doc__ = function.__doc__
    return call


def description(function: Callable[..., Any], command: Command) -> str:
    """The function's docstring up to its list of parameters, and the command's shorthands."""
    text = inspect.getdoc(function) or command.summary
    text = re.split(r"\n\n(?:Parameters\n-+|Args:|Returns:|Raises:)\n", text)[0]
    if command.shorthands:
        pairs = (f"{short} for {' '.join(words)}" for short, words in command.shorthands.items())
        text += f"\n\nShorthands: {', '.join(pairs)}."
    return text


def shown_default(value: Any) -> Any:
    """A default as the help shows it; None where it would say nothing: no flag, no value."""
    return None if value is False or value in ((), "") else value


def report_errors(work: Callable[[], int]) -> int:
    """Run ``work``; turn errors into one line on standard error and the right exit status."""
    try:
        return work()
    except GenslimError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; what was finished before is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader left: head, less
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("GENSLIM_TRACEBACK"):
            traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        file = Path(place.filename).name
        print(
            f"error: a defect in genslim: {type(error).__name__}: {error} "
            f"({file}:{place.lineno}); GENSLIM_TRACEBACK=1 shows where",
            file=sys.stderr,
        )
        return FAILED_UNEXPECTEDLY


def program_version() -> str:
    """The installed version."""
    from importlib.metadata import version

    return version("genslim")
