"""Extractors by name and by file, real images from folders and IDX files, and the command line."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.harness.distributions import find_yardsticks
from bench.metrics.features import names, open_extractor, parse, pixels, resized, with_channels
from bench.metrics.real import MOST, RealImages
from genslim.errors import UserError
from genslim.run import Run
from tests.conftest import SHARED, Cli, write_pictures

IMAGES = np.random.default_rng(0).random((5, 1, 32, 32), dtype=np.float32)


class Means(nn.Module):
    """The mean of each channel and the least of all, so that features say what came in."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean((2, 3)), images.amin((1, 2, 3))[:, None]], 1)


class Asked(nn.Module):
    """Like the Inception of StyleGAN's authors: features only when asked for."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        if return_features:
            return images.flatten(1)[:, :7]
        return images.flatten(1)[:, :2]


def save_script(module: nn.Module, path: Path) -> Path:
    """Save as TorchScript, whose makers call it deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(str(path))
    return path


def save_export(module: nn.Module, path: Path, shape: tuple[int, ...], *, fixed: bool) -> Path:
    """Save with torch.export."""
    batch = None if fixed else ({0: torch.export.Dim("n")},)
    program = torch.export.export(module.eval(), (torch.rand(2, *shape),), dynamic_shapes=batch)
    torch.export.save(program, path)
    return path


def test_the_shipped_classifier_is_announced() -> None:
    from generators.catalogue import entry

    assert "digits" in names()
    extractor = open_extractor("digits")
    images = 2 * IMAGES - 1
    features = extractor(images, (-1.0, 1.0), batch=2)
    assert features.shape == (5, 1024)
    classifier: Any = entry("digit-classifier").load()
    with torch.no_grad():
        logits = classifier.net[-1](features)
        assert torch.allclose(logits, classifier(torch.tensor(images)), atol=1e-4)
    # The generator's range is mapped to the classifier's.
    assert torch.allclose(extractor(255 * IMAGES, (0.0, 255.0)), features, atol=1e-3)


@pytest.mark.parametrize("kind", ["script", "export"])
def test_files_in_both_formats(kind: str, tmp_path: Path) -> None:
    if kind == "script":
        path = save_script(Means(), tmp_path / "net.pt")
        extractor = open_extractor(f"{path}:range=0..255,size=40")
    else:
        path = save_export(Means(), tmp_path / "net.pt2", (3, 40, 48), fixed=False)
        extractor = open_extractor(f"{path}:range=0..255")
        assert extractor.image_shape == (3, 40, 48)
    assert extractor.name == path.name
    flat = np.full((5, 1, 32, 32), 0.5, np.float32)
    flat[1] = 7  # out of its range: clipped, as on a screen
    found = extractor(flat, (-1.0, 1.0), batch=2)
    expected = torch.full((5, 4), 0.75 * 255)
    expected[1] = 255
    assert torch.allclose(found, expected, atol=1e-3)


def test_a_network_that_wants_to_be_asked_for_features(tmp_path: Path) -> None:
    path = save_script(Asked(), tmp_path / "inception.pt")
    assert open_extractor(f"{path}:range=0..1,size=32")(IMAGES, (0.0, 1.0)).shape == (5, 7)


def test_maps_are_averaged_and_grey_networks_take_colours(tmp_path: Path) -> None:
    path = save_script(nn.Identity(), tmp_path / "net.pt")
    grey = open_extractor(f"{path}:range=0..1,size=32,channels=1")
    colours = np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32)
    assert grey(colours, (0.0, 1.0)).flatten().tolist() == pytest.approx(
        [np.asarray(Image.fromarray((255 * i.transpose(1, 2, 0)).astype(np.uint8)).convert("L"))
         .mean() / 255 for i in colours],
        abs=0.01,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "settings", "complaint"),
    [
        (nn.Conv2d(5, 2, 3), "size=32", "does not take images"),
        (nn.Flatten(0), "size=32", "and no features"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), "size=32", "does not take images"),
    ],
)
def test_networks_that_give_no_features(
    module: nn.Module, settings: str, complaint: str, tmp_path: Path
) -> None:
    path = save_script(module, tmp_path / "net.pt")
    extractor = open_extractor(f"{path}:range=0..1,{settings}")
    with pytest.raises(UserError, match=complaint) as raised:
        extractor(IMAGES, (0.0, 1.0))
    assert "\n" not in str(raised.value)


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) / 0.0

    path = save_script(Broken(), tmp_path / "net.pt")
    with pytest.raises(UserError, match="NaN or infinity"):
        open_extractor(f"{path}:range=0..1,size=32")(IMAGES, (0.0, 1.0))


