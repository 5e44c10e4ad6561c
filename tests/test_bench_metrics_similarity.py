"""MS-SSIM against the paper written out with SciPy, LPIPS against torchmetrics' own network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from torch import Tensor

from bench.metrics.perceptual import ARCHITECTURES, open_lpips, shipped_heads
from bench.metrics.similarity import LEAST_SIDE, WEIGHTS, ms_ssim
from bench.quality import Quality, judge
from genslim.errors import UserError
from genslim.torchvision_guard import ensure_torchvision_imports


def papers_ms_ssim(ours: np.ndarray, theirs: np.ndarray, data_range: float) -> float:
    """Wang, Simoncelli and Bovik 2003 on one channel, in double precision."""
    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))[None]
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2

    def local(image: np.ndarray) -> np.ndarray:
        return signal.convolve2d(signal.convolve2d(image, window, "valid"), window.T, "valid")

    def halved(image: np.ndarray) -> np.ndarray:
        return ndimage.correlate(image, np.full((2, 2), 0.25), mode="reflect", origin=-1)[::2, ::2]

    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        a, b = local(ours), local(theirs)
        structure = (2 * (local(ours * theirs) - a * b) + c2) / (
            local(ours**2) - a**2 + local(theirs**2) - b**2 + c2
        )
        luminance = (2 * a * b + c1) / (a**2 + b**2 + c1)
        found = (structure if scale < 4 else luminance * structure).mean()
        product *= max(0.0, found) ** weight
        ours, theirs = halved(ours), halved(theirs)
    return product


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images ``(C, H, W)`` in [0, 1], between like and unlike, their sides often odd."""
    random = np.random.default_rng(seed)
    channels, likeness = int(random.choice([1, 3])), random.random()
    height, width = random.integers(LEAST_SIDE, LEAST_SIDE + 24, 2)
    smooth = np.cumsum(random.normal(size=(channels, height, width)), axis=2)
    ours = (smooth - smooth.min()) / np.ptp(smooth)
    theirs = likeness * ours + (1 - likeness) * random.random(ours.shape)
    return ours.astype(np.float32), theirs.astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_ms_ssim_is_the_papers(seed: int) -> None:
    a, b = pair(seed)
    expected = np.mean([papers_ms_ssim(p.astype(float), q.astype(float), 1) for p, q in zip(a, b)])  # noqa: B905
    found = ms_ssim(torch.tensor(a)[None], torch.tensor(b)[None], data_range=1.0)
    assert float(found) == pytest.approx(expected, abs=1e-4)
    in_bytes = ms_ssim(255 * torch.tensor(a)[None], 255 * torch.tensor(b)[None], data_range=255.0)
    assert float(in_bytes) == pytest.approx(float(found), abs=1e-4)


def test_ms_ssim_of_equal_images_and_in_batches() -> None:
    images = torch.rand(5, 1, 176, 180, generator=torch.Generator().manual_seed(0))
    other = images.flip(0)
    assert ms_ssim(images, images, data_range=1.0).tolist() == pytest.approx([1] * 5, abs=1e-4)
    whole = ms_ssim(images, other, data_range=1.0)
    parts = ms_ssim(images, other, data_range=1.0, batch=2)
    assert whole.tolist() == pytest.approx(parts.tolist(), abs=1e-5)
    assert whole.tolist() == pytest.approx(whole.flip(0).tolist(), abs=1e-4)
    assert float(whole[0]) < 0.2


def test_images_that_are_too_small_have_none() -> None:
    small = np.zeros((2, 1, LEAST_SIDE - 1, 200), np.float32)
    assert judge(small, small, value_range=(0.0, 1.0)).ms_ssim is None
    large = np.zeros((2, 1, LEAST_SIDE, 200), np.float32)
    assert judge(large, large, value_range=(0.0, 1.0)).ms_ssim == pytest.approx((1, 1))


def test_a_data_range_is_stated_and_never_taken_from_the_data() -> None:
    random = np.random.default_rng(0)
    images, reference = random.random((2, 3, 1, 176, 176), dtype=np.float32)
    with pytest.raises(TypeError, match="value_range"):
        judge(images, reference)  # type: ignore[call-arg]
    bright = judge(images, reference, value_range=(0.0, 1.0))
    dark = judge(images / 10, reference / 10, value_range=(0.0, 1.0))
    # With a range from the data, both would read alike.
    for name in ("ssim", "ms_ssim", "psnr_db"):
        gaps = np.subtract(getattr(dark, name), getattr(bright, name))
        assert (gaps > 0.03).all(), name
    wide = judge(images, reference, value_range=(-1.0, 1.0))
    assert np.subtract(wide.psnr_db, bright.psnr_db) == pytest.approx([20 * np.log10(2)] * 3)


def state_of(name: str) -> dict[str, Tensor]:
    """Random weights under torchvision's names, with a part that LPIPS has no use for."""
    torch.manual_seed(0)
    state = {f"features.{k}": v for k, v in ARCHITECTURES[name].build().state_dict().items()}
    return {**state, "classifier.1.bias": torch.zeros(3)}


