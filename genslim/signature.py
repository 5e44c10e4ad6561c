"""The contract of a generator: what goes in, what comes out, and how inputs are drawn.

A shape is a tuple of integers and names; a name is a symbolic dimension (``"batch"``, ``"height"``)
that may take any size at run time. Everything here is plain data: it imports nothing heavy and
turns into JSON and back without loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from genslim.errors import UserError

Shape = tuple[int | str, ...]

BATCH = "batch"


@dataclass(frozen=True)
class Prior:
    """Inputs drawn from a distribution: latents of a GAN or VAE, noise of a denoiser."""

    kind: Literal["normal", "uniform"] = "normal"
    """``normal``: zero mean, standard deviation ``scale``; ``uniform``: in [0, ``scale``]."""
    scale: float = 1.0


@dataclass(frozen=True)
class Images:
    """Inputs cropped from a folder of images, RGB (or grey for one channel) in [0, 1]."""

    folder: str | None = None
    """None: the folder must be named (``--images``) before inputs can be drawn."""


@dataclass(frozen=True)
class Holes:
    """Masks ``(N, 1, H, W)`` of one rectangular hole each: 1 where the picture is missing, else 0.

    Raises:
        UserError: the shares are not in order between 0 and 1.
    """

    least: float
    """Shortest side of a hole, as a share of the mask's side; each side is drawn by itself."""
    most: float
    """Longest side of a hole."""

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.most <= 1:
            raise UserError(
                f"holes of {self.least:g} to {self.most:g} of a side can't be",
                hint="name the least share first, both above 0 and up to 1",
            )


@dataclass(frozen=True)
class Sampler:
    """Whole inputs drawn by a function that an installed package announces.

    It is an entry point in the group ``genslim.samplers``, called as ``function(count, random)``
    with a ``torch.Generator``; it returns all of the input, ``(count, ...)``.
    """

    name: str
    """Of the entry point: ``digits``."""


Draw = Prior | Images | Holes | Sampler


@dataclass(frozen=True)
class Input:
    """One input tensor of a generator."""

    name: str
    shape: Shape
    """With the batch first: ``("batch", 100)`` or ``("batch", 3, "height", "width")``."""
    draw: Draw
    sizes: Mapping[str, int] | None = None
    """Usual size of each symbolic dimension but the batch: what is measured and calibrated on."""
    multiple_of: int = 1
    """Symbolic dimensions other than the batch must be a multiple of this."""
    dtype: str = "float32"
    noise: tuple[float, float] = (0.0, 0.0)
    """Gaussian noise is added to what is drawn: each sample's standard deviation lies uniformly
    between the two, in the values' own units. Sums are not clamped: noise stays Gaussian."""

    def __post_init__(self) -> None:
        least, most = self.noise
        if not 0 <= least <= most:
            raise UserError(
                f"noise of {least:g} to {most:g} on input {self.name!r} can't be",
                hint="name the least standard deviation first, 0 or more",
            )

    @property
    def pictured(self) -> bool:
        """Whether it is a picture, NCHW: it holds many positions, and takes its time."""
        return isinstance(self.draw, Images) or (
            isinstance(self.draw, Sampler) and len(self.shape) == 4
        )

    def concrete(self, batch: int) -> tuple[int, ...]:
        """The shape with ``batch`` and the usual sizes filled in."""
        known = {BATCH: batch, **(self.sizes or {})}
        return tuple(side if isinstance(side, int) else known[side] for side in self.shape)


@dataclass(frozen=True)
class Output:
    """One output tensor of a generator: images, NCHW."""

    name: str
    shape: Shape
    value_range: tuple[float, float]
    """The least and the greatest value a pixel can take; the data range of every quality metric."""


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a generator, in the order of its ``forward``."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    @property
    def images(self) -> Output:
        """The output that holds the pictures (the first)."""
        return self.outputs[0]

    @property
    def data_range(self) -> float:
        """Width of the images' value range, stated and never taken from the data."""
        low, high = self.images.value_range
        return high - low

    @property
    def takes_images(self) -> bool:
        """Whether an input is an image: each holds many positions, and takes its time."""
        return any(i.pictured for i in self.inputs)

    @property
    def needs_images(self) -> bool:
        """Whether an input is drawn from a folder of images that nobody has named yet."""
        return any(isinstance(i.draw, Images) and i.draw.folder is None for i in self.inputs)

    def with_images(self, folder: str | None) -> Signature:
        """The same signature, its image inputs drawn from ``folder``, or from none named yet."""
        return replace(
            self,
            inputs=tuple(
                replace(i, draw=Images(folder)) if isinstance(i.draw, Images) else i
                for i in self.inputs
            ),
        )

    def with_sides(self, sides: Mapping[str, int]) -> Signature:
        """The same signature with some symbolic dimensions of fixed size, by their names."""

        def fixed(shape: Shape) -> Shape:
            found: list[int | str] = []
            for side in shape:
                factor, _, name = str(side).rpartition("*")
                found.append(int(factor or 1) * sides[name] if name in sides else side)
            return tuple(found)

        return replace(
            self,
            inputs=tuple(replace(i, shape=fixed(i.shape)) for i in self.inputs),
            outputs=tuple(replace(o, shape=fixed(o.shape)) for o in self.outputs),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; :meth:`from_json` is its inverse."""
        data = asdict(self)
        for spec, plain in zip(self.inputs, data["inputs"], strict=True):
            plain["draw"]["from"] = type(spec.draw).__name__.lower()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        """Rebuild a signature from :meth:`to_json`."""
        kinds: dict[str, type[Draw]] = {kind.__name__.lower(): kind for kind in get_args(Draw)}
        inputs = []
        for plain in data["inputs"]:
            draw = dict(plain["draw"])
            kind = kinds[draw.pop("from")]
            read = {"shape": tuple(plain["shape"]), "draw": kind(**draw)}
            if "noise" in plain:  # signatures from before there was any have none
                read["noise"] = tuple(plain["noise"])
            inputs.append(Input(**{**plain, **read}))
        outputs = [
            Output(o["name"], tuple(o["shape"]), (o["value_range"][0], o["value_range"][1]))
            for o in data["outputs"]
        ]
        return cls(tuple(inputs), tuple(outputs))
