"""Recovery block by block: each block of a cut network learns to make the original's features.

A block with its nonlinearities, fitted to what the original's block makes, does better than its
layers one by one, whose errors add up (arXiv 2510.14444), and its steps are many times cheaper
than those of the whole network: gradients go through one block. All blocks are fitted while the
network runs once, each on what the blocks before it really give.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from compress.batches import usual_batch, usual_rate
from compress.hooks import hooked
from compress.norms import train_mode
from compress.observation import PRODUCTS
from compress.plan import height
from genslim.console import SILENT, Console
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

IMAGES = 32
"""Inputs that blocks are fitted on: crops of images, or eight times as many latents."""


def blocks_of(student: nn.Module, teacher: Generator, cut: Mapping[str, Tensor]) -> list[str]:
    """The smallest modules that lost inner channels and kept the outer ones.

    They hold two products or more, run once, and take one tensor and give one.

    Args:
        student: the pruned module.
        teacher: the original; has a module.
        cut: the layers that lost output channels.
    """
    assert teacher.module is not None
    candidates = []
    for name, block in student.named_modules():
        inside = [n for n, layer in block.named_modules() if n and isinstance(layer, PRODUCTS)]
        if name and len(inside) > 1 and any(f"{name}.{n}" in cut for n in inside):
            candidates.append(name)
    one = Inputs(teacher.signature, "recovery").draw(1)
    theirs = shapes_seen(teacher.module, candidates, teacher, one)
    ours = shapes_seen(student, candidates, teacher, one)
    whole = [n for n in candidates if n in theirs and ours.get(n) == theirs[n]]
    return [n for n in whole if not any(m.startswith(f"{n}.") for m in whole)]


@torch.no_grad()
def shapes_seen(
    module: nn.Module, names: list[str], generator: Generator, inputs: Mapping[str, Tensor]
) -> dict[str, tuple[torch.Size, torch.Size]]:
    """The shapes of what goes into modules and comes out, where that is one tensor each, once."""
    found: dict[str, list[tuple[torch.Size, torch.Size] | None]] = {name: [] for name in names}

    def note(name: str, args: tuple[object, ...], out: object) -> None:
        given = args[0] if len(args) == 1 else None
        if isinstance(given, Tensor) and isinstance(out, Tensor):
            found[name].append((given.shape, out.shape))
        else:
            found[name].append(None)

    hooked(module, names, generator, inputs, after=note)
    return {n: seen[0] for n, seen in found.items() if len(seen) == 1 and seen[0] is not None}


@torch.no_grad()
def fit_blocks(
    student: nn.Module,
    teacher: Generator,
    names: list[str],
    *,
    seconds: float,
    seed: int,
    console: Console = SILENT,
) -> None:
    """Fit blocks of ``student``, in place.

    Args:
        student: the pruned module, refitted.
        teacher: what it was pruned from; has a module.
        names: of the blocks, from :func:`blocks_of`; at least one.
        seconds: how long altogether, beside two runs of the networks.
        seed: of the inputs.
        console: shows progress.
    """
    assert teacher.module is not None
    signature = teacher.signature
    count = IMAGES * (1 if signature.takes_images else 8)
    inputs = Inputs(signature, "recovery", seed).draw(count)
    wanted: dict[str, Tensor] = {}

    def keep(name: str, args: tuple[object, ...], out: object) -> None:
        assert isinstance(out, Tensor)
        wanted[name] = out.clone()

    hooked(teacher.module, names, teacher, inputs, after=keep)
    fit = partial(
        fit_block,
        seconds=seconds / len(names),
        batch_size=usual_batch(signature),
        learning_rate=usual_rate(signature),
        random=torch.Generator().manual_seed(seed),
    )
    with console.progress("fitting blocks", len(names)) as bar:

        def fit_now(name: str, args: tuple[object, ...]) -> None:
            (given,) = args
            assert isinstance(given, Tensor)
            fit(student.get_submodule(name), given, wanted.pop(name))
            bar.advance(note=name)

        hooked(student, names, teacher, inputs, before=fit_now)


@torch.no_grad()
def step_seconds(student: nn.Module, teacher: Generator) -> float:
    """About how long a step of distillation of the whole takes: backwards is twice forwards."""
    assert teacher.module is not None
    signature = teacher.signature
    inputs = Inputs(signature, "recovery").draw(usual_batch(signature))
    times = []
    for module in (student, teacher.module):
        started = time.monotonic()
        run_module(module, signature, inputs)
        times.append(time.monotonic() - started)
    return 3 * times[0] + times[1]


def fit_block(
    block: nn.Module,
    given: Tensor,
    wanted: Tensor,
    *,
    seconds: float,
    batch_size: int,
    learning_rate: float,
    random: torch.Generator,
) -> None:
    """Let ``block`` make ``wanted`` of ``given``: Adam, its rate as in distillation."""
    calling = block._forward_pre_hooks.copy()
    block._forward_pre_hooks.clear()  # among them the one that called this
    parameters = [p for p in block.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, learning_rate, fused=True)
    scale = float(wanted.abs().mean()) + 1e-12
    train_mode(block, adapt_norms=False)
    step, started = 0, time.monotonic()
    with torch.enable_grad():
        while (share := (time.monotonic() - started) / seconds) < 1:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * height(share, step)
            step += 1
            index = torch.randint(len(given), (min(batch_size, len(given)),), generator=random)
            loss = l1_loss(block(given[index]), wanted[index]) / scale
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    block.eval()
    block._forward_pre_hooks.update(calling)
