"""Every reference generator, and how it is built and trained: one entry a generator.

``digit-classifier`` stands here too: it is the judge, trained by the same loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from genslim.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from generators.mnist import Digits
    from generators.objective import Objective
    from generators.trainer import Schedule
    from genslim.signature import Signature


@dataclass(frozen=True)
class Entry:
    """One reference network. Modules are named and imported when used: torch is heavy."""

    name: str
    kind: Literal["generator", "judge"]
    summary: str
    module: str
    """Where its class and its ``signature`` live."""
    network: str
    """The class, built without arguments."""
    recipe: str
    """The function ``(test data, seed) -> Objective`` in :mod:`generators.recipes`."""
    epochs: int
    least: dict[str, float]
    """What the shipped weights must reach, by the recipe's own judgement."""

    def build(self) -> nn.Module:
        """The untrained network."""
        network: nn.Module = getattr(import_module(self.module), self.network)()
        return network

    def signature(self) -> Signature:
        """Its contract."""
        signature: Signature = import_module(self.module).signature()
        return signature

    def load(self) -> nn.Module:
        """The trained network with its shipped weights."""
        from generators.shipped import load_shipped

        return load_shipped(self.name)

    def objective(self, test: Digits, seed: int) -> Objective:
        """What its training minimises."""
        make: Callable[[Digits, int], Objective] = getattr(
            import_module("generators.recipes"), self.recipe
        )
        return make(test, seed)

    def schedule(self, seed: int) -> Schedule:
        """How long it trains."""
        from generators.trainer import Schedule

        return Schedule(epochs=self.epochs, seed=seed)


CATALOGUE = (
    Entry(
        "dcgan-mnist",
        "generator",
        "DCGAN, 32x32 handwritten digits from 32 latents",
        "generators.dcgan",
        "Generator",
        "dcgan_mnist",
        epochs=2,
        least={"recognised": 0.90, "least_digit": 0.04},
    ),
    Entry(
        "digit-classifier",
        "judge",
        "convolutional classifier of MNIST digits",
        "generators.digit_classifier",
        "DigitClassifier",
        "digit_classifier",
        epochs=4,
        least={"test_accuracy": 0.99},
    ),
)


def entry(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        UserError: there is none.
    """
    for candidate in CATALOGUE:
        if candidate.name == name:
            return candidate
    raise UserError(
        f"no reference generator called {name!r}",
        hint="there are " + ", ".join(candidate.name for candidate in CATALOGUE),
    )
