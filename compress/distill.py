"""Recovery by distillation: a damaged generator learns to draw what the original draws.

No data are needed: inputs are drawn from the prior (or cropped from a folder of images), and the
original's images are the targets (:mod:`compress.pool`). The loss is the mean absolute error, and
SSIM as well where a generator takes images (Zhao et al. 2017, "Loss Functions for Image
Restoration with Neural Networks", IEEE TCI 3(1)). The learning rate falls over the time allowed,
and starts low enough not to undo what was fitted in closed form.

It runs on the device that accelerate finds, and on several where a launcher started several
processes (:mod:`genslim.processes`): each learns from its own inputs, all end with the same
weights. What was interrupted goes on where it stopped (:mod:`compress.checkpoint`).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from compress.batches import (
    Batch,
    in_batches,
    usual_batch,
    usual_rate,
    usual_structure,
    usual_validation,
)
from compress.checkpoint import Checkpoint, Saved, hash_of, load_state, state_of
from compress.norms import recalibrate_norms, train_mode
from compress.plan import Plan, Schedule
from compress.pool import Pool
from compress.watched import Watched
from genslim import processes
from genslim.console import SILENT, Console
from genslim.errors import GateFailed, GenslimError
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs, stream_seed
from genslim.interruption import Interruption, held
from genslim.metrics import ssim

LAYOUT = torch.channels_last
"""Of weights, while they learn: convolutions pass it on to what they make. A step of x4plus-anime
took 0.62 of the time in bf16 with AMX and 0.87 in float32; of the shipped DCGAN 0.89 and 1.03."""
LOOKS = 8
"""How often progress is shown and the best kept."""
SAVE_EVERY = 10.0
"""Seconds from one checkpoint to the next, at least."""
SAVE_SHARE = 0.05
"""Of the time that writing checkpoints may take."""


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
    seconds: float | None = None,
    steps: int | None = None,
    seed: int,
    learning_rate: float | None = None,
    schedule: Schedule = "linear",
    features: Mapping[str, Tensor | None] | None = None,
    feature_weight: float = 0.1,
    structure_weight: float | None = None,
    batch_size: int | None = None,
    adapt_norms: bool = True,
    least: float = 0.0,
    checkpoint: Checkpoint | None = None,
    console: Console = SILENT,
    what: str = "distilling",
) -> Recovered:
    """Fit ``student`` to the images of ``teacher``.

    Args:
        student: changed in place; on the CPU before and after.
        teacher: has a module; the same signature.
        seconds: how long, looks at the quality excepted. Either this or ``steps``.
        steps: how many steps.
        seed: of the inputs.
        learning_rate: the highest, after a short rise; Adam. :func:`usual_rate` by default.
        schedule: how the learning rate falls to a thousandth. After as long a time, linear read a
            better SSIM than cosine.
        features: names of modules in both whose outputs are to agree as well; with each, the
            teacher's channels that the student still has, int64, or None for all.
        feature_weight: of the features' error, relative to what the teacher makes there.
        structure_weight: of 1 - SSIM, beside the absolute error as a part of the value range;
            :func:`usual_structure` by default.
        batch_size: inputs a step and process; :func:`usual_batch` by default.
        adapt_norms: re-estimate the batch norms' statistics first and let them follow the weights
            for half of the time, then train with them as they will be used (Krishnamoorthi 2018,
            arXiv 1806.08342, section 3.2.3); needed after a cut. Where it is False they stay.
        least: the SSIM that is needed. Where at half time the error is still more than twice what
            that allows, the rest is not tried: errors were never seen to halve in that time.
        checkpoint: where to keep what is needed to go on after an interruption; removed when done.
        console: shows progress with the SSIM on unseen inputs.
        what: the bar's title.

    Raises:
        GateFailed: the loss became NaN or infinite.
    """
    assert (seconds is None) != (steps is None), "either seconds or steps"
    assert (seconds or steps or 0) > 0
    plan = Plan(
        seconds=seconds,
        steps=steps,
        seed=seed,
        learning_rate=learning_rate or usual_rate(teacher.signature),
        schedule=schedule,
        feature_weight=feature_weight if features else 0.0,
        structure_weight=(
            usual_structure(teacher.signature) if structure_weight is None else structure_weight
        ),
        batch_size=batch_size or usual_batch(teacher.signature),
        adapt_norms=adapt_norms,
        least=least,
    )
    work = Distillation(
        student,
        teacher,
        plan,
        features=features or {},
        checkpoint=checkpoint,
        console=console,
    )
    try:
        return work.run(what)
    finally:
        student.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        student.eval()


class Distillation:
    """One call of :func:`distill`."""

    def __init__(
        self,
        student: nn.Module,
        teacher: Generator,
        plan: Plan,
        *,
        features: Mapping[str, Tensor | None],
        checkpoint: Checkpoint | None,
        console: Console,
    ) -> None:
        assert teacher.module is not None
        self.student, self.teacher, self.plan = student, teacher, plan
        self.features, self.checkpoint, self.console = features, checkpoint, console
        self.step, self.spent, self.shown = 0, 0.0, 0.0
        if plan.adapt_norms:
            recalibrate_norms(student, teacher, plan.seed)
        signature = teacher.signature
        watched = Watched(student, signature, dict.fromkeys(features))
        self.accelerator = processes.accelerator(
            idle_weights=processes.count() > 1 and has_idle_weights(watched)
        )
        self.device: torch.device = self.accelerator.device
        student.to(self.device, memory_format=LAYOUT)  # type: ignore[call-overload]
        parameters = [p for p in student.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(parameters, plan.learning_rate, fused=True)
        self.pupil, self.optimiser = self.accelerator.prepare(watched, self.adam)
        # A copy: the caller's own stays where it is, and as it is.
        self.original = copy.deepcopy(teacher.module)
        self.original.to(self.device, memory_format=LAYOUT)  # type: ignore[call-overload]
        rank = self.accelerator.process_index
        own = stream_seed(f"process {rank}", plan.seed) if rank else plan.seed
        self.pool = Pool(
            self.targets_of(Watched(self.original, signature, features)),
            Inputs(signature, "recovery", own),
            plan.batch_size,
            self.device,
        )
        unseen = Inputs(signature, "validation", plan.seed).draw(usual_validation(signature))
        self.unseen = {name: tensor.to(self.device) for name, tensor in unseen.items()}
        self.expected = in_batches(
            lambda part: run_module(self.original, signature, part), self.unseen
        )
        self.before = self.after = self.best = 0.0
        self.kept: dict[str, Tensor] = {}
        self.saved_at, self.pause = time.monotonic(), SAVE_EVERY

    def targets_of(self, original: Watched) -> Callable[[Batch], list[Tensor]]:
        """What is learned from: float32, but computed as the student's images are.

        bf16's rounding moves an image's SSIM by 0.0002, which a student that rounds less would see.
        """

        def targets(inputs: Batch) -> list[Tensor]:
            with self.accelerator.autocast():
                return [made.float() for made in original(inputs)]

        return targets

    @property
    def share(self) -> float:
        """How much of the work is done."""
        return self.plan.share(self.step, self.spent)

    def run(self, what: str) -> Recovered:
        """All of it, from the start or from where it was interrupted."""
        if self.resume():
            self.console.info(f"going on after {self.step:,} steps that were interrupted")
        else:
            self.before = self.after = self.best = self.quality()
            self.kept = copy.deepcopy(self.student.state_dict())
        total = self.plan.steps or self.plan.seconds
        # Without a checkpoint there is nothing to wait for.
        signals = held() if self.checkpoint else nullcontext(Interruption())
        with signals as interruption, self.console.progress(what, total) as bar:
            while self.share < 1:
                self.take_step(interruption)
                if self.share - self.shown > 1 / LOOKS and self.hopeless():
                    break
                note = f"SSIM {self.after:.4f} on unseen inputs"
                bar.reach(self.step if self.plan.steps else self.spent, note=note)
                if interruption.number or time.monotonic() - self.saved_at > self.pause:
                    self.save()
                if interruption.number:
                    if self.checkpoint:
                        self.console.info("the same command goes on from here")
                    interruption.deliver(interruption.number)
        self.after = self.quality()
        if self.after < self.best:
            self.student.load_state_dict(self.kept)
            self.after = self.best
        self.forget()
        return Recovered(self.student, self.step, round(self.spent, 1), self.before, self.after)

    def take_step(self, interruption: Interruption) -> None:
        """Learn from one batch, and agree with the other processes on time and interruptions."""
        begun = time.monotonic()
        for group in self.adam.param_groups:
            group["lr"] = self.plan.rate(self.share, self.step)
        inputs, targets = self.pool.next()
        train_mode(self.student, self.plan.adapt_norms and self.share < 1 / 2)
        images, *made = self.pupil(inputs)
        loss = self.error(images, targets[0])
        for feature, target in zip(made, targets[1:], strict=True):
            scale = self.plan.feature_weight / len(made)
            loss = loss + scale * l1_loss(feature, target) / target.abs().mean()
        self.optimiser.zero_grad()
        self.accelerator.backward(loss)
        self.optimiser.step()
        value = float(loss.detach())
        self.step += 1
        self.spent += time.monotonic() - begun
        diverged = not math.isfinite(value)
        if self.accelerator.num_processes > 1:
            mine = [[self.spent, float(diverged), float(interruption.number)]]
            all_of_them = self.accelerator.gather(torch.tensor(mine, device=self.device))
            self.spent = float(all_of_them[0, 0])
            diverged = bool(all_of_them[:, 1].any())
            interruption.number = int(all_of_them[:, 2].max())
        if diverged:
            self.forget()
            raise GateFailed(
                f"distillation diverged after {self.step} steps (loss {value})",
                hint="lower the ratio, or skip recovery with --recover none",
            )

    def error(self, images: Tensor, targets: Tensor) -> Tensor:
        """How far ``(N, C, H, W)`` images are from those they should be, in the images' units."""
        error = l1_loss(images, targets)
        if weight := self.plan.structure_weight:
            width = self.teacher.signature.data_range
            likeness = ssim(images.float(), targets, data_range=width).mean()
            error = error + weight * width * (1 - likeness)
        return error

    def hopeless(self) -> bool:
        """Look at the quality, keep the best, and say whether the rest is not worth trying."""
        self.shown = self.share
        self.after = self.quality()
        if self.after > self.best:
            self.best, self.kept = self.after, copy.deepcopy(self.student.state_dict())
        return 2 * self.share >= 1 and 1 - self.after > 2 * (1 - self.plan.least)

    def quality(self) -> float:
        """Mean SSIM on unseen inputs, as the first process reads it."""
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            # Each process's batch norms followed its own inputs since the last step began.
            for buffer in self.student.buffers():
                buffer.copy_(broadcast(buffer))
        self.student.eval()
        signature = self.teacher.signature
        images = in_batches(lambda part: run_module(self.student, signature, part), self.unseen)
        figures = ssim(images, self.expected, data_range=signature.data_range)
        return processes.agreed(float(figures.mean()))

    @cached_property
    def fingerprint(self) -> str:
        """Of what decides how this goes: a checkpoint with another one is for something else.

        Of the student only the architecture: where it starts from follows from what made it,
        which is the checkpoint's purpose, and may differ in the last bits.
        """
        facts = {
            "plan": asdict(self.plan),
            "signature": self.teacher.signature.to_json(),
            "student": repr(self.student),
            "processes": self.accelerator.num_processes,
        }
        features = {name: t for name, t in self.features.items() if t is not None}
        names = {f"feature {name}": torch.tensor(0) for name in self.features}
        return hash_of(facts, {**self.original.state_dict(), **names, **features})

    def save(self) -> None:
        """Write the checkpoint, where one is wanted and this process is the one that writes."""
        if self.checkpoint is not None and processes.leads():
            begun = time.monotonic()
            figures = {name: getattr(self, name) for name in FIGURES}
            saved = Saved(figures, {"random": torch.get_rng_state()})
            saved.put("student", self.student.state_dict())
            saved.put("best", self.kept)
            saved.put("adam", state_of(self.adam))
            try:
                self.checkpoint.write(self.fingerprint, saved)
            except GenslimError as error:  # a full disk: the work itself may still be finished
                self.console.warn(f"no checkpoint: {error}")
                self.checkpoint = None
            self.pause = max(SAVE_EVERY, (time.monotonic() - begun) / SAVE_SHARE)
        self.saved_at = time.monotonic()

    def resume(self) -> bool:
        """Go back to where a checkpoint was written; False where there is none for this."""
        saved = None
        if self.checkpoint is not None and processes.leads():
            saved = self.checkpoint.read(self.fingerprint, self.console)
        saved = processes.agreed(saved)
        if saved is None:
            return False
        self.student.load_state_dict(saved.part("student"))
        self.kept = {name: t.to(self.device) for name, t in saved.part("best").items()}
        load_state(self.adam, saved.part("adam"))
        torch.set_rng_state(saved.tensors["random"])
        for name in FIGURES:
            setattr(self, name, saved.figures[name])
        self.pool.skip(self.step)
        return True

    def forget(self) -> None:
        """Remove the checkpoint: it is for nothing any more."""
        if self.checkpoint is not None and processes.leads():
            self.checkpoint.remove()


def has_idle_weights(watched: Watched) -> bool:
    """Whether a generator holds weights that neither its images nor its features depend on."""
    watched.eval()
    inputs = Inputs(watched.signature, "calibration").draw(1)
    made = torch.stack([tensor.sum() for tensor in watched(inputs)]).sum()
    parameters = [p for p in watched.parameters() if p.requires_grad]
    return any(g is None for g in torch.autograd.grad(made, parameters, allow_unused=True))


FIGURES = ("step", "spent", "shown", "before", "after", "best")
"""What a checkpoint holds of a :class:`Distillation` beside its tensors."""
