"""Features: what images are compared by when they are compared as a set.

Three kinds. **Pixels** need nothing. A **named** extractor is announced by a package as an entry
point in ``genslim.extractors``: a function that gives a network with the attributes ``image_shape``
``(C, H, W)`` and ``value_range``. A **file** holds a network that maps images ``(N, C, H, W)`` to
features ``(N, D)`` (or to maps ``(N, D, H, W)``, which are averaged), in one of two formats:

- **TorchScript** (``torch.jit.save``). A network whose ``forward`` has an argument
  ``return_features`` is asked for them: the Inception that FID is usually taken with is given away
  in that form.
- **torch.export** (``torch.export.save``, ``.pt2``), with a batch that may have any size.

A network in a file is a program, like a Python module: open only one that you trust. Nothing is
downloaded.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from genslim.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

GROUP = "genslim.extractors"
PIXELS = "pixels"
PIXEL_SIDE = 64
"""Pixels are compared at this size at most: what collapses is what is drawn, not its grain."""
SYNTAX = "FILE:range=LOW..HIGH[,size=299][,channels=3]"
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness (ITU-R BT.601)."""


@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features, and the images that it takes."""

    name: str
    """What the user wrote, without the folder."""
    network: Callable[[Tensor], Tensor]
    image_shape: tuple[int, int, int]
    value_range: tuple[float, float]

    def __call__(
        self, images: NDArray[np.float32], value_range: tuple[float, float], *, batch: int = 64
    ) -> Tensor:
        """Features of images.

        They are clipped to their value range, mapped to the network's, brought to its channels and
        resized to its size (bilinear, with antialiasing where they shrink).

        Args:
            images: ``(N, C, H, W)``, finite.
            value_range: the least and the greatest value of a pixel.
            batch: how many run at a time.

        Returns:
            ``(N, D)``, float32.

        Raises:
            UserError: the network can't run on them, or gives something else than features.
        """
        import torch

        parts = []
        with torch.no_grad():
            for part in torch.from_numpy(images).split(batch):
                fitted = mapped(with_channels(part, self.image_shape[0]), value_range, (0.0, 1.0))
                fitted = resized(fitted, self.image_shape[1:])
                try:
                    features = self.network(mapped(fitted, (0.0, 1.0), self.value_range))
                except Exception as error:  # a foreign network raises what it likes
                    reason = str(error).strip().splitlines() or [type(error).__name__]
                    raise UserError(
                        f"extractor {self.name} does not take images {tuple(fitted.shape)} "
                        f"({reason[-1][:160]})",
                        hint=f"say what it takes: --extractor {SYNTAX}",
                    ) from error
                parts.append(self.checked(features, len(part)))
        return torch.cat(parts)

    def checked(self, features: Tensor, count: int) -> Tensor:
        """The features as ``(N, D)``.

        Raises:
            UserError: they are none, or not finite.
        """
        import torch

        if isinstance(features, torch.Tensor) and features.ndim == 4:
            features = features.float().mean((2, 3))
        if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != count:
            shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features)
            raise UserError(
                f"extractor {self.name} gives {shape} for {count} images, and no features (N, D)",
                hint="cut the network after its pooling",
            )
        if not features.isfinite().all():
            raise UserError(f"extractor {self.name} gives features with NaN or infinity")
        return features.float()


def pixels(images: NDArray[np.float32], value_range: tuple[float, float]) -> Tensor:
    """The pixels themselves as features, averaged down to at most 64 a side.

    Args:
        images: ``(N, C, H, W)``, finite.
        value_range: the least and the greatest value of a pixel.

    Returns:
        ``(N, D)``, float32, as shares of the value range.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    height, width = images.shape[2:]
    low, high = value_range
    side = (min(height, PIXEL_SIDE), min(width, PIXEL_SIDE))
    return (adaptive_avg_pool2d(torch.from_numpy(images), side).flatten(1) - low) / (high - low)


def mapped(images: Tensor, span: tuple[float, float], to: tuple[float, float]) -> Tensor:
    """Images clipped to the value range ``span``, as values of the range ``to``."""
    (low, high), (least, most) = span, to
    return (images.clamp(low, high) - low) / (high - low) * (most - least) + least


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images ``(N, C, H, W)`` with 1 or 3 channels: grey in all colours, or colours as grey."""
    if images.shape[1] == channels:
        return images
    coloured = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    if channels == 3:
        return coloured
    return (coloured * coloured.new_tensor(GREY).reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Images of another size; equal sizes are left alone."""
    from torch.nn.functional import interpolate

    if tuple(images.shape[2:]) == tuple(size):
        return images
    return interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def names() -> list[str]:
    """The extractors that installed packages announce."""
    return sorted(point.name for point in entry_points(group=GROUP))


