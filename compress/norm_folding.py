"""Batch norms folded into the convolutions before them: outside training both are linear."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from compress.followers import Followers, names_of
from genslim.generator import Generator, run_module
from genslim.onnx_model import load_model

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
TOLERANCE = 1e-4
"""Of the value range: how far pictures may move by it."""


@torch.no_grad()
def without_batch_norms(module: nn.Module, generator: Generator) -> tuple[nn.Module, list[str]]:
    """A copy of ``module`` whose batch norms are part of the layers before them.

    Args:
        module: in evaluation mode.
        generator: says how it is called.

    Returns:
        The copy, and the names of the norms that are identities now.
    """
    result = copy.deepcopy(module).eval()
    if not names_of(module, NORMS):
        return result, []
    runs = Followers(module, generator)
    folded = []
    for name in names_of(module, LAYERS):
        norm = runs.after(name, NORMS)
        if norm is None or result.get_submodule(norm).running_mean is None:
            continue
        layer, following = result.get_submodule(name), result.get_submodule(norm)
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) and layer.groups > 1:
            continue
        result.set_submodule(name, fused(layer, following), strict=True)
        result.set_submodule(norm, nn.Identity(), strict=True)
        images = run_module(result, generator.signature, runs.inputs)
        near = TOLERANCE * generator.signature.data_range
        if float((images - runs.images).abs().max()) <= near:
            folded.append(norm)
        else:  # something else reads what the layer makes
            result.set_submodule(name, layer, strict=True)
            result.set_submodule(norm, following, strict=True)
    return result, folded


def folded(graph: bytes) -> bytes:
    """An ONNX graph whose batch norms are part of the layers before them, as far as ONNX Runtime
    folds them; the same graph where it has none.
    """
    import onnx
    import onnxruntime

    model = load_model(graph)
    if all(node.op_type != "BatchNormalization" for node in model.graph.node):
        return graph
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Operators of ONNX alone, for every runtime.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="genslim-") as folder:
        place = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(place)
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        result = onnx.load(place)
    used = {node.domain for node in result.graph.node}
    domains = [entry for entry in result.opset_import if entry.domain in used]
    del result.opset_import[:]
    result.opset_import.extend(domains)
    return bytes(result.SerializeToString())


def fused(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """One layer that computes what both do."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    assert isinstance(layer, CONVOLUTIONS)
    transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
    return fuse_conv_bn_eval(layer, norm, transpose=transposed)
