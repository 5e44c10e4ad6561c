"""Every architecture that is known: pruned, saved, opened without its source, exported, and built.

The matrix takes minutes (``make matrix``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, OTHERS
from torch import Tensor

from compress.prune import Prune
from export.engine.building import build
from export.tensorrt import products_of
from genslim import artifact
from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.half import to_fp16
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.run import Run
from genslim.runtimes.tensorrt import find_tensorrt
from genslim.signature import BATCH
from genslim.signs import signed

LOST: Mapping[str, float] = {
    "esrgan-6": 0.70,
    "esrgan-23": 0.64,
    "rcan": 0.75,
    "compact": 0.71,
    "swiftsrgan": 0.70,
    "span": 0.72,
    "realcugan-2x": 0.77,
    "realcugan-3x": 0.78,
    "realcugan-4x": 0.73,
    "nafnet": 0.74,
    "fbcnn": 0.86,
    "plksr": 0.66,
    "realplksr": 0.70,
    "mosr": 0.61,
    "kbnet-s": 0.56,
    "safmn": 0.73,
    "swinir": 0.74,
    "dcgan": 0.57,
    "autoencoderkl-decoder": 0.75,
    "autoencodertiny-decoder": 0.72,
    "vqmodel-decoder": 0.76,
    "unet2d": 0.59,
    "unet2d-condition": 0.55,
    "cyclegan-resnet": 0.80,
    "pix2pix-unet": 0.78,
}
"""The least share of its parameters that each loses with half of its channels."""
LACKING: Mapping[str, str] = {}
"""What TensorRT-RTX lacks for an fp16 engine of it: an operator's name."""
QUICK = (
    *("dncnn", "stylegan", "vae-decoder", "mlp-gan", "gated-inpainting", "srresnet"),
    *("shufflenet", "mobilenet", "self-attention"),
)
"""Of what is known beyond the matrix."""


def pruned_and_opened(generator: Generator, folder: Path) -> tuple[Generator, dict[str, Tensor]]:
    """``generator`` with half of its channels, checked; and an input of it."""
    pruned = Prune(0.5, recover="none")(generator)
    for sizes in (False, True):
        inputs = some_inputs(generator, 1 + sizes, larger=sizes)
        images = pruned(inputs)
        assert images.shape == generator(inputs).shape
        assert bool(images.isfinite().all())
    inputs = some_inputs(generator, 1)
    images = pruned(inputs)
    run = Run(folder / "run")
    with run.locked():
        run.start(generator)
        saved = run.append(pruned, "prune", parent="00-original")
    for source in (folder / "source", folder / "images"):  # what the user had is gone
        if source.exists():
            source.rename(folder / "elsewhere")
    assert saved.path is not None
    opened = artifact.load(saved.path)
    assert torch.equal(opened(inputs), images)
    assert opened.steps[-1].report == pruned.steps[-1].report
    return opened, inputs


def some_inputs(generator: Generator, count: int, *, larger: bool = False) -> dict[str, Tensor]:
    """Inputs of the usual size; or higher ones, where the sides are free."""
    signature = generator.signature
    if larger:
        specs = []
        for spec in signature.inputs:
            sides = {k: v for k, v in (spec.sizes or {}).items() if k != BATCH}
            tallest = {k: v + spec.multiple_of for k, v in list(sides.items())[:1]}
            specs.append(replace(spec, sizes={**(spec.sizes or {}), **tallest}))
        signature = replace(signature, inputs=tuple(specs))
    return Inputs(signature, "parity").draw(count)


def share_lost(generator: Generator) -> float:
    before, after = generator.steps[-1].report["parameters"]
    return float(1 - after / before)


def check_left(generator: Generator) -> None:
    """Whatever is left whole says why."""
    assert all(item["what"] and item["reason"] for item in generator.steps[-1].report["left"])


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_pruned_saved_and_exported(name: str, tmp_path: Path) -> None:
    import onnxruntime

    (tmp_path / "source").mkdir()
    generator = ARCHITECTURES[name](tmp_path / "source")
    opened, inputs = pruned_and_opened(generator, tmp_path)
    check_left(opened)
    assert share_lost(opened) >= LOST[name]
    graph = onnx_of(opened)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (made, *_) = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    expected = opened(inputs).numpy()
    assert np.abs(made - expected).max() < 1e-3 * expected.std()
    check_engine(graph, opened, LACKING.get(name))


def check_engine(graph: bytes, generator: Generator, lacking: str | None) -> None:
    """TensorRT-RTX builds it in fp16, or names the operator that it lacks."""
    if find_spec("tensorrt_rtx") is None:
        return
    half = signed(to_fp16(graph))
    if lacking is not None:
        with pytest.raises(GenslimError, match=lacking):
            build(find_tensorrt("tensorrt_rtx"), half, generator.signature)
        return
    built = build(find_tensorrt("tensorrt_rtx"), half, generator.signature)
    assert built.engine is not None
    kinds = list(built.engine.products(products_of(half)).values())
    assert kinds.count("fp16") >= 0.9 * len(products_of(half))


def test_most_architectures_lose_two_fifths_of_their_parameters() -> None:
    assert LOST.keys() == ARCHITECTURES.keys()
    assert len(LOST) >= 25
    assert sum(share >= 0.4 for share in LOST.values()) >= 20


@pytest.mark.parametrize("name", QUICK)
def test_networks_of_ones_own_are_pruned_and_saved(name: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    opened, _ = pruned_and_opened(OTHERS[name](tmp_path / "source"), tmp_path)
    check_left(opened)
    assert share_lost(opened) >= 0.15
