"""What a step is: generator in, generator out, with promises kept by the base class.

A subclass is a frozen dataclass: its fields are the Python API, the command's flags and the JSON
in the artifact. It implements :meth:`Step.apply` and nothing else. The base class checks the
generator before, checks the result after (same signature, finite and not blank, the input left
as it was), and puts the record of what happened into the result.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from genslim.console import SILENT, Console
from genslim.errors import GateFailed, GenslimError, UserError
from genslim.target import Target

if TYPE_CHECKING:
    from torch import Tensor

    from genslim.generator import Generator

PROBES = 4
"""Inputs that a result is tried on before it is given back."""


@dataclass
class Outcome:
    """What :meth:`Step.apply` gives back."""

    changes: dict[str, Any]
    """Fields of the generator to replace: ``module`` or ``onnx``."""
    changed: list[str] = field(default_factory=list)
    """What was changed, a line each."""
    left: list[dict[str, str]] = field(default_factory=list)
    """What was left whole: ``{"what": …, "reason": …}``."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Everything else worth keeping: SSIM before and after recovery, seconds, latencies."""
    failure: str = ""
    """Why the result is not good enough; empty where it is."""


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One change to a generator."""

    name: ClassVar[str]
    remedy: ClassVar[str] = "ask for less"
    """What to do about a result that is not good enough."""

    seed: int = 0
    """Seed of every random choice and of the inputs that the step is fitted on."""
    target: str = "openvino"
    """Where it will run: RUNTIME[:batch=N,threads=N,precision=auto|fp32|bf16,device=cpu|cuda]."""

    def __call__(
        self, generator: Generator, console: Console = SILENT, *, checkpoint: Path | None = None
    ) -> Generator:
        """Apply the step.

        Args:
            generator: left as it is.
            console: told about progress.
            checkpoint: a file in which long work is kept, so that the same step on the same
                generator goes on where it was interrupted; gone when the work is done.

        Returns:
            A new generator with the same signature and one more record.

        Raises:
            UserError: the step can't do what was asked of this generator.
            GateFailed: the result is not good enough; the error holds it.
        """
        import torch

        from compress.checkpoint import kept_at
        from genslim.generator import StepRecord
        from genslim.size import size_of

        self.check(generator)
        torch.manual_seed(self.seed)
        before = size_of(generator)
        started = time.monotonic()
        # Within a run, an artifact's name and the step's parameters say what work this is.
        parent = generator.path.name if generator.path else generator.name
        with kept_at(checkpoint, f"{self} of {parent}"):
            outcome = self.apply(generator, console)
        report = {
            "changed": outcome.changed,
            "left": outcome.left,
            **outcome.figures,
            "seconds": round(time.monotonic() - started, 1),
        }
        record = StepRecord(self.name, asdict(self), report)
        result = generator.with_step(record, **outcome.changes)
        self.verify(generator, result)
        after = size_of(result)
        report |= {
            "parameters": [before.parameters, after.parameters],
            "macs": [before.macs, after.macs],
        }
        if outcome.failure:
            raise GateFailed(outcome.failure, hint=self.remedy, kept=result)
        return result

    @abstractmethod
    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Do the work on a copy of the generator's module."""

    def check(self, generator: Generator) -> None:
        """Check what was asked and what it is asked of; subclasses add to it.

        Raises:
            UserError: a parameter is out of its range, or the generator is not sound.
        """
        from genslim.generator import check_finite
        from genslim.runtimes import runtime

        runtime(self.settled_target(generator).runtime).require()
        if generator.signature.needs_images:
            raise UserError(
                f"{generator.label} takes images, and no folder was named",
                hint="name one: --images DIR",
            )
        if generator.module is not None:
            check_finite(generator.module)

    def settled_target(self, generator: Generator) -> Target:
        """The target with its batch and threads filled in."""
        return Target.parse(self.target).settled(generator.signature)

    def ssim_of(self, generator: Generator) -> float:
        """Mean SSIM to the original on inputs that nothing is fitted on, on the target."""
        from compress.batches import usual_validation
        from genslim.inputs import Inputs
        from genslim.metrics import ssim

        count = usual_validation(generator.signature)
        inputs = Inputs(generator.signature, "validation", self.seed).draw(count)
        target = self.settled_target(generator)
        # An original that is a graph is computed as it is: the target might do so in bf16.
        exact = Target("onnxruntime", target.batch, target.threads)
        expected = images_of(generator.original, inputs, exact)
        images = images_of(generator, inputs, target)
        return float(ssim(images, expected, data_range=generator.signature.data_range).mean())

    def verify(self, before: Generator, after: Generator) -> None:
        """Raise GenslimError where the result broke a promise that every step makes."""
        import torch

        from genslim.inputs import Inputs

        assert after.signature == before.signature
        if after.module is not None and before.module is not None:
            ours = {p.data_ptr() for p in before.module.parameters()}
            if any(p.data_ptr() in ours for p in after.module.parameters()):
                raise GenslimError(f"{self.name} shares weights with its input")
        inputs = Inputs(before.signature, "validation", self.seed).draw(PROBES)
        expected = images_of(before, inputs, self.settled_target(before))
        images = images_of(after, inputs, self.settled_target(after))
        if images.shape != expected.shape:
            shapes = f"{list(expected.shape)} to {list(images.shape)}"
            raise GenslimError(f"{self.name} changed the output from {shapes}")
        if not bool(torch.isfinite(images).all()):
            raise GenslimError(f"{self.name} made outputs that are NaN or infinite")
        if float(images.std()) < 1e-3 * float(expected.std()):
            raise GenslimError(f"{self.name} made blank outputs")


def images_of(generator: Generator, inputs: Mapping[str, Tensor], target: Target) -> Tensor:
    """The generator's images: by its module where it has one, else on the target's runtime."""
    import torch

    from genslim.runtimes import runtime

    if generator.onnx is None:
        return generator(inputs)
    with runtime(target.runtime).open(generator, target) as session:
        outputs = session.run({name: tensor.numpy() for name, tensor in inputs.items()})
    return torch.from_numpy(outputs[generator.signature.images.name])
