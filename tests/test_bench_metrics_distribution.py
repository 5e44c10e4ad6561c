"""Distributions against SciPy and scikit-learn, and the collapse of modes that they must show."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial import KDTree, distance
from skimage.feature import match_template
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor, nn

from bench import Measurement, measure
from bench.metrics.distribution import (
    Distribution,
    Yardstick,
    collapse,
    fid,
    kid,
    neighbourhoods,
)
from bench.metrics.diversity import mean_distance, pixel_diversity
from bench.metrics.self_similarity import PATCH, STEP, self_similarity
from bench.tables.rows import (
    DISTRIBUTION,
    EVERY,
    NOTHING,
    cells,
    distribution_method,
    distribution_rows,
    every_row,
    present,
)
from compress import Prune
from genslim import load
from genslim.generator import Generator, StepRecord
from genslim.inputs import Inputs

SPAN = (-1.0, 1.0)


def points(seed: int, count: int, width: int = 6, scale: float = 1.0) -> Tensor:
    """Normally distributed features ``(N, D)``."""
    return scale * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_fid_is_scipys() -> None:
    a, b = points(0, 90), points(1, 70, scale=1.5) + 0.3
    (mean_a, cov_a), (mean_b, cov_b) = (
        (p.double().numpy().mean(0), np.cov(p.double().numpy(), rowvar=False)) for p in (a, b)
    )
    root = np.real(linalg.sqrtm(cov_a @ cov_b))
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert fid(a, b) == pytest.approx(expected, rel=1e-6)
    assert fid(b, a) == pytest.approx(expected, rel=1e-6)
    assert fid(a, a) == pytest.approx(0, abs=1e-6)
    assert fid(a, b[:1]) is None


def test_kid_is_scikit_learns() -> None:
    a, b = points(0, 40), points(1, 40, scale=1.5)
    x, y = a.double().numpy(), b.double().numpy()

    def kernel(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return polynomial_kernel(p, q, degree=3, gamma=1 / p.shape[1], coef0=1)

    within = [(k.sum() - np.trace(k)) / (40 * 39) for k in (kernel(x, x), kernel(y, y))]
    # As many images on both sides, so that each subset is all of them.
    expected = sum(within) - 2 * kernel(x, y).mean()
    assert kid(a, b) == pytest.approx(expected, rel=1e-6)
    state = torch.random.get_rng_state()
    assert kid(a, points(2, 90)) == kid(a, points(2, 90))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert kid(a[:1], b) is None


@pytest.mark.parametrize("seed", range(4))
def test_neighbourhoods_are_those_of_a_kd_tree(seed: int) -> None:
    reference, ours = points(seed, 60), points(seed + 9, 50, scale=0.4 + seed / 4)
    found = neighbourhoods(reference, ours, k=5)
    x, y = reference[:50].double().numpy(), ours.double().numpy()
    balls_x, balls_y = (KDTree(p).query(p, k=6)[0][:, -1] for p in (x, y))
    in_x = [[j for j in range(50) if np.linalg.norm(x[j] - q) <= balls_x[j]] for q in y]
    assert found == pytest.approx(
        {
            "precision": np.mean([len(hits) > 0 for hits in in_x]),
            "recall": np.mean([(np.linalg.norm(y - p, axis=1) <= balls_y).any() for p in x]),
            "density": np.mean([len(hits) for hits in in_x]) / 5,
            "coverage": len(set().union(*in_x)) / 50,
        }
    )
    assert 0 < min(found.values()) < 1


def test_neighbourhoods_of_equal_far_and_few_points() -> None:
    a = points(0, 40)
    same = neighbourhoods(a, a)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    assert neighbourhoods(a, a + 1000) == dict.fromkeys(same, 0)
    assert neighbourhoods(a, a[:5]) == {}
    # One point again and again: all of it is near the reference, and little of the reference near.
    collapsed = neighbourhoods(a, a[:1].expand(40, -1))
    assert collapsed["precision"] == 1
    assert collapsed["coverage"] < 0.4
    assert collapsed["recall"] == 1 / 40


def test_diversity_is_scipys() -> None:
    a = points(0, 30, 48)
    assert mean_distance(a) == pytest.approx(distance.pdist(a.double().numpy()).mean())
    assert pixel_diversity(a) == pytest.approx(distance.pdist(a.double().numpy()).mean() / 48**0.5)
    assert mean_distance(a[:1]) is None
    black_and_white = torch.tensor([[0.0] * 9, [1.0] * 9])
    assert pixel_diversity(black_and_white) == 1


def test_self_similarity_is_that_of_scikit_images_template_matching() -> None:
    image = np.random.default_rng(0).random((30, 26))
    places = [(y, x) for y in range(0, 23, STEP) for x in range(0, 19, STEP)]
    best = []
    for top, left in places:
        match = match_template(image, image[top : top + PATCH, left : left + PATCH])
        apart = [p for p in places if max(abs(p[0] - top), abs(p[1] - left)) >= PATCH]
        best.append(max(match[p] for p in apart))
    found = self_similarity(torch.tensor(image)[None, None], data_range=1.0)
    assert found == pytest.approx(np.mean(best), abs=1e-4)


def test_self_similarity_of_tiles_noise_and_flat_images() -> None:
    random = torch.Generator().manual_seed(0)
    tile = torch.rand(1, 3, 8, 8, generator=random)
    noise = torch.rand(2, 3, 64, 64, generator=random)
    assert self_similarity(tile.repeat(1, 1, 8, 8), data_range=1.0) == pytest.approx(1, abs=1e-4)
    of_noise = self_similarity(noise, data_range=1.0)
    assert of_noise is not None
    assert of_noise < 0.5
    assert self_similarity(5 * noise - 3, data_range=5.0) == pytest.approx(of_noise, abs=1e-4)
    assert self_similarity(torch.ones(2, 1, 64, 64), data_range=1.0) is None
    assert self_similarity(noise[..., :7], data_range=1.0) is None
    # A flat image has no figure, and does not move that of the others.
    with_flat = torch.cat([noise, torch.zeros(1, 3, 64, 64)])
    assert self_similarity(with_flat, data_range=1.0) == pytest.approx(of_noise)
    large = torch.rand(1, 1, 300, 200, generator=random)
    centre = large[..., 86:214, 36:164]
    assert self_similarity(large, data_range=1.0) == self_similarity(centre, data_range=1.0)


def test_images_that_are_not_finite_have_no_distribution() -> None:
    images = np.random.default_rng(0).random((8, 1, 16, 16), dtype=np.float32)
    broken = images.copy()
    broken[3, 0, 1, 1] = np.inf
    yardstick = Yardstick(images, (0.0, 1.0))
    assert yardstick.read(broken) is None
    found = yardstick.read(images)
    assert found is not None
    assert found.coverage == found.recall == found.precision == 1
    assert found.fid is found.kid is found.feature_diversity is None
    assert (found.features, found.reference, found.reference_count) == ("pixels", "original", 8)
    assert Distribution.from_json(json.loads(json.dumps(asdict(found)))) == found
    few = Yardstick(images[:1], (0.0, 1.0)).read(images[:1])
    assert few is not None
    assert few.diversity is few.coverage is None
    assert collapse(few, found) is None


def test_pixels_of_large_images_are_averaged() -> None:
    coarse = np.random.default_rng(0).random((6, 3, 64, 64), dtype=np.float32)
    large = coarse.repeat(3, axis=2).repeat(2, axis=3)
    small, big = (Yardstick(i, (0.0, 1.0)).read(i) for i in (coarse, large))
    assert small is not None
    assert big is not None
    assert big.diversity == pytest.approx(small.diversity, rel=1e-5)


def test_a_collapse_of_the_shipped_generator_shows_and_a_sound_pruning_does_not() -> None:
    original = load("dcgan-mnist")
    (z,) = Inputs(original.signature, "quality", 0).draw(256).values()
    pruned = Prune(0.5, importance="l1", allocation="uniform", recover="closed-form")(original)

    def make(latents: Tensor, generator: Generator = original) -> np.ndarray:
        return generator({"z": latents}).numpy()

    yardstick = Yardstick(make(z), SPAN)
    (other,) = Inputs(original.signature, "quality", 1).draw(256).values()
    read = {
        name: yardstick.read(images)
        for name, images in {
            "original": make(z),
            "pruned": make(z, pruned),
            "other latents": make(other),
            "clamped": make(z.clamp(-0.1, 0.1)),
            "one latent": make(z[:1] + 0.1 * z),
            "sixteen latents": make(z[:16].repeat(16, 1)),
            "half of one latent": make(torch.cat([z[:128], z[:1].expand(128, -1)])),
        }.items()
    }
    found = {name: distribution for name, distribution in read.items() if distribution}
    assert len(found) == len(read)
    first = found["original"]
    verdicts = {name: collapse(distribution, first) for name, distribution in found.items()}
    assert [name for name, verdict in verdicts.items() if not verdict] == [
        "original",
        "pruned",
        "other latents",
    ]
    assert first.diversity is not None
    assert found["pruned"].diversity == pytest.approx(first.diversity, rel=0.03)
    assert found["pruned"].coverage == pytest.approx(1, abs=0.02)
    # The clamped and the one latent are seen by coverage; half of one latent by diversity.
    assert "coverage of the original images" in str(verdicts["clamped"])
    assert "coverage" in str(verdicts["one latent"])
    assert "diversity" in str(verdicts["half of one latent"])


MEASURED: list[Measurement] = []
"""Made by the first test that needs it: it is immutable, and takes seconds."""


@pytest.fixture
def measured(tiny_gan: Generator) -> Measurement:
    """The original and one whose latents are clamped, measured as a user would."""

    class Shrunk(nn.Module):
        """Draws hardly anything but one image."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, z: Tensor) -> Tensor:
            return self.inner(0.05 * z)

    if not MEASURED:
        clamped = tiny_gan.with_step(
            StepRecord("clamp", {}), module=Shrunk(tiny_gan.trainable()).eval()
        )
        MEASURED.append(
            measure(
                [tiny_gan, clamped],
                "torch:batch=8,threads=1",
                runtimes=["torch"],
                count=32,
                rounds=3,
                memory=False,
            )
        )
    return MEASURED[0]