def test_files_that_hold_no_network(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with pytest.raises(UserError, match="neither a name nor a file; names here: digits"):
        open_extractor("inception")
    path.write_bytes(b"garbage")
    with pytest.raises(UserError, match="does not say which values"):
        open_extractor(str(path))
    with pytest.raises(UserError, match="holds no network"):
        open_extractor(f"{path}:range=0..1")
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(UserError, match="holds weights alone"):
        open_extractor(f"{path}:range=0..1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/constants.pkl", b"garbage")
        archive.writestr("net/code/net.py", b"garbage")
    with pytest.raises(UserError, match="can't be read as a network"):
        open_extractor(f"{path}:range=0..1")
    fixed = save_export(Means(), tmp_path / "fixed.pt2", (3, 40, 48), fixed=True)
    with pytest.raises(UserError, match="exported for batches of 2"):
        open_extractor(f"{fixed}:range=0..1")


def test_settings_of_a_file() -> None:
    file, settings = parse("C:/nets/i.pt:range=-1..1.5,size=64,channels=1")
    assert file == "C:/nets/i.pt"
    assert (settings.value_range, settings.size, settings.channels) == ((-1, 1.5), 64, 1)
    assert parse("C:/nets/i.pt")[0] == "C:/nets/i.pt"
    for wrong in ("range=1", "range=2..1", "size=0", "channels=2", "depth=3", "range=0..1,"):
        with pytest.raises(UserError, match="--extractor: "):
            parse(f"i.pt:{wrong}")


def test_channels_sizes_and_pixels() -> None:
    four = torch.rand(2, 4, 8, 8)
    assert torch.equal(with_channels(four, 3), four[:, :3])
    assert with_channels(four[:, :1], 3).shape == (2, 3, 8, 8)
    assert resized(four, (8, 8)) is four
    flat = np.full((2, 3, 200, 70), 0.5, np.float32)
    found = pixels(flat, (-1.0, 1.0))
    assert found.shape == (2, 3 * 64 * 64)
    assert found.unique().tolist() == [0.75]


def test_a_folder_of_pictures_becomes_images_of_the_generator(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_pictures(folder / "a", 3, size=(80, 40))
    write_pictures(folder / "b", 2, size=(31, 90))
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("text")
    real = RealImages.find(folder)
    assert len(real.pictures) == 6
    found = real.read((3, 32, 32), (-1.0, 1.0))
    assert found.shape == (5, 3, 32, 32)
    assert found.dtype == np.float32
    assert -1 <= found.min() < found.max() <= 1
    np.testing.assert_array_equal(found, real.read((3, 32, 32), (-1.0, 1.0)))
    assert real.read((1, 16, 24), (0.0, 1.0)).shape == (5, 1, 16, 24)
    # The middle is kept: a picture that is black but for its centre square comes out white.
    shutil.rmtree(folder)
    folder.mkdir()
    for name in ("one", "two"):
        image = np.zeros((20, 60, 3), np.uint8)
        image[:, 20:40] = 255
        Image.fromarray(image).save(folder / f"{name}.png")
    assert RealImages.find(folder).read((3, 20, 20), (0.0, 1.0)).min() == 1


def idx(images: np.ndarray) -> bytes:
    """An IDX file of bytes ``(N, H, W)``."""
    sizes = b"".join(int(side).to_bytes(4, "big") for side in images.shape)
    return (0x803).to_bytes(4, "big") + sizes + images.tobytes()


def test_idx_files_are_centred_on_black(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 256, (7, 28, 28), dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images[:3]))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"")
    found = RealImages.find(tmp_path).read((1, 32, 32), (-1.0, 1.0))  # the test set
    assert found.shape == (7, 1, 32, 32)
    assert (found[:, :, :2] == -1).all()
    assert (found[..., 30:] == -1).all()
    inside = np.round((found[:, 0, 2:30, 2:30] + 1) * 127.5).astype(np.uint8)
    assert sorted(i.tobytes() for i in inside) == sorted(i.tobytes() for i in images)
    named = RealImages.find(tmp_path / "train-images-idx3-ubyte")
    assert named.read((3, 14, 14), (0.0, 1.0)).shape == (3, 3, 14, 14)


