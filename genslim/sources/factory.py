"""``package.module:factory``: a function of the user's that returns the module.

Its inputs are told by ``--input``, its weights by ``--weights``. The one source that is code:
naming it runs it, and so does opening an artifact of it, which looks the name up on this machine
again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genslim.errors import UserError
from genslim.generator import Generator, run_module
from genslim.signature import BATCH, Images, Input, Output, Prior, Signature
from genslim.sources.base import Source, SourceOptions
from genslim.sources.weights import first_line, parse_shape, read_state


class Factory(Source):
    """A module that the user's own code builds."""

    kind = "factory"
    example = "package.module:factory"

    def claims(self, text: str) -> bool:
        """Two dotted names with a colon between."""
        module, colon, factory = text.partition(":")
        return (
            bool(colon)
            and factory.isidentifier()
            and all(p.isidentifier() for p in module.split("."))
        )

    def open(self, text: str, options: SourceOptions) -> Generator:
        """Call the factory, load the weights, and try it once to learn its outputs."""
        module = call_factory(text)
        if options.weights:
            try:
                module.load_state_dict(read_state(Path(options.weights)))
            except RuntimeError as error:
                reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
                raise UserError(
                    f"{options.weights} does not fit {text}: {reason}",
                    hint="name weights of this architecture",
                ) from error
        signature = signature_by_trial(module, text, options)
        return Generator(
            text.partition(":")[2], signature, {"kind": self.kind, "name": text}, module
        )

    def build(self, record: Mapping[str, Any]) -> nn.Module:
        """The factory's module again."""
        return call_factory(record["name"])


def call_factory(text: str) -> nn.Module:
    """The module that ``package.module:factory`` returns, in evaluation mode.

    The working folder is searched last, so that a project's own code is found without being
    installed and can hide nothing that is.

    Raises:
        UserError: it can't be imported, called without arguments, or returns no module.
    """
    place, _, name = text.partition(":")
    if place.partition(".")[0] in sys.stdlib_module_names:
        raise UserError(
            f"{text} is in Python's standard library, where no generators are",
            hint="name your own package.module:factory",
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = getattr(import_module(place), name)()
    except Exception as error:  # whatever the user's code raises is about that code
        raise UserError(
            f"can't get a module from {text}: {type(error).__name__}: {first_line(error)}",
            hint="name a function without required arguments in an importable module",
        ) from error
    if not isinstance(module, nn.Module):
        raise UserError(f"{text} returned {type(module).__name__}", hint="return a torch.nn.Module")
    return module.eval()


@torch.no_grad()
def signature_by_trial(module: nn.Module, text: str, options: SourceOptions) -> Signature:
    """The signature, its inputs as the user says and its output as one call shows.

    Raises:
        UserError: no shape was given, or the module does not take it.
    """
    if not options.input:
        raise UserError(
            f"the inputs of {text} can't be told from the code",
            hint="name each with its shape, the batch first: --input z:1,100",
        )
    inputs = []
    for index, item in enumerate(options.input):
        name, colon, shape = item.rpartition(":")
        sides = parse_shape(shape)
        pictured = options.images and len(sides) == 4 and sides[1] in (1, 3)  # grey or RGB
        draw = Images(options.images) if pictured else Prior("normal")
        inputs.append(Input(name if colon else f"input{index}", (BATCH, *sides[1:]), draw))
    trial = {spec.name: torch.zeros(spec.concrete(2)) for spec in inputs}
    probe = Signature(tuple(inputs), ())
    try:
        images = run_module(module, probe, trial)
    except Exception as error:  # whatever the user's module raises is about its input
        raise UserError(
            f"{text} does not take inputs of shape {[list(t.shape) for t in trial.values()]}: "
            + first_line(error),
            hint="name the shape it takes: --input [NAME:]SHAPE",
        ) from error
    if images.ndim != 4:
        raise UserError(f"{text} makes {list(images.shape)}", hint="images are (N, C, H, W)")
    default = (0.0, 1.0) if options.images else (-1.0, 1.0)
    taken = any(spec.name == "images" for spec in inputs)  # a graph has one name for one tensor
    output = Output(
        "made" if taken else "images", (BATCH, *images.shape[1:]), options.value_range or default
    )
    return Signature(tuple(inputs), (output,))
