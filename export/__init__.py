"""Files to deploy: generator or graph in, file out, proved equal.

Read first: :mod:`export.exporter`. Names are resolved when first used, so that importing the
package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.exporter import Exporter
    from export.onnx import Onnx
    from export.openvino import OpenVino
    from export.tensorrt import TensorRt
    from export.triton import Triton

PLACES = {
    "Exporter": "exporter",
    "Onnx": "onnx",
    "OpenVino": "openvino",
    "TensorRt": "tensorrt",
    "Triton": "triton",
}
"""Where each public name lives."""

__all__ = ["Exporter", "Onnx", "OpenVino", "TensorRt", "Triton"]


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"export.{PLACES[name]}"), name)
    raise AttributeError(f"module 'export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
