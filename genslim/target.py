"""Where a generator will run: runtime, device, precision, batch, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from genslim.errors import UserError
from genslim.signature import Signature

Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["cpu", "cuda"]

LATENT_BATCH = 16
"""The batch that latents are measured at unless another is asked for; images: one at a time."""


@dataclass(frozen=True)
class Target:
    """A place to run. Every decision about speed is measured on one."""

    runtime: str = "openvino"
    batch: int | None = None
    """None: 16 where inputs are latents, 1 where they are images."""
    threads: int | None = None
    """None: as many as this process may use."""
    precision: Precision = "auto"
    """What floating-point layers are computed in; ``auto`` leaves it to the runtime."""
    device: Device = "cpu"
    """``cuda``: the first NVIDIA GPU."""

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``openvino``, ``onnxruntime:batch=1,threads=2`` or ``openvino:precision=bf16``.

        Raises:
            UserError: an unknown setting or a value that is none.
        """
        runtime, _, settings = text.partition(":")
        target = cls(runtime=runtime)
        for setting in filter(None, settings.split(",")):
            key, _, value = setting.partition("=")
            number = int(value) if value.isdecimal() else 0
            if key == "batch" and number > 0:
                target = replace(target, batch=number)
            elif key == "threads" and number > 0:
                target = replace(target, threads=number)
            elif key == "precision" and value in get_args(Precision):
                target = replace(target, precision=cast("Precision", value))
            elif key == "device" and value in get_args(Device):
                target = replace(target, device=cast("Device", value))
            else:
                raise UserError(
                    f"target {text!r}: {setting!r} is no setting",
                    hint="write RUNTIME:batch=N,threads=N,precision=auto|fp32|bf16,device=cpu|cuda",
                )
        return target

    def settled(self, signature: Signature) -> Target:
        """The same target with its batch and threads filled in for this signature and machine."""
        return replace(
            self,
            batch=self.batch or (1 if signature.takes_images else LATENT_BATCH),
            threads=self.threads or usable_cores(),
        )

    def __str__(self) -> str:
        settings = [f"batch={self.batch}"] if self.batch else []
        settings += [f"threads={self.threads}"] if self.threads else []
        settings += [f"precision={self.precision}"] if self.precision != "auto" else []
        settings += [f"device={self.device}"] if self.device != "cpu" else []
        return self.runtime + (":" + ",".join(settings) if settings else "")


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
