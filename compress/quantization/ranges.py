"""Between which values activations are rounded: candidates read off one look at the activations.

The whole range that was seen rounds everything coarsely for the sake of a few outliers; a range
that leaves out one value in ten thousand, or the one whose mean squared error is least, may do much
better (Krishnamoorthi 2018, arXiv 1806.08342; Nagel et al. 2021, "A White Paper on Neural Network
Quantization", arXiv 2106.08295, section 3.1). Which of them does is measured on the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.quantization.pairs import LEVELS, Pairs, Range
from compress.quantization.placement import Batches
from genslim.onnx_model import load_model

BINS = 4096


@dataclass
class Histogram:
    """How often values were seen: ``counts`` of ``BINS`` equal bins from ``low`` to ``high``."""

    low: float = 0.0
    high: float = 0.0
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def widen(self, values: NDArray[np.float32]) -> None:
        """Take note of the least and the greatest value."""
        self.low, self.high = min(self.low, values.min()), max(self.high, values.max())

    def count(self, values: NDArray[np.float32]) -> None:
        """Count values within the range that is known by now."""
        if self.high > self.low:
            self.counts += np.histogram(values, BINS, (self.low, self.high))[0]

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        middles: NDArray[np.float64] = (edges[1:] + edges[:-1]) / 2
        return middles

    def whole(self) -> Range:
        """All that was seen."""
        return Range(float(self.low), float(self.high))

    def but(self, share: float) -> Range:
        """All but a share of the values at each end."""
        total = np.cumsum(self.counts) / max(1.0, self.counts.sum())
        low, high = np.searchsorted(total, (share, 1 - share))
        centres = self.centres
        return Range(
            min(0.0, float(centres[min(low, BINS - 1)])),
            max(0.0, float(centres[min(high, BINS - 1)])),
        )

    def least_error(self) -> Range:
        """The range whose mean squared error is least: rounding within and clipping beyond."""
        best, least = self.whole(), float("inf")
        centres, weights = self.centres, self.counts / max(1.0, self.counts.sum())
        shares = np.geomspace(1.0, 0.05, 40)
        lows = self.low * shares if self.low < 0 else np.zeros(1)
        highs = self.high * shares if self.high > 0 else np.zeros(1)
        below = [float((weights * np.minimum(centres - low, 0) ** 2).sum()) for low in lows]
        above = [float((weights * np.maximum(centres - high, 0) ** 2).sum()) for high in highs]
        for low, under in zip(lows, below, strict=True):
            for high, over in zip(highs, above, strict=True):
                error = ((high - low) / LEVELS) ** 2 / 12 + under + over
                if error < least:
                    best, least = Range(float(low), float(high)), error
        return best


CHOICES: Mapping[str, Callable[[Histogram], Range]] = {
    "min-max": Histogram.whole,
    "all but 0.001 %": lambda seen: seen.but(1e-5),
    "all but 0.01 %": lambda seen: seen.but(1e-4),
    "all but 0.1 %": lambda seen: seen.but(1e-3),
    "least squared error": Histogram.least_error,
}
"""Ways to choose a range."""


def histograms(pairs: Pairs, batches: Batches) -> dict[str, Histogram]:
    """What was seen of each group's activations, before any rounding.

    Args:
        pairs: says which tensors are rounded.
        batches: of inputs, by name.

    Returns:
        A histogram for each group whose tensors the original graph has.
    """
    model = load_model(pairs.original)
    made = {name for node in model.graph.node for name in node.output}
    given = {value.name for value in model.graph.input}
    groups = {
        name: [tensor for tensor in tensors if tensor in made | given]
        for name, tensors in pairs.groups.items()
    }
    seen = {name: Histogram() for name, tensors in groups.items() if tensors}
    asked = sorted({t for tensors in groups.values() for t in tensors if t in made})
    run = outputs_of(model, asked)
    for note in (Histogram.widen, Histogram.count):
        for batch in batches:
            values = run(batch) | dict(batch)
            for name, found in seen.items():
                for tensor in groups[name]:
                    note(found, values[tensor])
    return seen


def outputs_of(
    model: Any, names: Sequence[str]
) -> Callable[[Mapping[str, Any]], dict[str, NDArray[np.float32]]]:
    """A function that runs a float graph and gives the tensors named."""
    import onnx
    import onnxruntime

    have = {value.name for value in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in have
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(batch: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        found = session.run(list(names), dict(batch)) if names else []
        return dict(zip(names, found, strict=True))

    return run
