"""Steps that make a generator smaller or faster: generator in, generator out.

Read first: :mod:`compress.step`. The step modules are plain dataclasses; the mathematics behind
them is imported when a step is applied.
"""

from compress.prune import Prune
from compress.quantize import Quantize
from compress.rewrite import Rewrite
from compress.separable import Separable
from compress.shorten import Shorten
from compress.step import Outcome, Step

STEPS: tuple[type[Step], ...] = (Prune, Shorten, Separable, Rewrite, Quantize)
"""Every step, in the order in which they are usually taken."""

__all__ = ["STEPS", "Outcome", "Prune", "Quantize", "Rewrite", "Separable", "Shorten", "Step"]
