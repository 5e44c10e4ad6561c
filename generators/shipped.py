"""Shipped weights: a safetensors file and, beside it, the JSON that says how they were made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genslim.errors import UserError
from genslim.storage import write_whole

FOLDER = Path(__file__).parent / "weights"


def read_shipped(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """The weights of the network ``name``, as they are stored.

    Raises:
        UserError: they are not there.
    """
    from safetensors.torch import load_file

    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(
            f"no weights {path.name} in {folder}",
            hint=f"train them: generators train {name} --data DIR",
        )
    return load_file(path)


def save_shipped(name: str, network: nn.Module, recipe: dict[str, Any], folder: Path) -> Path:
    """Write ``name.safetensors`` and ``name.json`` into ``folder``; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    blob = save_weights(network, path)
    facts = {**recipe, "sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return path


@torch.no_grad()
def round_as_stored(network: nn.Module) -> None:
    """Round the weights, in place, to what :func:`save_weights` keeps of them."""
    for tensor in network.state_dict().values():
        tensor.copy_(stored(tensor))


def stored(tensor: Tensor) -> Tensor:
    """Half precision for kernels and matrices; vectors, which are small, stay as they are."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def save_weights(network: nn.Module, path: Path) -> bytes:
    """Write the network's state as safetensors; return what was written."""
    from safetensors.torch import save

    blob = save({k: stored(v.detach()).contiguous() for k, v in network.state_dict().items()})
    write_whole(path, blob)
    return blob


def facts(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """How the shipped weights ``name`` were made, or an empty dictionary without them."""
    path = folder / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
