"""Recovery by distillation: a damaged generator learns to draw what the original draws.

No data are needed: inputs are drawn from the prior (or cropped from a folder of images), and the
original's images are the targets. The loss is the mean absolute error: after as many steps it
reads a better SSIM than a loss with SSIM in it, whose gradients are noisier, and its steps are
cheaper. The learning rate falls in a line over the time allowed, and starts low enough not to
undo what was fitted in closed form.

The original is much slower than the student, so its images are kept in a pool and used a few
times each, far apart: more steps in the same time.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from genslim.console import SILENT, Console
from genslim.errors import GateFailed
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.metrics import ssim
from genslim.signature import Signature

Batch = dict[str, Tensor]

BETAS = (0.9, 0.99)
"""How long Adam remembers gradients and their squares: briefly, as there are few steps."""
USES = 3
"""How often each of the original's images is learned from, on average."""
BLOCK = 8
"""Batches that the original makes images for at a time."""
MOST_BYTES = 2**28
"""Of images that are kept; the oldest go first."""


def usual_batch(signature: Signature) -> int:
    """Inputs a step: an image holds many positions to learn from, a latent makes one picture."""
    return 4 if signature.takes_images else 32


def usual_validation(signature: Signature) -> int:
    """Inputs that progress is shown on; disjoint from those learned from."""
    return 8 if signature.takes_images else 64


def usual_calibration(signature: Signature) -> int:
    """Inputs that activations are looked at on: crops of images hold many positions each."""
    return 16 if signature.takes_images else 512


@dataclass(frozen=True)
class Recovered:
    """What distillation did."""

    module: nn.Module
    steps: int
    seconds: float
    ssim_before: float
    ssim_after: float
    """Mean SSIM on inputs that were not learned from."""


def distill(
    student: nn.Module,
    teacher: Generator,
    *,
    seconds: float,
    seed: int,
    learning_rate: float = 7e-4,
    batch_size: int | None = None,
    adapt_norms: bool = True,
    least: float = 0.0,
    console: Console = SILENT,
    what: str = "distilling",
) -> Recovered:
    """Fit ``student`` to the images of ``teacher``.

    Args:
        student: changed in place.
        teacher: has a module; the same signature.
        seconds: how long, validation excepted.
        seed: of the inputs.
        learning_rate: at the start; Adam.
        batch_size: inputs a step; :func:`usual_batch` by default.
        adapt_norms: re-estimate the batch norms' statistics first and let them follow the weights
            for half of the time, then train with them as they will be used (Krishnamoorthi 2018,
            arXiv 1806.08342, section 3.2.3); needed after a cut. Where it is False they stay.
        least: the SSIM that is needed. Where at half time the error is still more than twice what
            that allows, the rest is not tried: errors were never seen to halve in that time.
        console: shows progress with the SSIM on unseen inputs.
        what: the bar's title.

    Raises:
        GateFailed: the loss became NaN or infinite.
    """
    signature = teacher.signature
    held = Inputs(signature, "validation", seed).draw(usual_validation(signature))
    expected = in_batches(teacher, held)

    def quality() -> float:
        student.eval()
        images = in_batches(lambda part: run_module(student, signature, part), held)
        return float(ssim(images, expected, data_range=signature.data_range).mean())

    if adapt_norms:
        recalibrate_norms(student, teacher, seed)
    before = after = quality()
    best, kept = before, copy.deepcopy(student.state_dict())
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, learning_rate, BETAS, fused=True)
    spent, step, shown = 0.0, 0, 0.0
    size = batch_size or usual_batch(signature)
    batches = pooled(teacher, Inputs(signature, "recovery", seed), size)
    with console.progress(what, total=seconds) as bar:
        while spent < seconds:
            begun = time.monotonic()
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * max(1e-3, 1 - spent / seconds)
            inputs, images = next(batches)
            train_mode(student, adapt_norms and spent < seconds / 2)
            drawn = run_module(student, signature, inputs)
            loss = l1_loss(drawn, images)
            if not bool(torch.isfinite(loss)):
                raise GateFailed(
                    f"distillation diverged after {step} steps (loss {float(loss)})",
                    hint="lower the ratio, or skip recovery with --recover none",
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            spent += time.monotonic() - begun
            if spent - shown > seconds / 8:
                shown = spent
                if (after := quality()) > best:
                    best, kept = after, copy.deepcopy(student.state_dict())
                if 2 * spent >= seconds and 1 - after > 2 * (1 - least):
                    break
            bar.reach(spent, note=f"SSIM {after:.4f} on unseen inputs")
    if (after := quality()) < best:
        student.load_state_dict(kept)
        after = best
    return Recovered(student.eval(), step, round(spent, 1), before, after)


def pooled(teacher: Generator, inputs: Inputs, batch_size: int) -> Iterator[tuple[Batch, Tensor]]:
    """Batches of inputs and the teacher's images, drawn at random from all that were made so far.

    Each image is used ``USES`` times on average, spread over the whole time: used at once, so few
    images at a time are learned by heart.
    """
    pool: Batch = {}
    images = torch.empty(0)
    while True:
        new = inputs.draw(BLOCK * batch_size)
        made = in_batches(teacher, new, batch_size)
        most = max(len(made), MOST_BYTES // made[0].nbytes)
        images = torch.cat([images, made])[-most:] if len(images) else made
        pool = {k: torch.cat([pool[k], v])[-most:] if pool else v for k, v in new.items()}
        for _ in range(USES * BLOCK):
            index = torch.randint(len(images), (batch_size,))
            yield {name: tensor[index] for name, tensor in pool.items()}, images[index]


@torch.no_grad()
def in_batches(draw: Callable[[Batch], Tensor], inputs: Batch, size: int = 32) -> Tensor:
    """``draw`` on ``inputs``, ``size`` at a time, put together."""
    count = len(next(iter(inputs.values())))
    parts = [
        draw({name: tensor[start : start + size] for name, tensor in inputs.items()})
        for start in range(0, count, size)
    ]
    return torch.cat(parts)


@torch.no_grad()
def recalibrate_norms(student: nn.Module, teacher: Generator, seed: int, batches: int = 8) -> None:
    """Re-estimate the batch norms' statistics, which a cut moved away from what was recorded."""
    norms = [m for m in student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    student.train()
    stream = Inputs(teacher.signature, "calibration", seed)
    for _ in range(batches):
        run_module(student, teacher.signature, stream.draw(32))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    student.eval()


def train_mode(module: nn.Module, adapt_norms: bool) -> None:
    """Training mode, in which batch norms go by the batch only where they may adapt."""
    module.train()
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.train(adapt_norms)
