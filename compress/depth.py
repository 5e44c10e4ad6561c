"""Which blocks of a network are missed least: a greedy choice of those that become identities.

A block takes one tensor and gives one of the same shape, so that leaving it out leaves a network;
where the code around it adds the block's input to its output, that network is already close. Each
time the block goes whose absence adds the least squared error to the images for what it saves.
Blocks inside blocks compete with them.

An absence costs more the more blocks are gone, so that a cost read earlier bounds a later one from
below, nearly: costs are read again from the least on, until the least one is fresh (Minoux 1978,
"Accelerated greedy algorithms for maximizing submodular set functions").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compress.blockwise import shapes_seen
from compress.observation import PRODUCTS
from compress.patterns import matching
from genslim.console import SILENT, Console
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

Measure = Literal["macs", "params"]

IMAGES = 4
"""Inputs that errors are read on: crops of images, or sixteen times as many latents."""


class Depth:
    """A generator's module, and the blocks that were taken out of it so far.

    Args:
        generator: has a module; it is left as it is.
        of: what a block's size is counted in.
        keep: patterns of modules that stay, with all that holds them.
        seed: of the inputs that errors are read on.
        console: shows progress.
    """

    @torch.no_grad()
    def __init__(
        self,
        generator: Generator,
        *,
        of: Measure = "macs",
        keep: Sequence[str] = (),
        seed: int = 0,
        console: Console = SILENT,
    ) -> None:
        assert generator.module is not None
        self.generator, self.of, self.console = generator, of, console
        self.module = copy.deepcopy(generator.module).eval()
        count = IMAGES * (1 if generator.signature.takes_images else 16)
        self.inputs = Inputs(generator.signature, "calibration", seed).draw(count)
        self.expected = self.images()
        self.error = 0.0
        """Mean squared, of the images without the blocks that are gone."""
        self.blocks = [
            name
            for name in blocks_of(self.module, generator)
            if not any(inside(kept, name) for kept in matching(self.module, keep))
        ]
        """What may go, outer blocks before those inside them."""
        self.whole = self.sizes()[""]
        self.removed: list[str] = []

    @torch.no_grad()
    def images(self) -> Tensor:
        """What the module makes as it is now, ``(N, C, H, W)``."""
        return run_module(self.module, self.generator.signature, self.inputs)

    def error_now(self) -> float:
        """The mean squared error of the images that the module makes as it is now."""
        return float((self.images() - self.expected).square().mean())

    def sizes(self) -> dict[str, int]:
        """MACs of one input, or parameters, of each block as it is now, and of all under ``""``."""
        if self.of == "params":
            return {
                name: sum(p.numel() for p in self.module.get_submodule(name).parameters())
                for name in ("", *self.blocks)
            }
        one = {name: tensor[:1] for name, tensor in self.inputs.items()}
        with FlopCounterMode(display=False) as counter:
            run_module(self.module, self.generator.signature, one)
        counts = {name: sum(by.values()) // 2 for name, by in counter.get_flop_counts().items()}
        root = type(self.module).__name__
        return {
            name: counts.get(f"{root}.{name}" if name else "Global", 0)
            for name in ("", *self.blocks)
        }

    @torch.no_grad()
    def cut(self, ratio: float) -> None:
        """Take blocks out until no other fits into ``ratio`` of the whole."""
        costs = dict.fromkeys(self.blocks, 0.0)
        with self.console.progress("choosing blocks", ratio) as bar:
            while True:
                sizes = self.sizes()
                gone = 1 - sizes[""] / self.whole
                room = ratio * self.whole - (self.whole - sizes[""])
                open_ = [n for n in self.blocks if 0 < sizes[n] <= room]
                if not open_:
                    break
                chosen = self.cheapest({n: sizes[n] for n in open_}, costs)
                self.take_out(chosen)
                bar.reach(min(ratio, gone + sizes[chosen] / self.whole), note=chosen)

    def cheapest(self, sizes: Mapping[str, int], costs: dict[str, float]) -> str:
        """The block of least cost; ``costs`` are those known, and are brought up to date."""
        fresh: set[str] = set()
        while True:
            name = min(sizes, key=lambda n: costs[n])
            if name in fresh:
                return name
            costs[name] = self.cost(name, sizes[name])
            fresh.add(name)

    def cost(self, name: str, size: int) -> float:
        """What leaving the block out adds to the images' squared error, for each unit it saves."""
        block = self.module.get_submodule(name)
        self.module.set_submodule(name, nn.Identity(), strict=True)
        try:
            added = self.error_now() - self.error
        finally:
            self.module.set_submodule(name, block, strict=True)
        return added / size if math.isfinite(added) else math.inf

    def take_out(self, name: str) -> None:
        """Leave a block out for good; what was taken out inside it goes with it."""
        self.module.set_submodule(name, nn.Identity(), strict=True)
        self.error = self.error_now()
        self.removed = [*(n for n in self.removed if not inside(n, name)), name]
        self.blocks = [n for n in self.blocks if not inside(n, name)]


def blocks_of(module: nn.Module, generator: Generator) -> list[str]:
    """Modules with a product inside that run once and give one tensor as large as the one taken."""
    names = [
        name
        for name, block in module.named_modules()
        if name and any(isinstance(layer, PRODUCTS) for layer in block.modules())
    ]
    one = Inputs(generator.signature, "calibration").draw(1)
    seen = shapes_seen(module, names, generator, one)
    return [name for name in names if name in seen and seen[name][0] == seen[name][1]]


def inside(name: str, block: str) -> bool:
    """Whether a module is the block, or lies in it."""
    return name == block or name.startswith(f"{block}.")