@pytest.mark.parametrize(("name", "suffix"), [("AlexNet", ".pth"), ("VGG16", ".safetensors")])
def test_lpips_is_torchmetrics(
    name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    ensure_torchvision_imports()
    models = pytest.importorskip("torchvision.models")
    from torchmetrics.functional.image import lpips as theirs

    def without_weights(net: str, pretrained: bool = False) -> torch.nn.Module:
        """torchvision's own layers; drawing a hundred million weights to forget them is slow."""
        with torch.device("meta"):
            return getattr(models, net)(weights=None).features

    monkeypatch.setattr(theirs, "_get_tv_model_features", without_weights)
    state, path = state_of(name), tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, path)
    lpips = open_lpips(path)
    assert lpips.name == name
    oracle = theirs._LPIPS(net=ARCHITECTURES[name].heads, pnet_rand=True)
    own = oracle.net.state_dict()
    weights = {k: state[f"features.{k.partition('.')[2]}"] for k in own}
    oracle.net.load_state_dict(weights, assign=True)
    images, reference = torch.rand(2, 3, 3, 64, 72, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = oracle(images, reference, normalize=True).flatten()
    found = lpips(images, reference, value_range=(0.0, 1.0), batch=2)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert float(found.min()) > 0
    assert lpips(images, images, value_range=(0.0, 1.0)).tolist() == [0, 0, 0]
    stretched = lpips(510 * images - 255, 510 * reference - 255, value_range=(-255.0, 255.0))
    assert stretched.tolist() == pytest.approx(found.tolist(), rel=1e-3)


def test_lpips_of_grey_images_in_a_quality(tmp_path: Path) -> None:
    torch.save(state_of("AlexNet"), tmp_path / "weights.pth")
    lpips = open_lpips(tmp_path / "weights.pth")
    reference = np.random.default_rng(0).random((4, 1, 32, 32), dtype=np.float32)
    images = reference.copy()
    images[1] = 1 - images[1]
    images[2, 0, 0, 0] = np.nan
    found = judge(images, reference, value_range=(0.0, 1.0), lpips=lpips)
    assert found.lpips is not None
    assert found.lpips[0] == found.lpips[3] == 0
    assert found.lpips[1] is not None
    assert found.lpips[1] > 0
    assert found.lpips[2] is None
    assert found.lpips_mean is None
    assert found.worst(2, "lpips") == [2, 1]
    assert judge(images, reference, value_range=(0.0, 1.0)).lpips is None
    small = np.zeros((1, 1, 31, 40), np.float32)
    assert judge(small, small, value_range=(0.0, 1.0), lpips=lpips).lpips is None


def test_own_heads_come_before_the_shipped(tmp_path: Path) -> None:
    heads = {k: torch.zeros_like(v) for k, v in shipped_heads("alex").items()}
    torch.save({**state_of("AlexNet"), **heads}, tmp_path / "weights.pth")
    images, reference = torch.rand(2, 1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    lpips = open_lpips(tmp_path / "weights.pth")
    assert lpips(images, reference, value_range=(0.0, 1.0)).tolist() == [0]
    del heads["lin3.model.1.weight"]
    torch.save({**state_of("AlexNet"), **heads}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"lack lin3\.model"):
        open_lpips(tmp_path / "weights.pth")


def test_files_that_are_no_weights_of_lpips(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match="no file"):
        open_lpips(path)
    for content in (b"", b"garbage", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="can't be read as weights"):
            open_lpips(path)
        (tmp_path / "weights.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="can't be read as weights"):
            open_lpips(tmp_path / "weights.safetensors")
    torch.save(torch.nn.Linear(2, 2), path)  # code, not weights
    with pytest.raises(UserError, match="can't be read as weights"):
        open_lpips(path)
    torch.save({**state_of("AlexNet"), "features.12.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="AlexNet or VGG16"):
        open_lpips(path)


def test_percentiles_and_the_worst_by_any_metric() -> None:
    values = tuple(np.random.default_rng(0).random(37).tolist())
    quality = Quality(values, values, values, 1.0, ms_ssim=values[::-1], lpips=values)
    for metric, own in (("ssim", values), ("ms_ssim", values[::-1]), ("lpips", values)):
        found = quality.percentiles(metric)  # type: ignore[arg-type]
        assert found is not None
        assert list(found) == [1, 5, 25, 50, 75, 95, 99]
        assert list(found.values()) == pytest.approx(np.percentile(own, list(found)))
    order = np.argsort(values).tolist()
    assert quality.worst(3) == quality.worst(3, "ssim") == order[:3]
    assert quality.worst(3, "lpips") == quality.worst(3, "mse") == order[::-1][:3]
    assert quality.lpips_p95 == pytest.approx(np.percentile(values, 95))
    assert Quality(values, values, values, 1.0).percentiles("lpips") is None
    old = {"ssim": values, "psnr_db": values, "mse": values, "data_range": 1.0}
    assert Quality.from_json(old) == Quality(values, values, values, 1.0)