def test_the_digits_of_mnist_are_those_that_the_generator_was_trained_on() -> None:
    from generators.data import mnist

    folder = SHARED / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip("MNIST is not in ../shared")
    found = RealImages.find(folder).read((1, 32, 32), (-1.0, 1.0))
    assert found.shape == (MOST, 1, 32, 32)
    known = {image.tobytes() for image in (mnist.load(folder, "test").images.numpy() * 100).round()}
    assert all(image.tobytes() in known for image in (found * 100).round())


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"\0\0\x08\x03\0", b"no IDX at all"])
def test_damaged_idx_files_are_refused(content: bytes, tmp_path: Path) -> None:
    for name, data in (("x-idx3-ubyte", content), ("x-idx3-ubyte.gz", gzip.compress(content)[:-9])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="fetch"):
            RealImages.find(tmp_path / name).read((1, 32, 32), (0.0, 1.0))


def test_what_is_no_real_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no real images"):
        RealImages.find(tmp_path / "nowhere")
    write_pictures(tmp_path / "one", 1)
    with pytest.raises(UserError, match="holds 1 images"):
        RealImages.find(tmp_path / "one")
    for name in ("a.png", "b.png"):
        (tmp_path / "one" / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match="only 1 real images"):
        RealImages.find(tmp_path / "one").read((3, 16, 16), (0.0, 1.0))
    with pytest.raises(
        UserError, match="nothing to compare them by; name features with --extractor: digits"
    ):
        find_yardsticks(tmp_path, None, None)


def test_bench_run_with_real_images_and_features(
    cli: Cli, run: Run, tmp_path: Path, working_folder: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    (tmp_path / "real-idx3-ubyte").write_bytes(idx(images))
    extractor = f"{save_script(Means(), tmp_path / 'means.pt')}:range=0..1,size=32"
    words = ["bench", "run", run.path, "--runtimes", "torch", "--count", "12", "--rounds", "3"]
    words += ["--no-memory", "--extractor", extractor, "--real", tmp_path, "--json"]
    done = cli(*words)
    assert done.status == 0, done.err
    record = json.loads((run.path / "bench" / "measurement.json").read_text())
    found = record["artifacts"][0]["readings"][0]["distribution"]
    assert found["reference"] == "real"
    assert (found["count"], found["reference_count"], found["features"]) == (12, 40, "means.pt")
    assert found["fid"] > 0
    assert found["kid"] is not None
    assert 0 <= found["coverage"] <= 1
    assert found["feature_diversity"] > 0


def test_bench_run_refuses_before_it_measures(cli: Cli, run: Run, tmp_path: Path) -> None:
    for words, complaint in (
        (["--real", tmp_path / "nowhere", "--extractor", "digits"], "no real images"),
        (["--real", tmp_path], "nothing to compare them by"),
        (["--extractor", "inception"], "neither a name nor a file"),
        (["--lpips-weights", tmp_path / "none.pth"], "no file"),
    ):
        assert complaint in cli("bench", "run", run.path, *words).refused()
    assert not (run.path / "bench").exists()
