"""Measurements: figures from raw values, JSON without loss, refusals and broken images kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import Measurement, measure
from bench.harness.candidates import Candidate, images_from
from bench.harness.measuring import check, targets
from bench.quality import Quality, judge
from genslim.errors import UserError
from genslim.generator import Generator, StepRecord
from genslim.onnx_graph import onnx_of
from genslim.runtimes import Execution, Session
from genslim.target import Target

TARGET = "openvino:batch=4,threads=1"


def perturbed(generator: Generator, amount: float, name: str = "fake") -> Generator:
    """The generator after a step that moves its weights a little."""
    module = generator.trainable()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + amount * torch.randn_like(parameter))
    return generator.with_step(
        StepRecord(name, {"amount": amount}, {"changed": ["all"]}), module=module
    )


MEASURED: list[Measurement] = []
"""Made by the first test that needs it: it is immutable, and takes seconds."""


@pytest.fixture
def measured(tiny_gan: Generator) -> Measurement:
    """The original and one step, on two runtimes, quickly."""
    if not MEASURED:
        generators = [tiny_gan, perturbed(tiny_gan, 0.05)]
        names = ["torch", "onnxruntime"]
        MEASURED.append(
            measure(generators, TARGET, runtimes=names, count=10, rounds=3, memory=False)
        )
    return MEASURED[0]


def test_every_artifact_is_measured_on_every_runtime(measured: Measurement) -> None:
    assert [a.name for a in measured.artifacts] == ["00-original", "01-fake"]
    for artifact in measured.artifacts:
        assert [r.runtime for r in artifact.readings] == ["torch", "onnxruntime"]
        for reading in artifact.readings:
            assert len(reading.latency.milliseconds) == 3
            assert min(reading.latency.milliseconds) > 0
            assert len(reading.quality.ssim) == 10
            assert reading.execution.threads == 1
            assert reading.execution.precision == "fp32"
    assert measured.artifacts[1].parent == "00-original"
    assert measured.image_shape == (1, 32, 32)


def test_the_original_equals_itself_and_a_step_does_not(measured: Measurement) -> None:
    baseline = measured.baseline.quality
    assert baseline.ssim_mean == pytest.approx(1, abs=1e-6)
    assert baseline.mse_mean == 0
    assert measured.baseline.execution.provider == "eager"
    step = measured.artifacts[1].readings
    assert all(r.quality.ssim_mean is not None and r.quality.ssim_mean < 0.9999 for r in step)
    # Two runtimes of the same weights agree with each other far better than with the original.
    assert step[0].quality.ssim_mean == pytest.approx(step[1].quality.ssim_mean, abs=1e-3)


def test_quality_is_that_of_the_generators_own_images(
    tiny_gan: Generator, measured: Measurement
) -> None:
    from genslim.inputs import Inputs
    from genslim.metrics import compare

    inputs = Inputs(tiny_gan.signature, "quality", 0).draw(10)
    expected = compare(perturbed(tiny_gan, 0.05)(inputs), tiny_gan(inputs), data_range=2.0)
    found = measured.artifacts[1].reading("torch")
    assert found is not None
    assert found.quality.ssim == pytest.approx(expected.ssim, abs=1e-4)
    assert found.quality.mse == pytest.approx(expected.mse, rel=1e-3)


def test_json_and_back_loses_nothing(measured: Measurement, tmp_path: Path) -> None:
    measured.save(tmp_path / "bench")
    found = Measurement.load(tmp_path / "bench")
    assert json.dumps(found.to_json()) == json.dumps(measured.to_json())
    assert found.artifacts[1].readings == measured.artifacts[1].readings
    assert found.target == measured.target
    assert found.pictures is not None
    assert measured.pictures is not None
    assert found.pictures.indices == measured.pictures.indices
    np.testing.assert_array_equal(found.pictures.reference, measured.pictures.reference)
    assert found.pictures.images.keys() == {"00-original", "01-fake"}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', '{"format": "x"}'])
def test_a_damaged_measurement_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "measurement.json").write_text(damage)
    with pytest.raises(UserError, match="damaged"):
        Measurement.load(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "measurement.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="upgrade genslim"):
        Measurement.load(tmp_path)


def test_missing_and_damaged_pictures_are_refused(measured: Measurement, tmp_path: Path) -> None:
    measured.save(tmp_path)
    (file,) = tmp_path.glob("*.npz")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\x03\x04 cut short"):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            Measurement.load(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=f"no file .*{file.name}"):
        Measurement.load(tmp_path)


def test_a_measurement_keeps_its_own_pictures(measured: Measurement, tmp_path: Path) -> None:
    measured.save(tmp_path)
    (first,) = tmp_path.glob("*.npz")
    assert measured.pictures is not None
    other = replace(measured, pictures=replace(measured.pictures, indices=(5,)))
    other.save(tmp_path)
    (second,) = tmp_path.glob("*.npz")
    assert first.name != second.name
    found = Measurement.load(tmp_path)
    assert found.pictures is not None
    assert found.pictures.indices == (5,)
    replace(measured, pictures=None).save(tmp_path)
    assert Measurement.load(tmp_path).pictures is None
    assert not list(tmp_path.glob("*.npz"))


def test_images_with_nan_are_flagged_and_not_averaged_away(
    tiny_gan: Generator, tmp_path: Path
) -> None:
    module = tiny_gan.trainable()

    class OnceInTwo(torch.nn.Module):
        """Breaks the images whose first latent is positive."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            images = self.inner(z)
            broken = (z[:, :1, None, None] > 0).expand_as(images)
            return torch.where(broken, torch.full_like(images, float("nan")), images)

    broken = tiny_gan.with_step(StepRecord("broken", {}), module=OnceInTwo())
    found = measure(
        [tiny_gan, broken], TARGET, runtimes=["torch"], count=16, rounds=3, memory=False
    )
    quality = found.artifacts[1].readings[0].quality
    assert 0 < quality.broken < 16
    assert quality.ssim_mean is quality.ssim_p5 is quality.psnr_db_mean is quality.mse_mean is None
    assert sum(v is None for v in quality.ssim) == quality.broken
    assert any("01-broken on torch" in w and "NaN" in w for w in found.warnings)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert "NaN" not in text
    from bench.report import write

    (page,) = write(found, tmp_path / "page.html")
    assert f"{quality.broken} of 16 images hold NaN" in page.read_text()


