"""Which layers a step made how precise, what that cost, and how long each takes.

It is what the step itself says: ``compress quantize`` names the layers that it rounded and those
that it left, and with ``--explain`` times each before and after.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measurement import Artifact, Measurement
from bench.tables import rows

ROUNDED = re.compile(r"(?P<layer>.+): (?P<precision>int8|fp16|bf16|fp8|int4)")
"""An entry of a step's ``changed``: ``net.3: int8``."""
FLOAT = "float"


@dataclass(frozen=True)
class Layer:
    """One layer; None: not known."""

    name: str
    precision: str
    ssim_cost: float | None = None
    """What its rounding takes off the SSIM."""
    float_ms: float | None = None
    rounded_ms: float | None = None
    """Milliseconds of one call on the step's target, before and after."""
    reason: str = ""
    """Why it stays in floating point."""

    @property
    def cost(self) -> str:
        """``ssim_cost`` as text."""
        return rows.NOTHING if self.ssim_cost is None else f"{self.ssim_cost:.5f}"

    @property
    def before(self) -> str:
        """``float_ms`` as text."""
        return rows.NOTHING if self.float_ms is None else rows.milliseconds(self.float_ms)

    @property
    def after(self) -> str:
        """``rounded_ms`` as text."""
        return rows.NOTHING if self.rounded_ms is None else rows.milliseconds(self.rounded_ms)

    @property
    def milliseconds(self) -> float | None:
        """Of the layer as it is."""
        return self.float_ms if self.precision == FLOAT else self.rounded_ms


@dataclass(frozen=True)
class LayerTable:
    """The layers of one artifact, in the order of the graph."""

    artifact: str
    layers: tuple[Layer, ...]

    @property
    def counts(self) -> str:
        """``57 int8, 6 float``."""
        found = Counter(layer.precision for layer in self.layers)
        return ", ".join(f"{count} {precision}" for precision, count in found.most_common())

    @property
    def timed(self) -> bool:
        """Whether the step said how long layers take."""
        return any(layer.float_ms is not None for layer in self.layers)

    @property
    def reasons(self) -> bool:
        """Whether any layer stays as it was for a reason."""
        return any(layer.reason for layer in self.layers)

    @property
    def most_ms(self) -> float:
        """The longest time of a layer, for the bars; 1 where none is known."""
        known = [ms for one in self.layers for ms in (one.float_ms, one.rounded_ms) if ms]
        return max(known, default=1.0)


def layer_tables(measurement: Measurement) -> list[LayerTable]:
    """A table for each artifact whose last step says how precise its layers are."""
    found = [LayerTable(a.name, layers_of(a)) for a in measurement.artifacts]
    return [table for table in found if table.layers]


def layers_of(artifact: Artifact) -> tuple[Layer, ...]:
    """The layers that the artifact's last step speaks of; nothing where it names no precision."""
    if artifact.kind != "step" or not artifact.steps:
        return ()
    report = artifact.steps[-1].get("report") or {}
    left = reasons_of(report.get("left") or ())
    told = [row for row in report.get("layers") or () if is_layer(row)]
    if told:
        return tuple(
            Layer(
                str(row["layer"]),
                str(row["precision"]),
                row.get("ssim_cost"),
                row.get("float_ms"),
                row.get("int8_ms"),
                left.get(str(row["layer"]), "") if row["precision"] == FLOAT else "",
            )
            for row in told
        )
    entries = [ROUNDED.fullmatch(str(entry)) for entry in report.get("changed") or ()]
    rounded = [Layer(entry["layer"], entry["precision"]) for entry in entries if entry]
    kept = [Layer(name, FLOAT, reason=reason) for name, reason in left.items()]
    return (*rounded, *kept) if rounded else ()


def is_layer(row: Any) -> bool:
    """Whether an entry of a report's ``layers`` is one of ``--explain``."""
    return isinstance(row, Mapping) and {"layer", "precision"} <= set(row)


def reasons_of(left: Sequence[Any]) -> dict[str, str]:
    """Why each layer stays whole, by its name."""
    return {str(one["what"]): str(one["reason"]) for one in left if isinstance(one, Mapping)}
