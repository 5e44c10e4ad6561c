"""An artifact: an immutable folder that holds a generator after one step.

``artifact.json`` says what it is; beside it lie ``weights.safetensors``, ``model.onnx`` or
exported files. The architecture is named by its source and the edits made to it, never pickled:
loading builds the original, replays the edits, and loads the weights. An artifact is written to a
temporary folder and renamed, so a killed command leaves either all of it or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from genslim.edits import difference, replay
from genslim.errors import UserError
from genslim.generator import Generator, StepRecord, check_finite
from genslim.graph_rewrites import KINDS
from genslim.graph_rewrites.rewriting import Rewriting
from genslim.signature import Signature
from genslim.sources import SOURCES
from genslim.sources.exported import with_signature
from genslim.storage import TEMPORARY, write_errors

FORMAT = 1
RECORD = "artifact.json"
ORIGINAL = "00-original"
"""The first artifact of every run."""
WEIGHTS = "weights.safetensors"
GRAPH = "model.onnx"
LIBRARIES = ("genslim", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "openvino", "nncf")
DTYPES = ("float32", "float16", "bfloat16")
WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What JSON that is not a record raises when it is read as one."""

Kind = Literal["original", "step", "export"]


def is_artifact(path: Path) -> bool:
    """Whether ``path`` is an artifact folder."""
    return (path / RECORD).is_file()


def save(
    generator: Generator,
    folder: Path,
    *,
    kind: Kind,
    parent: str | None = None,
    keep_weights: bool = True,
) -> Generator:
    """Write ``generator`` as the new artifact ``folder`` and return it as loaded from there.

    Args:
        generator: what to write. Its ``files`` are moved in where they were exported for this, and
            copied where they are the user's own; its graph says its signature from then on.
        folder: must not exist yet.
        kind: the original, the result of a step, or exported files of the state before.
        parent: name of the artifact it was made from.
        keep_weights: False leaves the module out where the graph alone is meant to run.

    Raises:
        UserError: it can't be written there; nothing is left behind.
    """
    from safetensors.torch import save_file

    staging = folder.parent / f"{TEMPORARY}{folder.name}-{os.getpid()}"
    with write_errors(folder.parent):
        try:
            staging.mkdir(parents=True)
            edits: Mapping[str, Any] = {}
            if generator.module is not None and keep_weights:
                edits = difference(build_source(generator.source), generator.module)
                state = generator.module.state_dict()
                # Copies, because safetensors refuses tied weights, which share memory.
                copies = {k: v.detach().clone().contiguous() for k, v in state.items()}
                save_file(copies, staging / WEIGHTS)
            if generator.onnx is not None:
                graph = with_signature(generator.onnx, generator.signature)
                (staging / GRAPH).write_bytes(graph)
            for name, file in generator.files.items():
                (shutil.move if kind == "export" else shutil.copyfile)(file, staging / name)
            record = {
                "format": FORMAT,
                "name": generator.name,
                "kind": kind,
                "parent": parent,
                "source": generator.source,
                "signature": generator.signature.to_json(),
                "dtype": str(generator.dtype).removeprefix("torch."),
                "edits": edits,
                "rewrites": [asdict(rewrite) for rewrite in generator.rewrites],
                "steps": [asdict(step) for step in generator.steps],
                "libraries": installed(LIBRARIES),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": {p.name: fingerprint(p) for p in sorted(staging.iterdir())},
            }
            (staging / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            staging.rename(folder)
        finally:
            with suppress(OSError):
                shutil.rmtree(staging)
    return load(folder)


def load(folder: Path) -> Generator:
    """Read an artifact.

    Raises:
        UserError: it is no artifact, damaged, or of a newer format.
    """
    record = read_record(folder)
    check_files(folder, record["files"])
    module: nn.Module | None = None
    if WEIGHTS in record["files"]:
        module = load_module(folder / WEIGHTS, record)
        check_finite(module)
    graph = folder / GRAPH
    first = folder.parent / ORIGINAL
    return Generator(
        name=record["name"],
        signature=Signature.from_json(record["signature"]),
        source=record["source"],
        module=module,
        onnx=graph.read_bytes() if GRAPH in record["files"] else None,
        rewrites=tuple(Rewriting(**rewrite) for rewrite in record.get("rewrites", ())),
        files={n: folder / n for n in record["files"] if n not in (WEIGHTS, GRAPH)},
        steps=tuple(StepRecord(**step) for step in record["steps"]),
        path=folder,
        ancestor=load(first) if folder.name != ORIGINAL and is_artifact(first) else None,
    )


def read_record(folder: Path) -> dict[str, Any]:
    """``artifact.json``, checked for being one.

    Raises:
        UserError: it is missing, damaged, or of a newer format.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] > FORMAT:
            raise UserError(
                f"{path} has format {record['format']}; this version reads up to {FORMAT}",
                hint="upgrade genslim",
            )
        check_record(record)
    except FileNotFoundError:
        raise UserError(
            f"{folder} is no artifact: it has no {RECORD}", hint="name one that does"
        ) from None
    except (OSError, *WRONG) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error})", hint="make the artifact again"
        ) from error
    return dict(record)


def check_record(record: Mapping[str, Any]) -> None:
    """Raise one of ``WRONG`` where a part of a record is missing or not what it should be."""
    for key in ("name", "kind"):
        if not isinstance(record[key], str):
            raise TypeError(f"{key!r} is no text")
    for key in ("source", "edits", "files"):
        if not isinstance(record[key], dict):
            raise TypeError(f"{key!r} is no object")
    for name, expected in record["files"].items():
        if name != Path(name).name or not isinstance(expected["sha256"], str):
            raise ValueError(f"{name!r} is no file of this folder")
    if record["dtype"] not in DTYPES:
        raise ValueError(f"unknown dtype {record['dtype']!r}")
    Signature.from_json(record["signature"])
    for step in record["steps"]:
        StepRecord(**step)
    for rewrite in record.get("rewrites", ()):  # older artifacts have none
        if rewrite["kind"] not in KINDS or not isinstance(rewrite["at"], str):
            raise ValueError(f"unknown rewrite {rewrite!r}")


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UserError where a file is missing or not the one that was written."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing", hint="make the artifact again")
        if fingerprint(path)["sha256"] != expected["sha256"]:
            raise UserError(
                f"{path} is not the file that was written (checksum)",
                hint="make the artifact again",
            )


def load_module(weights: Path, record: Mapping[str, Any]) -> nn.Module:
    """Build the original architecture, replay the edits, load the weights."""
    from safetensors.torch import load_file

    module = replay(build_source(record["source"]), record["edits"])
    module = module.to(getattr(torch, record["dtype"]))
    try:
        module.load_state_dict(load_file(weights), assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{weights} does not fit the architecture of {record['name']!r}: "
            + "; ".join(line.strip() for line in str(error).splitlines()[1:3]),
            hint="the architecture's code changed since the artifact was made",
        ) from error
    return module.eval()


def build_source(record: Mapping[str, Any]) -> nn.Module:
    """The original architecture that a source record names, with arbitrary weights."""
    for source in SOURCES:
        if source.kind == record.get("kind"):
            return source.build(record)
    raise UserError(f"unknown source {record.get('kind')!r}", hint="upgrade genslim")


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and checksum of a file."""
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed."""
    found = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
