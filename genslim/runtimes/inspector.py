"""What TensorRT tells of an engine: its layers, and the types of what goes into them and out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

TYPES = {
    **{"HALF": "fp16", "FLOAT": "fp32", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"},
    **{"FP16": "fp16", "FP32": "fp32", "BFLOAT16": "bf16"},
}
"""What the types are called here, by TensorRT's names of them."""
OTHER = "other"
"""Booleans, sizes, and what is told in words that are not known."""


def layers_told(trt: Any, engine: Any) -> list[Mapping[str, Any]]:
    """The layers of a loaded engine as its inspector tells them.

    Where it was built with less than detailed verbosity it tells names alone, which are left out.
    """
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return [each for each in json.loads(text).get("Layers", []) if isinstance(each, dict)]


def types_of(ports: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The types of a layer's inputs or outputs; older versions put type and format into one."""
    return tuple(
        type_in(str(port.get("Datatype") or port.get("Format/Datatype", ""))) for port in ports
    )


def type_in(text: str) -> str:
    """The type in TensorRT's words: ``Half``, ``Channel major FP16 format where C % 8 == 0``."""
    return next((TYPES[word] for word in text.upper().split() if word in TYPES), OTHER)
