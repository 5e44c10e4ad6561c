"""A file of weights whose architecture spandrel recognises: super-resolution and restoration nets.

The architecture is told from the names and shapes of the weights. They are what an artifact
records, so that a compressed generator loads without the original file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genslim.errors import MissingDependency, UserError
from genslim.generator import Generator
from genslim.signature import BATCH, Images, Input, Output, Signature
from genslim.sources.base import Source, SourceOptions
from genslim.torchvision_guard import ensure_torchvision_imports

SUFFIXES = {".safetensors", ".pth", ".pt", ".ckpt"}
TELLING = 4096
"""Elements of a tensor that is kept, at most, where shapes alone don't tell the architecture."""
FEW = 64
"""Of a tensor that is tried before: biases and the like are left out."""
SIDE = 64
"""Height and width that are measured unless --input says otherwise."""


class Weights(Source):
    """``RealESRGAN_x4plus.pth`` and its kind."""

    kind = "weights"
    example = "model.safetensors"

    def claims(self, text: str) -> bool:
        """A file with a suffix that weights have."""
        return Path(text).suffix in SUFFIXES

    def open(self, text: str, options: SourceOptions) -> Generator:
        """Recognise and load the file."""
        path = Path(text)
        state = read_state(path)
        descriptor = recognise(state, str(path))
        record = self.record(state, descriptor.model)
        signature = signature_of(descriptor, options)
        return Generator(path.stem, signature, record, descriptor.model.float().eval())

    def record(self, state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Any]:
        """What is needed to build the architecture again.

        The names and shapes of the weights, as a rule; some architectures are told by what small
        tensors hold as well (DAT by its position biases), which are then kept too.
        """
        layout = {name: list(tensor.shape) for name, tensor in state.items()}
        learned = {name for name, _ in model.named_parameters()}
        buffers = {n: t for n, t in state.items() if n not in learned and t.numel() <= TELLING}
        few = {n: t for n, t in state.items() if t.numel() <= FEW}
        many = {n: t for n, t in state.items() if t.numel() <= TELLING}
        record: dict[str, Any] = {"kind": self.kind, "layout": layout}
        tries: tuple[Mapping[str, Tensor], ...] = ({}, buffers, few, many)
        for telling in tries:
            if telling:
                record["values"] = {
                    name: {"dtype": str(t.dtype).removeprefix("torch."), "data": t.tolist()}
                    for name, t in telling.items()
                }
            if self.builds(record, model):
                break
        return record

    def builds(self, record: Mapping[str, Any], model: nn.Module) -> bool:
        """Whether a record leads to the architecture of ``model``."""
        try:
            built = self.build(record)
        except UserError:
            return False
        ours = {name: type(layer) for name, layer in built.named_modules()}
        shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
        return ours == {n: type(m) for n, m in model.named_modules()} and shapes == {
            n: t.shape for n, t in model.state_dict().items()
        }

    def build(self, record: Mapping[str, Any]) -> nn.Module:
        """The architecture that weights of the recorded names and shapes belong to."""
        state = {name: torch.zeros(shape) for name, shape in record["layout"].items()}
        for name, value in record.get("values", {}).items():
            state[name] = torch.tensor(value["data"], dtype=getattr(torch, value["dtype"]))
        model: nn.Module = recognise(state, "the artifact's layout").model
        return model.float()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of weights; a pickle with anything else in it is refused unread.

    Raises:
        UserError: no such file, damaged, cut short, or not weights alone.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"no file {path}", hint="check the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # about old pickles: nothing the user can act on
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a sound safetensors file ({error})",
            hint="it is damaged or cut short: fetch it again",
        ) from error
    except Exception as error:  # torch.load raises whatever the damage provokes
        if refused_for_code(error):
            raise UserError(
                f"{path} is a pickle that holds more than weights; it was not executed",
                hint="convert it to safetensors where you trust it",
            ) from error
        raise UserError(
            f"can't read {path} as weights ({first_line(error)})",
            hint="it is damaged or cut short: fetch it again",
        ) from error
    for wrapper in ("params_ema", "params", "state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(
            f"{path} holds no dictionary of tensors", hint="save the model's state_dict"
        )
    return state


def recognise(state: Mapping[str, Tensor], what: str) -> Any:
    """spandrel's description of the model that ``state`` belongs to.

    Raises:
        MissingDependency: spandrel is not installed.
        UserError: it knows no such architecture.
    """
    try:
        ensure_torchvision_imports()
        import spandrel
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "files of weights are recognised by spandrel, which is not installed",
            hint='install it: pip install "genslim[spandrel]"',
        ) from error
    try:
        return spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError as error:
        raise UserError(
            f"spandrel recognises no architecture in {what} ({len(state)} tensors)",
            hint="name its class instead: package.module:factory --weights FILE --input SHAPE",
        ) from error
    except Exception as error:  # whatever the tensors provoke in the architecture's code
        raise UserError(
            f"the tensors in {what} fit no architecture: {first_line(error)}",
            hint="use weights from a sound checkpoint",
        ) from error


def refused_for_code(error: Exception) -> bool:
    """Whether ``torch.load`` refused a sound pickle because it names functions or classes."""
    return "Unsupported global" in str(error) or "Unsupported class" in str(error)


def first_line(error: Exception) -> str:
    """The first line of an error's message, shortened; its type's name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]


def signature_of(descriptor: Any, options: SourceOptions) -> Signature:
    """Images in [0, 1] in, images ``scale`` times as large out."""
    requirement = descriptor.size_requirements
    multiple = max(1, requirement.multiple_of)
    side = max(SIDE, requirement.minimum)
    height, width = -(-side // multiple) * multiple, -(-side // multiple) * multiple
    for text in options.input:
        *_, height, width = parse_shape(text.rpartition(":")[2])
    scale = descriptor.scale
    return Signature(
        inputs=(
            Input(
                "images",
                (BATCH, descriptor.input_channels, "height", "width"),
                Images(options.images),
                sizes={"height": height, "width": width},
                multiple_of=multiple,
            ),
        ),
        outputs=(
            Output(
                "enlarged",
                (BATCH, descriptor.output_channels, f"{scale}*height", f"{scale}*width"),
                options.value_range or (0.0, 1.0),
            ),
        ),
    )


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``1,3,64,64`` or ``1x3x64x64``.

    Raises:
        UserError: it is not a list of positive integers.
    """
    sides = text.replace("x", ",").split(",")
    if len(sides) < 2 or not all(side.strip().isdecimal() and int(side) > 0 for side in sides):
        raise UserError(
            f"{text!r} is no shape", hint="write positive integers, the batch first: 1,3,64,64"
        )
    return tuple(int(side) for side in sides)
