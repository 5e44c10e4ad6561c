"""PyTorch eager: the baseline that every gain is measured against."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genslim.errors import GenslimError, UserError
from genslim.runtimes.base import Arrays, Execution, Runtime, Session
from genslim.target import Target

if TYPE_CHECKING:
    from genslim.generator import Generator


class PyTorch(Runtime):
    """The module itself, op by op."""

    name = "torch"

    def missing(self) -> str | None:
        """Never missing: torch is a dependency."""
        return None

    def takes(self, generator: Generator) -> bool:
        """Generators that still have a module."""
        return generator.module is not None

    def open(self, generator: Generator, target: Target, *, profile: bool = False) -> Session:
        """Run the module with ``target.threads`` intra-op threads."""
        self.require_takes(generator)
        if target.precision == "bf16":
            raise UserError("the torch runtime runs modules as they are", hint="precision=auto")
        if target.device == "cuda":
            require_cuda()
        return PyTorchSession(generator, target)


class PyTorchSession(Session):
    """Eager execution in inference mode."""

    def __init__(self, generator: Generator, target: Target) -> None:
        import torch

        assert generator.module is not None
        assert target.threads is not None
        self._torch = torch
        self._device = torch.device(target.device)
        self._module = generator.module.eval()
        if target.device != "cpu":
            self._module = copy.deepcopy(self._module).to(self._device)
        self._signature = generator.signature
        self._threads = target.threads
        provider = "eager" if target.device == "cpu" else f"eager on {target.device}"
        precision = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
        self.execution = Execution(
            "torch", torch.__version__, provider, precision[generator.dtype], target.threads
        )

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Run the module."""
        from genslim.generator import run_module

        torch = self._torch
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            tensors = {
                name: torch.from_numpy(np.asarray(array)).to(self._device)
                for name, array in inputs.items()
            }
            images = run_module(self._module, self._signature, tensors)
        return {self._signature.images.name: images.cpu().numpy()}


def require_cuda() -> None:
    """Raise GenslimError where PyTorch has no GPU to run on."""
    import torch

    if not torch.cuda.is_available():
        raise GenslimError(
            f"PyTorch {torch.__version__} finds no CUDA GPU",
            hint="install a CUDA build on a machine with an NVIDIA GPU, or leave out device=cuda",
        )
