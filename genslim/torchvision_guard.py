"""Lets torchvision import beside a torch it was not built for.

The registry's torchvision next to a CPU build of torch fails on import with "operator
torchvision::nms does not exist": its Python half describes two operators whose compiled half did
not load. spandrel and diffusers import torchvision and use neither operator. Declaring their
signatures is enough; calling them still fails, as it should.
"""

from __future__ import annotations

import importlib
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[Any] = []  # a torch Library lives as long as something holds it


def ensure_torchvision_imports() -> None:
    """Import torchvision if it is installed; declare its operators only where it fails for them."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            library.define(schema)
        _declared.append(library)
        importlib.import_module("torchvision")
