"""The processes that a launcher started for one command: ``accelerate launch``, ``torchrun``.

A launcher starts the same command several times and tells each copy its rank. All do the same work
with their own random inputs; the first alone speaks, writes, and decides what depends on a clock.
A command that no launcher started is the first of one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")


def count() -> int:
    """How many processes do this work together."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def leads() -> bool:
    """Whether this is the process that speaks and writes."""
    return count() == 1 or int(os.environ.get("RANK") or 0) == 0


def accelerator(*, idle_weights: bool = False) -> Accelerator:
    """This process's device and its tie to the others; bf16 autocast where hardware computes it.

    The first call, in whichever process, waits for the others.

    Args:
        idle_weights: whether what will be trained holds weights that get no gradient; several
            processes must look for them at each step, which takes time.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import is_initialized

    handlers = [DistributedDataParallelKwargs(find_unused_parameters=idle_weights)]
    if is_initialized():  # by us, or by whoever uses genslim as a library: a process has one state
        return Accelerator(kwargs_handlers=handlers)
    return Accelerator(
        # Unless told so, accelerate takes several processes without a GPU for single ones.
        cpu=count() > 1 and not has_device(),
        mixed_precision="bf16" if has_bf16() else "no",
        kwargs_handlers=handlers,
    )


def has_device() -> bool:
    """Whether there is an accelerator that several processes can work on together."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    return device is not None and device.type != "mps"


def has_bf16() -> bool:
    """Whether the machine computes bf16 in hardware; emulated, it is slower than float32."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.accelerator.is_available():
        return False  # not known to be faster there
    # torch has no public question for these.
    return bool(torch.cpu._is_avx512_bf16_supported()) or has_amx()


def has_amx() -> bool:
    """Whether the CPU has units for products of small matrices, in bf16 and int8."""
    import torch

    return bool(torch.cpu._is_amx_tile_supported())


def agreed(value: T) -> T:
    """The first process's ``value``, in every process; all must call it alike."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    accelerator()
    values = [value]
    broadcast_object_list(values)
    return values[0]
