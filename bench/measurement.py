"""A measurement: what was found out about each artifact, with the raw samples, as plain data.

It is written to ``measurement.json`` and read back without loss; every report is made from it and
from nothing else. The pictures lie beside it in an ``.npz`` file that it names.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.environment import Environment
from bench.metrics.distribution import Distribution
from bench.quality import Quality
from bench.sweep import Point
from genslim.errors import UserError
from genslim.runtimes.base import Execution
from genslim.storage import write_whole
from genslim.target import Target
from genslim.timing import Samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genslim.console import Console

FORMAT = 1
RECORD = "measurement.json"
BASELINE = "baseline"
"""What the original is called where everything is compared with it."""


@dataclass(frozen=True)
class Memory:
    """Memory and cold start of a fresh process that opens an artifact and makes one batch."""

    peak_bytes: int | None
    """Greatest resident size, the interpreter and libraries included; None: see ``reason``."""
    reason: str | None = None
    """Why there is no figure."""
    load_ms: float | None = None
    """Cold start, its first part: import the runtime, read the files, make a session."""
    first_ms: float | None = None
    """Cold start, its second part: the first batch."""
    gpu_peak_bytes: int | None = None
    """Greatest memory of the GPU; None where none is used, or it can't be told."""

    @property
    def cold_ms(self) -> float | None:
        """From a fresh process with numpy alone to the first batch of images."""
        if self.load_ms is None or self.first_ms is None:
            return None
        return self.load_ms + self.first_ms


@dataclass(frozen=True)
class Reading:
    """One artifact on one runtime."""

    execution: Execution
    """What really executed, read back from the runtime."""
    latency: Samples
    """Raw samples in milliseconds a batch; sample ``i`` is of the same round in every reading."""
    quality: Quality
    """The images it made against those of the baseline, input by input."""
    deployed_bytes: int
    """Size of the files that this runtime needs."""
    memory: Memory | None = None
    """Measured for the baseline and for the best runtime of each artifact."""
    distribution: Distribution | None = None
    """Of the same two; None also where an image is not finite."""

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        return self.execution.runtime

    @property
    def spread(self) -> float:
        """Interquartile range of the latency as a share of its median."""
        low, high = (self.latency.percentile_ms(p) for p in (25, 75))
        return (high - low) / self.latency.median_ms


@dataclass(frozen=True)
class Refusal:
    """A runtime that an artifact could not be measured on."""

    runtime: str
    reason: str


@dataclass(frozen=True)
class Artifact:
    """Everything measured of one artifact."""

    name: str
    """Its folder: ``01-prune``."""
    kind: Literal["original", "step", "export"]
    parent: str | None
    """The artifact it was made from; None for the first."""
    steps: tuple[Mapping[str, Any], ...]
    """The steps that led to it, oldest first: ``name``, ``parameters``, ``report``."""
    parameters: int | None
    """None where neither a module nor a graph can be counted."""
    macs: int | None
    """Multiply-accumulate operations of one image at the usual size."""
    readings: tuple[Reading, ...]
    refusals: tuple[Refusal, ...] = ()
    disk_bytes: int = 0
    """Size of the files to deploy, on its best runtime or on the one that refused."""

    def reading(self, runtime: str) -> Reading | None:
        """The reading on ``runtime``, if there is one."""
        return next((r for r in self.readings if r.runtime == runtime), None)

    @property
    def best(self) -> Reading | None:
        """The reading of lowest median latency among those with sound images, else among all."""
        sound = [r for r in self.readings if r.quality.broken == 0]
        return min(sound or self.readings, key=lambda r: r.latency.median_ms, default=None)


@dataclass(frozen=True)
class Pictures:
    """The same few inputs through every artifact, as people would see them."""

    indices: tuple[int, ...]
    """Which of the quality inputs these are."""
    reference: NDArray[np.uint8]
    """What the baseline made: ``(K, H, W, C)``, C 1 or 3."""
    images: Mapping[str, NDArray[np.uint8]]
    """What each artifact made on its best runtime, by name, in the same shape."""


