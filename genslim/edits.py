"""The difference between an architecture and what compression made of it, as plain data.

An artifact names its architecture and lists the modules that changed; loading builds the
original and replays the list. A module is described by its class and the arguments that would
construct it, so nothing is pickled and nothing but the classes listed here can be built. A module
of any other class can be resized: it keeps its class and gets tensors of other shapes, and numbers
that its code reads, such as a count of heads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from genslim.errors import GenslimError, UserError

Spec = dict[str, Any]

CONVOLUTION = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
)
LAYERS: Mapping[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "Conv1d": (nn.Conv1d, CONVOLUTION),
    "Conv2d": (nn.Conv2d, CONVOLUTION),
    "Conv3d": (nn.Conv3d, CONVOLUTION),
    "ConvTranspose1d": (nn.ConvTranspose1d, (*CONVOLUTION, "output_padding")),
    "ConvTranspose2d": (nn.ConvTranspose2d, (*CONVOLUTION, "output_padding")),
    "ConvTranspose3d": (nn.ConvTranspose3d, (*CONVOLUTION, "output_padding")),
    "Linear": (nn.Linear, ("in_features", "out_features")),
    "BatchNorm1d": (nn.BatchNorm1d, ("num_features", "eps", "affine", "track_running_stats")),
    "BatchNorm2d": (nn.BatchNorm2d, ("num_features", "eps", "affine", "track_running_stats")),
    "InstanceNorm2d": (nn.InstanceNorm2d, ("num_features", "eps", "affine", "track_running_stats")),
    "GroupNorm": (nn.GroupNorm, ("num_groups", "num_channels", "eps", "affine")),
    "LayerNorm": (nn.LayerNorm, ("normalized_shape", "eps", "elementwise_affine")),
    "PReLU": (nn.PReLU, ("num_parameters",)),
    "PixelShuffle": (nn.PixelShuffle, ("upscale_factor",)),
    "Identity": (nn.Identity, ()),
    "Flatten": (nn.Flatten, ("start_dim", "end_dim")),
    "Unflatten": (nn.Unflatten, ("dim", "unflattened_size")),
    "ReLU": (nn.ReLU, ("inplace",)),
    "LeakyReLU": (nn.LeakyReLU, ("negative_slope", "inplace")),
}
"""The layers that an edit may describe: class and the attributes that construct it."""

WITH_BIAS = ("Conv", "Linear")


def describe(module: nn.Module) -> Spec | None:
    """The spec of a layer, or of a Sequential of layers; None for what can't be described."""
    name = type(module).__name__
    if type(module) is nn.Sequential:
        children = {key: describe(child) for key, child in module.named_children()}
        return None if None in children.values() else {"class": name, "children": children}
    if name not in LAYERS or type(module) is not LAYERS[name][0]:
        return None
    arguments = {key: plain(getattr(module, key)) for key in LAYERS[name][1]}
    if name.startswith(WITH_BIAS):
        arguments["bias"] = module.bias is not None
    return {"class": name, **arguments}


def construct(spec: Mapping[str, Any]) -> nn.Module:
    """The layer that ``spec`` describes, with fresh weights.

    Raises:
        UserError: the spec names a class that is not in the list, or arguments that don't fit.
    """
    name = spec.get("class") if isinstance(spec, Mapping) else None
    try:
        if name == "Sequential":
            return nn.Sequential(
                OrderedDict((key, construct(child)) for key, child in spec["children"].items())
            )
        if not isinstance(name, str) or name not in LAYERS:
            raise UserError(
                f"an edit names the layer class {name!r}", hint="the artifact is not sound"
            )
        kind, known = LAYERS[name]
        arguments = {key: sized(value) for key, value in spec.items() if key != "class"}
        if strange := arguments.keys() - {*known, "bias"}:
            raise TypeError(f"unknown arguments {sorted(strange)}")
        return kind(**arguments)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"an edit of {name} can't be built: {error}", hint="the artifact is not sound"
        ) from error