def test_a_graph_alone_is_measured_where_graphs_run(tiny_gan: Generator) -> None:
    graph = replace(
        tiny_gan.with_step(StepRecord("graph", {})), module=None, onnx=onnx_of(tiny_gan)
    )
    found = measure([tiny_gan, graph], TARGET, count=4, rounds=3, memory=False)
    assert [r.runtime for r in found.artifacts[1].readings] == ["onnxruntime", "openvino"]
    assert found.artifacts[1].parameters is not None
    for reading in found.artifacts[1].readings:
        assert reading.deployed_bytes == len(graph.onnx or b"")
        assert reading.quality.ssim_mean == pytest.approx(1, abs=1e-3)


def test_a_graph_that_runtimes_refuse_is_listed_with_the_reason(tiny_gan: Generator) -> None:
    garbage = replace(
        tiny_gan.with_step(StepRecord("garbage", {})), module=None, onnx=b"not a graph"
    )
    candidate = Candidate(garbage, "01-garbage", "step", "00-original")
    for name in ("onnxruntime", "openvino"):
        candidate.open(Target(name, 4, 1), {"z": np.zeros((4, 32), np.float32)})
    assert candidate.sessions == {}
    assert [r.runtime for r in candidate.refusals] == ["onnxruntime", "openvino"]
    assert all("damaged" in r.reason or "refuses" in r.reason for r in candidate.refusals)


def test_peak_memory_of_a_fresh_process(tiny_gan: Generator, tmp_path: Path) -> None:
    from bench.harness.memory import peak_memory

    weights = sum(t.nbytes for t in tiny_gan.trainable().state_dict().values())
    graph = replace(tiny_gan, onnx=onnx_of(tiny_gan))
    without_torch = peak_memory(graph, Target("onnxruntime", 4, 1))
    with_torch = peak_memory(tiny_gan, Target("torch", 4, 1))
    assert without_torch.reason is None
    assert with_torch.reason is None
    assert without_torch.peak_bytes is not None
    assert with_torch.peak_bytes is not None
    assert weights < without_torch.peak_bytes < with_torch.peak_bytes < 4e9


