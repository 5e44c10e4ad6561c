"""A measurement: what was found out about each artifact, with the raw samples, as plain data.

It is written to ``measurement.json`` and read back without loss; every report is made from it and
from nothing else. The pictures beside it lie in ``images.npz``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.quality import Quality
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
PICTURES = "images.npz"
UNSTABLE = 0.20
"""Latencies whose interquartile range exceeds this share of the median are called unstable."""


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
class Memory:
    """Memory of a fresh process that opens an artifact on its best runtime and makes a batch."""

    runtime: str
    peak_bytes: int | None
    """Greatest resident size, the interpreter and libraries included; None: see ``reason``."""
    reason: str | None = None
    """Why there is no figure."""


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
    memory: Memory | None = None
    """None: not measured."""

    def reading(self, runtime: str) -> Reading | None:
        """The reading on ``runtime``, if there is one."""
        return next((r for r in self.readings if r.runtime == runtime), None)

    @property
    def best(self) -> Reading | None:
        """The reading of lowest median latency among those with sound images, else among all."""
        sound = [r for r in self.readings if r.quality.broken == 0]
        return min(sound or self.readings, key=lambda r: r.latency.median_ms, default=None)


@dataclass(frozen=True)
class Environment:
    """Where it was measured."""

    cpu: str
    cores: int
    """Cores this process may use."""
    system: str
    """Operating system, its release and the architecture."""
    python: str
    libraries: Mapping[str, str]
    """Version by distribution, genslim's own among them."""
    date: str
    """ISO 8601, UTC."""


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

    @property
    def baseline(self) -> Reading:
        """The original in PyTorch eager fp32 (or, where it is only a graph, on the runtime named)."""
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
        lines = []
        for artifact, reading in self.all_readings():
            if broken := reading.quality.broken:
                lines.append(
                    f"{artifact.name} on {reading.runtime}: {broken} of {self.count} images hold NaN or "
                    "infinity, so no quality is quoted; undo the step or run it at a higher precision"
                )
        unstable = [
            f"{a.name} on {r.runtime} {r.spread:.0%}"
            for a, r in self.all_readings()
            if r.spread > UNSTABLE
        ]
        if unstable:
            lines.append(
                "latencies vary between rounds (interquartile range by median: "
                + ", ".join(unstable)
                + "); close other programs, or measure longer: bench run --rounds 100 --seconds 300"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data without NaN; :meth:`from_json` is its inverse, the pictures aside."""
        data = {"format": FORMAT, **asdict(self)}
        del data["pictures"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Rebuild a measurement from :meth:`to_json`."""
        return cls(
            name=data["name"],
            source=data["source"],
            target=Target(**data["target"]),
            artifacts=tuple(artifact_from_json(a) for a in data["artifacts"]),
            environment=Environment(**data["environment"]),
            seed=data["seed"],
            image_shape=tuple(data["image_shape"]),
        )

    def save(self, folder: Path) -> None:
        """Write ``measurement.json`` and ``images.npz``, each whole or not at all.

        Raises:
            UserError: it can't be written there.
        """
        import numpy as np

        if self.pictures is not None:
            packed = io.BytesIO()
            np.savez_compressed(
                packed,
                indices=np.asarray(self.pictures.indices),
                reference=self.pictures.reference,
                **{f"image/{name}": array for name, array in self.pictures.images.items()},
            )
            write_whole(folder / PICTURES, packed.getvalue())
        text = json.dumps(self.to_json(), indent=1, allow_nan=False)
        write_whole(folder / RECORD, text + "\n")

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
        except FileNotFoundError:
            raise UserError(
                f"{path} does not exist: nothing was measured", hint="run: bench run"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error!r})", hint="measure again: bench run"
            ) from error
        return cls(**{**vars(found), "pictures": load_pictures(folder / PICTURES)})

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
                    Samples(tuple(r["latency"]["milliseconds"])),
                    Quality.from_json(r["quality"]),
                    r["deployed_bytes"],
                )
                for r in data["readings"]
            ),
            "refusals": tuple(Refusal(**r) for r in data["refusals"]),
            "memory": Memory(**data["memory"]) if data["memory"] else None,
        }
    )


def load_pictures(path: Path) -> Pictures | None:
    """The pictures beside a measurement; None where they are missing.

    Raises:
        UserError: the file is damaged.
    """
    import zipfile

    import numpy as np

    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as packed:
            return Pictures(
                tuple(int(i) for i in packed["indices"]),
                packed["reference"],
                {
                    n.removeprefix("image/"): packed[n]
                    for n in packed.files
                    if n.startswith("image/")
                },
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error})", hint="measure again: bench run") from error
