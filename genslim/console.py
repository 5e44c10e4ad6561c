"""The one way anything is said to a person: progress, tables, notes; and to a program: JSON.

With ``--json`` everything for people goes to standard error, and standard output holds one line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.console
    import rich.progress


class Progress:
    """A bar with the time left; silent when nobody watches."""

    def __init__(self, bar: rich.progress.Progress | None, total: float | None) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total, note="") if bar else None

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """``amount`` more is done; ``note`` stands beside the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=amount, note=note)

    def reach(self, done: float, *, note: str = "") -> None:
        """``done`` of the total is done; ``note`` stands beside the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)


class Console:
    """Where a command writes. ``Console(quiet=True)`` is what the Python API uses."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self._rich: rich.console.Console | None = None
        self.started = time.monotonic()

    @property
    def rich(self) -> rich.console.Console:
        """The rich console, made when first needed: importing rich takes 0.2 s."""
        if self._rich is None:
            import rich.console

            self._rich = rich.console.Console(
                file=sys.stderr if self.as_json else sys.stdout,
                quiet=self.quiet,
                highlight=False,
                soft_wrap=True,
            )
        return self._rich

    def info(self, line: str) -> None:
        """One line, as it is."""
        if not self.quiet:
            self.rich.print(line, markup=False)

    def warn(self, line: str) -> None:
        """One line that deserves attention; shown on standard error even when quiet."""
        print(f"warning: {line}", file=sys.stderr)

    def heading(self, line: str) -> None:
        """The start of a part."""
        if not self.quiet:
            self.rich.print(f"\n[bold cyan]{line}[/]")

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        title: str = "",
        numbers: bool = True,
    ) -> None:
        """A table; every column but the first is right-aligned where it holds numbers."""
        if self.quiet:
            return
        from rich import box
        from rich.table import Table

        table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
        for index, name in enumerate(columns):
            table.add_column(name, justify="right" if numbers and index else "left")
        for row in rows:
            table.add_row(*row)
        self.rich.print(table)

    def finish(self, facts: Mapping[str, Any], *, wrote: str | None, following: str | None) -> None:
        """The end of a command: what was written, what to do next, and the JSON line if asked."""
        if wrote:
            self.info(f"wrote {wrote}")
        if following:
            self.info(f"next: {following}")
        if self.as_json:
            print(json.dumps({**facts, "wrote": wrote}, allow_nan=False), flush=True)

    @contextmanager
    def progress(self, what: str, total: float | None = None) -> Iterator[Progress]:
        """A progress bar with the time left, on a terminal; nothing where output is captured."""
        if self.quiet or not self.rich.is_terminal:
            yield Progress(None, total)
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        with Bar(
            TextColumn(what),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.rich,
            transient=True,
        ) as bar:
            yield Progress(bar, total)


SILENT = Console(quiet=True)
"""Says nothing."""