def test_memory_that_can_not_be_measured_has_a_reason(tiny_gan: Generator) -> None:
    from bench.harness.memory import peak_memory

    memory = peak_memory(replace(tiny_gan, onnx=b"garbage"), Target("onnxruntime", 4, 1))
    assert memory.peak_bytes is None
    assert memory.reason is not None
    assert "damaged" in memory.reason
    assert "Traceback" not in memory.reason


def test_the_last_batch_is_filled_up() -> None:
    class Doubling(Session):
        """Takes batches of 4 alone."""

        execution = Execution("fake", "1", "fake", "fp32", 1)

        def run(self, inputs):  # type: ignore[no-untyped-def]
            assert len(inputs["z"]) == 4
            return {"images": 2 * inputs["z"]}

    inputs = {"z": np.arange(10, dtype=np.float32)[:, None]}
    np.testing.assert_array_equal(images_from(Doubling(), inputs, "images", 4), 2 * inputs["z"])
    few = {"z": np.arange(3, dtype=np.float32)[:, None]}
    np.testing.assert_array_equal(images_from(Doubling(), few, "images", 4), 2 * few["z"])


def test_judge_keeps_figures_in_their_places() -> None:
    random = np.random.default_rng(0)
    reference = random.random((5, 1, 16, 16), dtype=np.float32)
    images = reference.copy()
    images[1] += 0.1
    images[3, 0, 2, 2] = np.inf
    quality = judge(images, reference, value_range=(0.0, 1.0))
    assert quality.broken == 1
    assert quality.mse[3] is quality.ssim[3] is quality.psnr_db[3] is None
    assert quality.mse[1] == pytest.approx(0.01, rel=1e-3)
    assert quality.psnr_db[1] == pytest.approx(20, abs=0.01)
    assert quality.mse[0] == 0
    assert quality.worst(2) == [3, 1]


def test_pictures_smaller_than_the_window_have_no_ssim() -> None:
    reference = np.zeros((3, 1, 8, 8), np.float32)
    images = reference + np.float32([0.1, 0.3, 0.2]).reshape(3, 1, 1, 1)
    quality = judge(images, reference, value_range=(0.0, 1.0))
    assert quality.ssim == (None, None, None)
    assert quality.ssim_mean is None
    assert quality.broken == 0
    assert quality.mse_mean == pytest.approx((0.01 + 0.09 + 0.04) / 3)
    assert quality.worst(1) == [1]


def test_percentiles_are_numpys() -> None:
    values = tuple(np.random.default_rng(0).random(37).tolist())
    quality = Quality(values, values, values, 1.0)
    assert quality.ssim_p5 == pytest.approx(np.percentile(values, 5))
    assert quality.ssim_worst == min(values)
    assert quality.ssim_mean == pytest.approx(np.mean(values))


def test_the_best_is_the_fastest_with_sound_images(measured: Measurement) -> None:
    artifact = measured.artifacts[1]
    assert artifact.best is not None
    assert artifact.best.latency.median_ms == min(r.latency.median_ms for r in artifact.readings)
    broken = replace(artifact.best.quality, mse=(None,) * 10)
    readings = tuple(
        replace(r, quality=broken) if r is artifact.best else r for r in artifact.readings
    )
    after = replace(artifact, readings=readings).best
    assert after is not None
    assert after.runtime != artifact.best.runtime


def test_precision_is_asked_of_the_targets_own_runtime_alone() -> None:
    places = targets(Target("openvino", 4, 1, "bf16"), None)
    assert {p.runtime: p.precision for p in places} == {
        "torch": "auto",
        "onnxruntime": "auto",
        "openvino": "bf16",
        "tensorrt": "auto",
    }


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [((0, 30, 60), "count 0"), ((None, 2, 60), "rounds 2"), ((None, 30, 0), "seconds 0")],
)
def test_settings_that_can_not_be(settings: tuple[int | None, int, float], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        check(*settings)


def test_artifacts_of_another_original_are_refused(tiny_gan: Generator) -> None:
    (output,) = tiny_gan.signature.outputs
    other = replace(
        tiny_gan,
        signature=replace(tiny_gan.signature, outputs=(replace(output, value_range=(0.0, 1.0)),)),
    )
    with pytest.raises(UserError, match="other outputs"):
        measure([tiny_gan, other], TARGET)
    with pytest.raises(UserError, match="nothing to measure"):
        measure([], TARGET)