def difference(original: nn.Module, edited: nn.Module) -> dict[str, Spec]:
    """What must be replaced in ``original`` to get the architecture of ``edited``.

    Returns:
        A spec for each path of a replaced module.

    Raises:
        GenslimError: a module changed that no spec can describe.
    """
    edits: dict[str, Spec] = {}

    def walk(a: nn.Module, b: nn.Module, path: str) -> None:
        ours, theirs = dict(a.named_children()), dict(b.named_children())
        same_make = type(a) is type(b) and ours.keys() == theirs.keys()
        spec = None if same_make and ours else describe(b)
        if spec is not None:
            # A norm that computes a layer's weight holds other tensors than the plain layer.
            if spec != describe(a) or own_shapes(a).keys() != own_shapes(b).keys():
                edits[path] = spec
            return
        resized = resizing(a, b) if same_make else None
        if resized is None:
            raise GenslimError(f"the change of {path or 'the generator itself'} can't be described")
        if resized:
            edits[path] = resized
        for key, child in ours.items():
            walk(child, theirs[key], f"{path}.{key}" if path else key)

    walk(original, edited, "")
    return edits


def resizing(a: nn.Module, b: nn.Module) -> Spec | None:
    """What of ``a``'s own tensors and numbers differs in ``b``; None where that is not all."""
    ours, theirs = own_shapes(a), own_shapes(b)
    if ours.keys() != theirs.keys():
        return None
    tensors = {name: plain(shape) for name, shape in theirs.items() if shape != ours[name]}
    before, after = own_numbers(a), own_numbers(b)
    numbers = {k: plain(after[k]) for k in before.keys() & after.keys() if before[k] != after[k]}
    spec = {"tensors": tensors, "numbers": numbers}
    return {key: value for key, value in spec.items() if value}


def own_shapes(module: nn.Module) -> dict[str, torch.Size]:
    """The shapes of the tensors that a module holds itself, not its children."""
    held = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return {name: value.shape for name, value in held}


def own_numbers(module: nn.Module) -> dict[str, Any]:
    """The public attributes of a module that are whole numbers, or rows of them."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and are_numbers(value)
    }


def are_numbers(value: Any) -> bool:
    """Whether ``value`` is a whole number or a row of whole numbers."""
    row = value if isinstance(value, list | tuple) else [value]
    return all(type(number) is int for number in row)


def replay(module: nn.Module, edits: Mapping[str, Spec]) -> nn.Module:
    """Put the described layers in their places, in ``module`` itself, and return it."""
    for path, spec in edits.items():
        try:
            place = module.get_submodule(path)
        except AttributeError as error:
            raise UserError(
                f"an edit names the module {path!r}, which the architecture lacks",
                hint="it was made with another version of the architecture",
            ) from error
        if isinstance(spec, Mapping) and spec and spec.keys() <= {"tensors", "numbers"}:
            resize(place, spec, path)
        elif path:
            module.set_submodule(path, construct(spec), strict=True)
        else:
            module = construct(spec)
    return module


def resize(module: nn.Module, spec: Mapping[str, Any], path: str) -> None:
    """Give ``module`` fresh tensors of the described shapes, and the described numbers.

    Raises:
        UserError: it has no such tensor or number.
    """
    shapes, numbers = spec.get("tensors", {}), spec.get("numbers", {})
    for name, shape in shapes.items():
        tensor = getattr(module, name) if name in own_shapes(module) else None
        if tensor is None or not isinstance(shape, list) or not are_numbers(shape):
            raise UserError(
                f"an edit resizes {name!r} of {path or 'the generator'}, which has no such tensor",
                hint="it was made with another version of the architecture",
            )
        fresh = torch.zeros(shape, dtype=tensor.dtype)
        learned = isinstance(tensor, nn.Parameter)
        setattr(module, name, nn.Parameter(fresh, tensor.requires_grad) if learned else fresh)
    known = own_numbers(module)
    for name, value in numbers.items():
        if name not in known or not are_numbers(value):
            raise UserError(
                f"an edit sets {name!r} of {path or 'the generator'}, which has no such number",
                hint="it was made with another version of the architecture",
            )
        kind = type(known[name])
        setattr(module, name, kind(value) if isinstance(value, list) else value)


def sized(value: Any) -> Any:
    """JSON data as a constructor's argument: some insist on tuples."""
    return tuple(value) if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """A constructor's argument as JSON data."""
    if isinstance(value, torch.Size | tuple | list):
        return [plain(v) for v in value]
    return value