def open_extractor(text: str) -> Extractor:
    """The extractor that a command line names.

    Args:
        text: a name, or ``FILE:range=LOW..HIGH[,size=SIDE][,channels=1|3]``.

    Raises:
        UserError: there is none of that name, or the file holds no network.
    """
    for point in entry_points(group=GROUP):
        if point.name == text:
            network = point.load()()
            return Extractor(text, network, network.image_shape, network.value_range)
    place, settings = parse(text)
    path = Path(place)
    if not path.is_file():
        raise UserError(
            f"no extractor {place}: neither a name nor a file",
            hint=f"names here: {', '.join(names()) or 'none'}; or {SYNTAX}",
        )
    if settings.value_range is None:
        raise UserError(
            f"--extractor {place} does not say which values the network takes",
            hint=f"say it, e.g. {place}:range=0..255 or {place}:range=-1..1",
        )
    network, shape = open_network(path, settings)
    return Extractor(path.name, network, shape, settings.value_range)


@dataclass(frozen=True)
class Settings:
    """What is said of a network behind its file's name."""

    value_range: tuple[float, float] | None = None
    size: int = 299
    channels: int = 3


def parse(text: str) -> tuple[str, Settings]:
    """Split ``FILE:range=0..255,size=299``.

    Raises:
        UserError: a setting that there is not, or a value that it can't have.
    """
    found = re.fullmatch(r"(?P<file>.+?):(?P<settings>\w+=.*)", text, re.DOTALL)
    if found is None:
        return text, Settings()
    number = r"(-?\d+(?:\.\d+)?)"
    known = {"range": rf"{number}\.\.{number}", "size": r"([1-9]\d{0,4})", "channels": r"([13])"}
    values: dict[str, tuple[str, ...]] = {}
    for part in found["settings"].split(","):
        key, _, value = part.partition("=")
        match = re.fullmatch(known.get(key, r"(?!)"), value)
        if match is None:
            raise UserError(f"--extractor: {part!r} says nothing known", hint=f"write {SYNTAX}")
        values[key] = match.groups()
    low, high = map(float, values["range"]) if "range" in values else (0.0, 1.0)
    if low >= high:
        raise UserError(f"--extractor: range {low:g}..{high:g} is empty", hint=f"write {SYNTAX}")
    settings = Settings(
        (low, high) if "range" in values else None,
        int(values.get("size", ("299",))[0]),
        int(values.get("channels", ("3",))[0]),
    )
    return found["file"], settings


def open_network(
    path: Path, settings: Settings
) -> tuple[Callable[[Tensor], Tensor], tuple[int, int, int]]:
    """The network of a file, and the shape ``(C, H, W)`` that it takes.

    Raises:
        UserError: the file is of another format, damaged, or exported with a fixed batch.
    """
    members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    endings = {name.partition("/")[2] for name in members}
    wanted = (settings.channels, settings.size, settings.size)
    try:
        if "archive_format" in endings:
            return exported(path, wanted)
        if "constants.pkl" in endings and any(name.startswith("code/") for name in endings):
            return scripted(path), wanted
    except UserError:
        raise
    except Exception as error:  # damaged archives raise all kinds of errors
        reason = str(error).strip().partition("\n")[0][:160]
        raise UserError(f"{path} can't be read as a network ({reason})") from error
    what = "weights alone" if "data.pkl" in endings else "no network"
    raise UserError(
        f"{path} holds {what}; an extractor is a TorchScript or torch.export file",
        hint="save the network with torch.jit.save or torch.export.save",
    )


def scripted(path: Path) -> Callable[[Tensor], Tensor]:
    """A TorchScript network."""
    import warnings

    import torch

    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, and the form that Inception is given away in.
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(str(path), map_location="cpu").eval()
    asked = {argument.name for argument in network.forward.schema.arguments}
    if "return_features" in asked:
        return lambda images: network(images, return_features=True)
    return network  # type: ignore[no-any-return]


def exported(
    path: Path, wanted: tuple[int, int, int]
) -> tuple[Callable[[Tensor], Tensor], tuple[int, int, int]]:
    """A network of torch.export; its own fixed sizes come before those that were said."""
    import torch

    with path.open("rb") as file:
        program = torch.export.load(file)
    (name, *_) = program.graph_signature.user_inputs
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == name)
    if isinstance(shape[0], int):
        raise UserError(
            f"{path} was exported for batches of {shape[0]}",
            hint="export it with a batch of any size: dynamic_shapes=({0: torch.export.Dim('n')},)",
        )
    sides = [own if isinstance(own, int) else said for own, said in zip(shape[1:], wanted)]  # noqa: B905  the check is below
    if len(shape) != 4 or sides[0] not in (1, 3):
        raise UserError(f"{path} takes no images: its input is {tuple(shape)}")
    return program.module(), (sides[0], sides[1], sides[2])
