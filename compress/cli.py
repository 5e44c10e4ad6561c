"""The ``compress`` program: its commands, as data."""

from __future__ import annotations

from genslim.command import Command, Group

compress = Group(
    "compress",
    "Make a generator smaller or faster. Each step leaves an artifact in the run.",
    (
        Command("prune", "remove channels, and recover by distillation", "compress.commands:prune"),
        Command(
            "shorten",
            "leave out whole blocks, and recover by distillation",
            "compress.commands:shorten",
        ),
        Command(
            "sensitivity",
            "what each group of channels is worth: SSIM against ratio, plotted",
            "compress.commands:sensitivity",
        ),
        Command(
            "separable",
            "swap convolutions for depthwise-separable ones where that is faster",
            "compress.commands:separable",
        ),
        Command(
            "rewrite",
            "exact rewrites of layers where the target is faster for them",
            "compress.commands:rewrite",
        ),
        Command(
            "quantize",
            "INT8 or FP16",
            "compress.commands:quantize",
            shorthands={"--int8": ("--precision", "int8"), "--fp16": ("--precision", "fp16")},
        ),
    ),
)
