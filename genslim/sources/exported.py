"""Files that were exported: an ``.onnx`` model of any maker, and what ``export`` wrote.

The signature travels with the file: as JSON among an ONNX model's properties, in the ``rt_info`` of
OpenVINO's ``model.xml``, in ``engine.json`` beside a TensorRT engine. Where an ONNX model has none,
it is read off the graph (:mod:`genslim.sources.foreign`). A generator of such a file has no module:
what changes weights refuses it. Nothing in a file is executed as code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from genslim.errors import MissingDependency, UserError
from genslim.generator import Generator, StepRecord
from genslim.onnx_model import load_model
from genslim.signature import Signature
from genslim.sources.base import Source, SourceOptions
from genslim.sources.foreign import adopted
from genslim.sources.sizes import sized
from genslim.sources.weights import first_line

if TYPE_CHECKING:
    import onnx

ONNX = ".onnx"
IR = ".xml"
ENGINES = (".plan", ".engine", ".trt")

SIGNATURE = "signature"
"""Under this name files hold their signature, as JSON."""
LICENCE = "model_license"
"""Under this name, the ONNX specification's, the licence of the weights."""
SECTION = "genslim"
"""Of OpenVINO's ``rt_info``: all that is ours."""
ENGINE_FACTS = "engine.json"
"""What ``export trt`` writes beside ``engine.plan``, which has no room for it."""

WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""What JSON that is no signature raises when it is read as one."""


class Exported(Source):
    """``fast.onnx`` and its kind."""

    kind = "exported"
    example = "fast.onnx"

    def claims(self, text: str) -> bool:
        """A file with a suffix that exports have."""
        return Path(text).suffix in (ONNX, IR, *ENGINES)

    def open(self, text: str, options: SourceOptions) -> Generator:
        """The generator in one of its exported forms, with the signature that it was made with."""
        path = Path(text)
        if not path.is_file():
            raise UserError(f"no file {path}", hint="check the path")
        if options.weights:
            raise UserError(f"{path} holds its weights itself", hint="leave out --weights")
        if path.suffix == ONNX:
            generator = open_onnx(path, options)
        else:
            generator = open_ir(path) if path.suffix == IR else open_engine(path)
        signature = sized(generator.signature, options.input, str(path))
        if options.value_range is not None:
            pictures, *others = signature.outputs
            pictures = replace(pictures, value_range=options.value_range)
            signature = replace(signature, outputs=(pictures, *others))
        return replace(generator, signature=signature)

    def build(self, record: Mapping[str, Any]) -> nn.Module:
        """Refused: there is no module behind an exported file."""
        raise UserError(
            f"the artifact is of the exported file {record.get('file')!r}, and says it has weights",
            hint="the artifact is not sound",
        )


# What files say of themselves.


def text_of(signature: Signature) -> str:
    """A signature as one line of JSON, to travel with a file: no folder of this machine in it."""
    return json.dumps(signature.with_images(None).to_json())


def signature_in(text: str, path: Path) -> Signature:
    """The signature that a file of ours holds.

    Raises:
        UserError: it is damaged, or newer than this version.
    """
    try:
        return Signature.from_json(json.loads(text)).with_images(None)
    except (UserError, *WRONG) as error:
        raise UserError(
            f"the signature in {path} can't be read ({type(error).__name__}: {first_line(error)})",
            hint="it is damaged or of a newer version: export the file again",
        ) from error


def with_signature(graph: bytes, signature: Signature) -> bytes:
    """A serialised ONNX model that says what its signature is; the same where it does already."""
    model = load_model(graph)
    text = text_of(signature)
    for entry in model.metadata_props:
        if entry.key == SIGNATURE:
            if entry.value == text:
                return graph
            entry.value = text
            break
    else:
        model.metadata_props.add(key=SIGNATURE, value=text)
    return bytes(model.SerializeToString())


def record_of(path: Path, contents: Iterable[bytes], licence: str = "") -> dict[str, Any]:
    """What an artifact keeps of the file. It is told by its content: the file itself may go."""
    hashed = hashlib.sha256()
    for content in contents:
        hashed.update(content)
    record = {"kind": Exported.kind, "file": path.name, "sha256": hashed.hexdigest()}
    return {**record, "licence": licence} if licence else record


# One function a format.


def open_onnx(path: Path, options: SourceOptions) -> Generator:
    """An ``.onnx`` file of ours, or of anyone.

    Raises:
        UserError: it is no ONNX model, makes no images, or takes what genslim does not draw.
    """
    model, content = read_onnx(path)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    signature = signature_in(facts[SIGNATURE], path) if SIGNATURE in facts else None
    if signature is None or not fits(signature, model):
        content, signature = adopted(model, path, options)
    record = record_of(path, [content], facts.get(LICENCE, ""))
    return Generator(path.stem, signature, record, onnx=content)


def read_onnx(path: Path) -> tuple[onnx.ModelProto, bytes]:
    """A model, and itself serialised with all its weights inside.

    Raises:
        UserError: it is no ONNX model, or a file with its weights is missing.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_model, uses_external_data

    content = path.read_bytes()
    try:
        model = load_model(content)
    except UserError as error:
        raise UserError(
            f"{path} is no sound ONNX model ({len(content)} bytes)",
            hint="it is damaged, cut short or something else: fetch or export it again",
        ) from error
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        try:
            load_external_data_for_model(model, str(path.parent))
            return model, model.SerializeToString()
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise UserError(
                f"the weights of {path} lie in other files, which can't be read: "
                + first_line(error),
                hint="put them beside it, under the names that they were exported with",
            ) from error
    return model, content


