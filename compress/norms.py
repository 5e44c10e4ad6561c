"""Batch norms in training: whose statistics they go by, and estimating these anew."""

from __future__ import annotations

import torch
from torch import nn

from genslim.generator import Generator, run_module
from genslim.inputs import Inputs


@torch.no_grad()
def recalibrate_norms(student: nn.Module, teacher: Generator, seed: int, batches: int = 8) -> None:
    """Re-estimate the batch norms' statistics, which a cut moved away from what was recorded."""
    norms = [m for m in student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    student.train()
    stream = Inputs(teacher.signature, "calibration", seed)
    for _ in range(batches):
        run_module(student, teacher.signature, stream.draw(32))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    student.eval()


def train_mode(module: nn.Module, adapt_norms: bool) -> None:
    """Training mode, in which batch norms go by the batch only where they may adapt."""
    module.train()
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.train(adapt_norms)