@dataclass(frozen=True)
class Measurement:
    """Artifacts measured side by side. The baseline is the first reading of the first artifact."""

    name: str
    """The generator's name."""
    source: Mapping[str, Any]
    """The source record of the original."""
    target: Target
    """Settled: batch and threads are filled in."""
    artifacts: tuple[Artifact, ...]
    environment: Environment
    seed: int
    image_shape: tuple[int, ...]
    """``(C, H, W)`` of one output."""
    pictures: Pictures | None = field(default=None, compare=False)
    sweep: tuple[Point, ...] = ()
    """The same artifacts at other batches and numbers of threads; empty: none was taken."""
    rounds_asked: int | None = None
    """How many rounds there were to be; None: not recorded."""

    @property
    def baseline(self) -> Reading:
        """The original in PyTorch eager fp32, or where it runs if it is only a graph."""
        return self.artifacts[0].readings[0]

    @property
    def count(self) -> int:
        """How many inputs quality was measured on."""
        return len(self.baseline.quality.mse)

    @property
    def rounds(self) -> int:
        """How many rounds latency was measured in."""
        return len(self.baseline.latency.milliseconds)

    def artifact(self, name: str | None) -> Artifact | None:
        """The artifact called ``name``, if it was measured."""
        return next((a for a in self.artifacts if a.name == name), None)

    def all_readings(self) -> Iterator[tuple[Artifact, Reading]]:
        """Every reading with the artifact it is of."""
        return ((a, r) for a in self.artifacts for r in a.readings)

    @property
    def warnings(self) -> list[str]:
        """What a reader should distrust, and what to do about it; a line each."""
        from bench.verdicts.doubts import doubts

        return doubts(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data without NaN; :meth:`from_json` is its inverse, the pictures aside."""
        return {"format": FORMAT, **asdict(replace(self, pictures=None))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Rebuild a measurement from :meth:`to_json`."""
        return cls(
            name=data["name"],
            source=data["source"],
            target=Target(**data["target"]),
            artifacts=tuple(artifact_from_json(a) for a in data["artifacts"]),
            environment=Environment.from_json(data["environment"]),
            seed=data["seed"],
            image_shape=tuple(data["image_shape"]),
            sweep=tuple(Point.from_json(p) for p in data.get("sweep", ())),
            rounds_asked=data.get("rounds_asked"),
        )

    def save(self, folder: Path) -> None:
        """Write ``measurement.json`` and the pictures.

        The pictures' file is named after its content and written first, so that a killed command
        leaves the old measurement with its own pictures.

        Raises:
            UserError: it can't be written there.
        """
        data = self.to_json()
        if self.pictures is not None:
            packed = pack(self.pictures)
            data["pictures"] = f"images-{hashlib.sha256(packed).hexdigest()[:12]}.npz"
            write_whole(folder / data["pictures"], packed)
        write_whole(folder / RECORD, json.dumps(data, indent=1, allow_nan=False) + "\n")
        for old in folder.glob("images-*.npz"):
            if old.name != data["pictures"]:
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path) -> Measurement:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: there is none, it is damaged, or of a newer format.
        """
        path = folder / RECORD
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] > FORMAT:
                raise UserError(
                    f"{path} has format {data['format']}; this version reads up to {FORMAT}",
                    hint="upgrade genslim",
                )
            found = cls.from_json(data)
            name = data["pictures"]
            pictures = unpack(folder / Path(name).name) if name else None
        except FileNotFoundError as error:
            raise UserError(f"no file {error.filename}", hint="measure: bench run") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged ({error!r})", hint="measure again: bench run"
            ) from error
        return replace(found, pictures=pictures)

    def report(self, place: str | Path, *, console: Console | None = None) -> list[Path]:
        """Write the report; see :func:`bench.report.write`."""
        from bench.report import write

        return write(self, Path(place))

    def _repr_html_(self) -> str:
        """A notebook shows the table and the pictures."""
        from bench.page import notebook

        return notebook(self)


def artifact_from_json(data: Mapping[str, Any]) -> Artifact:
    """One artifact out of a measurement's JSON."""
    return Artifact(
        **{
            **data,
            "steps": tuple(data["steps"]),
            "readings": tuple(
                Reading(
                    Execution(**r["execution"]),
                    Samples.from_json(r["latency"]),
                    Quality.from_json(r["quality"]),
                    r["deployed_bytes"],
                    Memory(**r["memory"]) if r["memory"] else None,
                    Distribution.from_json(r["distribution"]) if r.get("distribution") else None,
                )
                for r in data["readings"]
            ),
            "refusals": tuple(Refusal(**r) for r in data["refusals"]),
        }
    )


def pack(pictures: Pictures) -> bytes:
    """The pictures as a compressed NumPy archive."""
    import numpy as np

    arrays: dict[str, Any] = {
        "indices": np.asarray(pictures.indices),
        "reference": pictures.reference,
    }
    arrays |= {f"image/{name}": array for name, array in pictures.images.items()}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def unpack(path: Path) -> Pictures:
    """Read what :func:`pack` made.

    Raises:
        UserError: the file is damaged.
    """
    import zipfile
    import zlib

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as packed:
            names = [name for name in packed.files if name.startswith("image/")]
            return Pictures(
                tuple(int(i) for i in packed["indices"]),
                packed["reference"],
                {name.removeprefix("image/"): packed[name] for name in names},
            )
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error})", hint="measure again: bench run") from error