def fits(signature: Signature, model: onnx.ModelProto) -> bool:
    """Whether a model still has the inputs and outputs that its signature speaks of."""
    inputs = {v.name: len(v.type.tensor_type.shape.dim) for v in model.graph.input}
    outputs = [value.name for value in model.graph.output]
    return inputs == {spec.name: len(spec.shape) for spec in signature.inputs} and outputs == [
        spec.name for spec in signature.outputs
    ]


def open_ir(path: Path) -> Generator:
    """``model.xml`` with ``model.bin`` beside it, as ``export openvino`` writes them.

    Raises:
        UserError: a file is missing or damaged, or they are of another maker.
        MissingDependency: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependency(
            f"{path} needs openvino, which is not installed",
            hint="install it: pip install openvino",
        ) from error

    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise UserError(
            f"{path} has its weights in {weights.name}, which is not beside it",
            hint="put both files into one folder",
        )
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(
            f"OpenVINO can't read {path}: {lines[-1][:160] if lines else type(error).__name__}",
            hint="it is damaged or no model: export it again",
        ) from error
    if not model.has_rt_info([SECTION, SIGNATURE]):
        raise UserError(
            f"{path} does not say what goes in and what comes out, as files of export openvino do",
            hint="name the .onnx file that it was made from",
        )
    signature = signature_in(model.get_rt_info([SECTION, SIGNATURE]).astype(str), path)
    if len(model.inputs) != len(signature.inputs) or not all(
        spec.name in port.get_names()
        for spec, port in zip(signature.inputs, model.inputs, strict=True)
    ):
        raise UserError(
            f"the signature in {path} is not that of its inputs",
            hint="export it again: export openvino",
        )
    licence = ""
    if model.has_rt_info([SECTION, LICENCE]):
        licence = model.get_rt_info([SECTION, LICENCE]).astype(str)
    record = record_of(path, [path.read_bytes(), weights.read_bytes()], licence)
    files = {"model.xml": path, "model.bin": weights}
    return Generator(path.stem, signature, record, files=files)


def open_engine(path: Path) -> Generator:
    """A TensorRT engine with the JSON beside it that ``export trt`` writes.

    The engine itself is opened where it runs: that needs the GPU and the library of its own.

    Raises:
        UserError: the JSON is missing or damaged.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise UserError(
            f"an engine does not say what goes in and what comes out, and {path} has no "
            f"{beside.name} beside it",
            hint="export trt writes both: keep them together, or name the .onnx file",
        )
    try:
        facts = json.loads(beside.read_text(encoding="utf-8"))
        text, report = json.dumps(facts[SIGNATURE]), dict(facts["report"])
    except (OSError, *WRONG) as error:
        raise UserError(
            f"{beside} is damaged ({type(error).__name__}: {first_line(error)})",
            hint="build the engine again: export trt",
        ) from error
    record = record_of(path, [path.read_bytes()], str(facts.get(LICENCE, "")))
    files = {"engine.plan": path, ENGINE_FACTS: beside}
    # The runtime looks among the steps for the library that built it.
    steps = (StepRecord("trt", {}, report),)
    return Generator(path.stem, signature_in(text, beside), record, files=files, steps=steps)


def engine_facts(signature: Signature, report: Mapping[str, Any], licence: str = "") -> str:
    """The content of :data:`ENGINE_FACTS`.

    Args:
        signature: of the engine.
        report: the library that built it, with its version, and the shapes that it takes.
        licence: of the weights; nothing where it is unknown.
    """
    facts = {SIGNATURE: signature.with_images(None).to_json(), "report": dict(report)}
    return json.dumps({**facts, LICENCE: licence} if licence else facts, indent=1) + "\n"
