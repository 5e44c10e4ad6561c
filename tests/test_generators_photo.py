"""The generators that restore images: networks, what is done to their images, training, judging."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn

from compress import Prune
from export.engine.shapes import profile_of
from export.onnx import metadata
from generators.data.mnist import Digits
from generators.data.photos import Photos, load
from generators.judging.restoration import judge_restored
from generators.networks import denoise_mnist, denoise_photo, enhance_photo, inpaint_photo
from generators.recipes import photos as recipes_photo
from generators.training.degradation import Hiding, Noise, Shrinking, blurred, resized
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.signature import Signature

NARROW = {
    "denoise-mnist": lambda: denoise_mnist.DigitDenoiser((8, 16)),
    "denoise-photo": lambda: denoise_photo.PhotoDenoiser((8, 16)),
    "enhance-photo": lambda: enhance_photo.PhotoEnhancer(8, 2),
    "inpaint-photo": lambda: inpaint_photo.PhotoInpainter((8, 16)),
}
WHOLE: dict[str, Callable[[], nn.Module]] = {
    "denoise-mnist": denoise_mnist.DigitDenoiser,
    "denoise-photo": denoise_photo.PhotoDenoiser,
    "enhance-photo": enhance_photo.PhotoEnhancer,
    "inpaint-photo": inpaint_photo.PhotoInpainter,
}
SIGNATURES: dict[str, Signature] = {
    "denoise-mnist": denoise_mnist.signature(),
    "denoise-photo": denoise_photo.signature(),
    "enhance-photo": enhance_photo.signature(),
    "inpaint-photo": inpaint_photo.signature(),
}
each = pytest.mark.parametrize("name", NARROW)


def narrow(name: str, images: Path) -> Generator:
    """An untrained generator with few channels, its pictures cropped at 32x32 from a folder."""
    torch.manual_seed(0)
    signature = SIGNATURES[name].with_images(str(images))
    inputs = tuple(
        replace(i, sizes=dict.fromkeys(i.sizes, 32) if i.sizes else None) for i in signature.inputs
    )
    return Generator(
        name, replace(signature, inputs=inputs), {"kind": "test"}, NARROW[name]().eval()
    )


def pictures(count: int = 8, side: int = 32, channels: int = 3) -> Tensor:
    """Smooth pictures in [0, 1] with edges in them."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 5, 5, generator=random)
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    smooth[:, :, side // 2 :] *= 0.5
    return smooth


@each
def test_signatures_survive_json(name: str) -> None:
    text = json.dumps(SIGNATURES[name].to_json())
    assert Signature.from_json(json.loads(text)) == SIGNATURES[name]


@each
def test_shapes_are_as_the_signature_says(name: str, image_folder: Path) -> None:
    generator = narrow(name, image_folder)
    drawn = Inputs(generator.signature, "quality").draw(2)
    scale = 2 if name == "enhance-photo" else 1
    channels = 1 if name == "denoise-mnist" else 3
    assert generator(drawn).shape == (2, channels, 32 * scale, 32 * scale)
    if name != "denoise-mnist":
        odd = {n: t.repeat(1, 1, 1, 2)[..., :20, :44] for n, t in drawn.items()}
        assert generator(odd).shape == (2, 3, 20 * scale, 44 * scale)


@each
def test_weights_are_small_enough_to_ship(name: str) -> None:
    assert 2 * sum(p.numel() for p in WHOLE[name]().parameters()) <= 2_500_000


@each
def test_the_exported_graph_makes_the_same_images_at_any_size(
    name: str, image_folder: Path
) -> None:
    generator = narrow(name, image_folder)
    session = onnxruntime.InferenceSession(onnx_of(generator))
    for batch, side in ((1, 32), (3, 32 if name == "denoise-mnist" else 40)):
        inputs = tuple(
            replace(i, sizes=dict.fromkeys(i.sizes, side) if i.sizes else None)
            for i in generator.signature.inputs
        )
        drawn = Inputs(replace(generator.signature, inputs=inputs), "parity").draw(batch)
        (made,) = session.run(None, {n: t.numpy() for n, t in drawn.items()})
        assert np.abs(made - generator(drawn).numpy()).max() < 1e-4


@each
def test_half_of_the_channels_can_be_pruned(name: str, image_folder: Path) -> None:
    generator = narrow(name, image_folder)
    small = Prune(0.5, recover="none", round_to=4)(generator)
    assert small.module is not None
    assert generator.module is not None
    before = sum(p.numel() for p in generator.module.parameters())
    after = sum(p.numel() for p in small.module.parameters())
    assert after < 0.45 * before
    drawn = Inputs(generator.signature, "quality").draw(2)
    assert small(drawn).shape == generator(drawn).shape


def test_an_exported_file_says_what_its_inputs_are() -> None:
    facts = {
        name: metadata(Generator(name, signature, {"kind": "test"}))
        for name, signature in SIGNATURES.items()
    }
    assert facts["inpaint-photo"]["input.images"] == "image, 0 1"
    assert facts["inpaint-photo"]["input.mask"] == "mask, 1 where the image is missing, else 0"
    assert facts["denoise-mnist"]["input.images"] == "image, 0 1, with Gaussian noise 0 to 0.5"
    assert facts["denoise-photo"]["input.images"].endswith("with Gaussian noise 0 to 0.215686")
    assert [facts[name]["scale"] for name in NARROW] == ["1", "1", "2", "1"]


def test_an_engine_takes_as_many_masks_as_images() -> None:
    signature = SIGNATURES["inpaint-photo"]
    parsed = {"images": (-1, 3, -1, -1), "mask": (-1, 1, -1, -1)}
    profile = profile_of(parsed, signature, {})
    assert profile["images"]["max"][0] == profile["mask"]["max"][0]
    assert profile["images"]["max"][2:] == profile["mask"]["max"][2:]


def test_known_pixels_are_kept_exactly_and_hidden_ones_do_not_matter() -> None:
    network = NARROW["inpaint-photo"]().eval()
    pairs = Hiding(0.2, 0.4).degraded(pictures(), torch.Generator().manual_seed(0))
    images, mask = pairs.inputs
    with torch.no_grad():
        filled = network(images, mask)
        other = network(images + 5 * mask, mask)
    assert torch.equal(filled * (1 - mask), images * (1 - mask))
    assert torch.equal(filled, other)
    assert float((filled - images).abs().mul(mask).sum()) > 0


def test_noise_has_the_level_asked_for() -> None:
    clean = pictures(32)
    pairs = Noise(0.1, 0.1).degraded(clean, torch.Generator().manual_seed(0))
    assert torch.equal(pairs.clean, clean)
    noise = pairs.inputs[0] - clean
    assert abs(float(noise.std()) - 0.1) < 0.001
    assert abs(float(noise.mean())) < 0.001
    assert float(pairs.inputs[0].min()) < 0, "not clamped"


def test_bicubic_is_pillows() -> None:
    image = torch.rand(1, 1, 24, 36, generator=torch.Generator().manual_seed(0))
    for factor in (0.5, 2.0):
        height, width = round(24 * factor), round(36 * factor)
        theirs = Image.fromarray(image[0, 0].numpy()).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        assert np.abs(resized(image, factor)[0, 0].numpy() - np.asarray(theirs)).max() < 1e-5


def test_blur_is_scipys() -> None:
    images = torch.rand(3, 2, 20, 26, generator=torch.Generator().manual_seed(0))
    made = blurred(images, torch.tensor([0.0, 0.7, 1.4]))
    assert torch.equal(made[0], images[0])
    for index, sigma in ((1, 0.7), (2, 1.4)):
        for channel in range(2):
            theirs = gaussian_filter(
                images[index, channel].numpy(), sigma, mode="nearest", radius=4
            )
            assert np.abs(made[index, channel].numpy() - theirs).max() < 1e-5


def test_shrinking_and_its_baseline() -> None:
    clean = pictures()
    shrinking = Shrinking()
    pairs = shrinking.degraded(clean, torch.Generator().manual_seed(0))
    assert pairs.inputs[0].shape == (8, 3, 16, 16)
    assert torch.equal(pairs.inputs[0], resized(clean, 0.5))
    assert shrinking.baseline(pairs.inputs).shape == clean.shape
    blurry = Shrinking(1.0, 1.0).degraded(clean, torch.Generator().manual_seed(0))
    assert float(blurry.inputs[0].std()) < float(pairs.inputs[0].std())


def test_holes_are_black_and_the_baseline_is_the_mean_of_their_border() -> None:
    clean = pictures()
    hiding = Hiding(0.2, 0.4)
    pairs = hiding.degraded(clean, torch.Generator().manual_seed(0))
    images, mask = pairs.inputs
    assert torch.equal(pairs.where, mask)
    assert float((images * mask).abs().max()) == 0
    assert torch.equal(images + clean * mask, clean)
    filled = hiding.baseline(pairs.inputs)
    for index in range(len(clean)):
        rows, columns = (mask[index, 0].amax(axis).nonzero().flatten() for axis in (1, 0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        around = np.zeros((32, 32), bool)
        around[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
        around[top:bottom, left:right] = False
        expected = clean[index].numpy()[:, around].mean(1)
        hole = filled[index, :, top:bottom, left:right]
        assert np.abs(hole.numpy() - expected[:, None, None]).max() < 1e-5


def test_a_picture_that_is_all_hole_has_no_border_and_still_a_finite_baseline() -> None:
    hiding = Hiding(1.0, 1.0)
    pairs = hiding.degraded(pictures(), torch.Generator().manual_seed(0))
    assert bool(hiding.baseline(pairs.inputs).isfinite().all())


def test_psnr_is_scikit_images() -> None:
    clean = pictures()
    noise = Noise(0.1, 0.1)

    class Halved(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images * 0.9

    random = torch.Generator().manual_seed(0)
    pairs = [noise.degraded(part, random) for part in clean.split(3)]
    figures = judge_restored(Halved(), pairs, noise.baseline)
    given = torch.cat([part.inputs[0] for part in pairs]).numpy()
    theirs = peak_signal_noise_ratio(clean.numpy(), given * 0.9, data_range=1.0)
    baseline = peak_signal_noise_ratio(clean.numpy(), given, data_range=1.0)
    assert figures["psnr_db"] == pytest.approx(theirs, abs=1e-3)
    assert figures["baseline_psnr_db"] == pytest.approx(baseline, abs=1e-3)
    assert figures["psnr_gain_db"] == pytest.approx(theirs - baseline, abs=1e-3)
    assert 0 < figures["ssim"] < 1


def test_inpainting_is_judged_in_the_holes_alone() -> None:
    clean = pictures()
    hiding = Hiding(0.2, 0.3)
    pairs = hiding.degraded(clean, torch.Generator().manual_seed(0))

    class Wrong(nn.Module):
        """Right in the holes, and wrong everywhere else."""

        def forward(self, images: Tensor, mask: Tensor) -> Tensor:
            return clean * mask + 3 * (1 - mask)

    assert judge_restored(Wrong(), [pairs], hiding.baseline)["psnr_db"] == 100
    mask = pairs.where.bool().expand_as(clean)
    filled = hiding.baseline(pairs.inputs)
    theirs = peak_signal_noise_ratio(clean[mask].numpy(), filled[mask].numpy(), data_range=1.0)
    figures = judge_restored(Wrong(), [pairs], hiding.baseline)
    assert figures["baseline_psnr_db"] == pytest.approx(theirs, abs=1e-3)


@pytest.fixture
def held_apart(image_folder: Path) -> Photos:
    """Eight crops to judge by."""
    return replace(load(image_folder, 32)[1], count=8)


def digits() -> Digits:
    """Sixteen pictures as MNIST's reader gives them, in [-1, 1]."""
    return Digits(pictures(16, channels=1) * 2 - 1, torch.zeros(16, dtype=torch.int64), "")


@each
@pytest.mark.parametrize("bf16", [False, True])
def test_a_few_steps_lower_the_loss(
    name: str, bf16: bool, held_apart: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = type(WHOLE[name]()).__name__
    monkeypatch.setattr(recipes_photo, network, NARROW[name])
    recipe = getattr(recipes_photo, name.replace("-", "_"))
    of_digits = name == "denoise-mnist"
    objective = recipe(digits() if of_digits else held_apart, 0, lr=3e-3)
    objective.prepare(Accelerator(), "bf16" if bf16 else "fp32")
    images = digits().images if of_digits else pictures()
    losses = [
        objective.train_batch(images, torch.zeros(len(images)), 0.5)["loss"] for _ in range(40)
    ]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    figures = objective.judge()
    assert {"psnr_db", "psnr_gain_db", "ssim"} <= figures.keys()
    assert all(np.isfinite(value) for value in figures.values())
    assert objective.judge() == figures, "judged on the same images every time"
    sheet = objective.sheet()
    assert sheet is not None
    assert sheet.shape[1:] == ((1 if of_digits else 3), 32, 32)
    assert len(sheet) % 3 == 0
    assert float(sheet.abs().max()) <= 1
    assert all(p.dtype == torch.float32 for p in objective.product().parameters())


def test_the_same_seed_trains_the_same_weights(held_apart: Photos) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        objective = recipes_photo.inpaint_photo(held_apart, seed)
        objective.train_batch(pictures(4), torch.zeros(4), 0.5)
        return objective.product().state_dict()

    first, second, other = trained(1), trained(1), trained(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
