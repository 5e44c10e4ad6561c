"""Long work that was interrupted, on disk: what it takes to go on where it stopped.

One safetensors file, whose header holds the figures: nothing in it is code, and one rename makes
it whole. It belongs to one piece of work, named by a fingerprint; for anything else it does not
exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from genslim.console import Console
from genslim.storage import write_whole

CURRENT: ContextVar[Checkpoint | None] = ContextVar("CURRENT", default=None)
"""Of the step that is being applied. A context rather than a parameter of every ``apply``: where
a command keeps unfinished work is no part of what a step is asked to do."""


@dataclass
class Saved:
    """What a checkpoint holds."""

    figures: dict[str, Any]
    """Plain JSON."""
    tensors: dict[str, Tensor]

    def put(self, part: str, tensors: Mapping[str, Tensor]) -> None:
        """Add tensors under ``part``."""
        self.tensors |= {f"{part}.{name}": tensor for name, tensor in tensors.items()}

    def part(self, part: str) -> dict[str, Tensor]:
        """The tensors that were put under ``part``."""
        start = f"{part}."
        found = {k: v for k, v in self.tensors.items() if k.startswith(start)}
        return {name.removeprefix(start): tensor for name, tensor in found.items()}

    def checksum(self) -> str:
        """Of everything."""
        return hash_of(self.figures, dict(sorted(self.tensors.items())))


@dataclass(frozen=True)
class Checkpoint:
    """Where unfinished work is kept, and what it is for."""

    path: Path
    purpose: str = ""
    """Whatever tells this work from other work that may leave a checkpoint at the same path."""

    def read(self, fingerprint: str, console: Console) -> Saved | None:
        """What was saved under ``fingerprint``, or None; a damaged file is warned of."""
        from safetensors import safe_open

        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                header = file.metadata()
                if header["fingerprint"] != self.key(fingerprint):
                    return None
                figures = dict(json.loads(header["figures"]))
                names = sorted(file.keys())
                saved = Saved(figures, {name: file.get_tensor(name) for name in names})
            if header["checksum"] != saved.checksum():
                raise ValueError("checksum")
        except Exception as error:  # whatever safetensors and json make of a damaged file
            console.warn(f"{self.path} is damaged and is not used ({error})")
            return None
        return saved

    def write(self, fingerprint: str, saved: Saved) -> None:
        """Replace what was there.

        Raises:
            UserError: it can't be written; what was there stays.
        """
        from safetensors.torch import save

        # Copies, because safetensors refuses tensors that share memory.
        copies = {k: v.detach().cpu().clone().contiguous() for k, v in saved.tensors.items()}
        header = {
            "fingerprint": self.key(fingerprint),
            "figures": json.dumps(saved.figures),
            "checksum": saved.checksum(),
        }
        write_whole(self.path, save(copies, header))

    def remove(self) -> None:
        """The work is done, or can't be."""
        self.path.unlink(missing_ok=True)

    def key(self, fingerprint: str) -> str:
        """The fingerprint together with the purpose."""
        return hashlib.sha256(f"{self.purpose}/{fingerprint}".encode()).hexdigest()


@contextmanager
def kept_at(path: Path | None, purpose: str) -> Iterator[None]:
    """Let work inside find its checkpoint by :func:`current`; with None it finds none."""
    token = CURRENT.set(Checkpoint(path, purpose) if path else None)
    try:
        yield
    finally:
        CURRENT.reset(token)


def current() -> Checkpoint | None:
    """Where the step that is being applied keeps unfinished work, if anywhere."""
    return CURRENT.get()


def state_of(optimiser: Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, by the parameter's number and a word."""
    memory = optimiser.state_dict()["state"].items()
    return {f"{index}.{key}": tensor for index, state in memory for key, tensor in state.items()}


def load_state(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser of the same parameters what :func:`state_of` read."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    memory: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        memory.setdefault(int(index), {})[key] = laid_out(tensor, parameters[int(index)])
    optimiser.load_state_dict({**optimiser.state_dict(), "state": memory})


def laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """``tensor`` with its elements in memory as those of ``parameter`` are.

    Fused optimisers go through both from end to end, and files hold one order alone.
    """
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)


def hash_of(facts: Any, tensors: Mapping[str, Tensor]) -> str:
    """A fingerprint of plain JSON and of tensors' names, shapes, types and values."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