def test_a_measurement_holds_the_distributions_and_warns(measured: Measurement) -> None:
    first, second = (a.readings[0].distribution for a in measured.artifacts)
    assert first is not None
    assert second is not None
    assert first.count == second.count == 32
    assert first.coverage == 1
    assert first.diversity is not None
    assert second.diversity is not None
    assert second.diversity < 0.5 * first.diversity
    (warning,) = [line for line in measured.warnings if "modes have collapsed" in line]
    assert warning.startswith("01-clamp on torch")
    again = Measurement.from_json(json.loads(json.dumps(measured.to_json())))
    assert [a.readings for a in again.artifacts] == [a.readings for a in measured.artifacts]
    assert again.warnings == measured.warnings


def test_records_of_before_have_no_distribution(measured: Measurement) -> None:
    data = json.loads(json.dumps(measured.to_json()))
    for artifact in data["artifacts"]:
        for reading in artifact["readings"]:
            del reading["distribution"]
            for name in ("ms_ssim", "lpips", "defects"):
                del reading["quality"][name]
    old = Measurement.from_json(data)
    assert old.baseline.distribution is None
    assert old.baseline.quality.ssim == measured.baseline.quality.ssim
    assert distribution_rows(old) == []
    assert distribution_method(old) is None
    assert not any("collapsed" in line for line in old.warnings)


def test_the_table_of_distributions(measured: Measurement) -> None:
    table = distribution_rows(measured)
    assert [line["step"] for line in table] == ["baseline", "01-clamp"]
    shown = present(DISTRIBUTION, table)
    assert [c.key for c in shown if c.key in ("fid", "kid", "coverage")] == ["coverage"]
    assert NOTHING not in [cell for line in cells(table, shown) for cell in line]
    assert "32 of the original's images" in str(distribution_method(measured))
    assert {"ms_ssim", "lpips"} <= {c.key for c in EVERY}
    rows = [replace(row, lpips=0.1234) for row in every_row(measured)]
    perceptual = [c for c in EVERY if c.key == "lpips"]
    assert cells(rows, perceptual) == [["0.1234"]] * 2
    assert "ms_ssim" not in {c.key for c in present(EVERY, rows)}
