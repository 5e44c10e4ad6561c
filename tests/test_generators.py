"""The reference generators: their data, their training, and what the shipped weights can do."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED, Cli

from generators.catalogue import CATALOGUE, entry
from generators.data import mnist
from generators.judging.recognition import recognise, recognise_samples
from generators.networks import dcgan
from generators.networks.classes import class_of
from generators.networks.steadying import append_minibatch_deviation
from generators.shipped import FOLDER, facts
from generators.training.averaging import warmed_average
from genslim.errors import UserError
from genslim.inputs import Inputs
from genslim.loading import load

DATA = SHARED / "data" / "mnist"


SHIPPED = [chosen for chosen in CATALOGUE if facts(chosen.name)]


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """Four IDX files with 128 training and 64 test images of random strokes."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 128), ("test", 64)):
        images = (random.random((count, 28, 28)) > 0.8).astype(np.uint8) * 255
        labels = random.integers(0, 10, count, dtype=np.uint8)
        image_name, label_name = mnist.FILES[split]
        header = np.array([0x803, count, 28, 28], dtype=">u4").tobytes()
        (folder / f"{image_name}.gz").write_bytes(gzip.compress(header + images.tobytes()))
        header = np.array([0x801, count], dtype=">u4").tobytes()
        (folder / label_name).write_bytes(header + labels.tobytes())
    return folder


def test_idx_files_are_read_gzipped_or_not(small_mnist: Path) -> None:
    digits = mnist.load(small_mnist, "train")
    assert digits.images.shape == (128, 1, 32, 32)
    assert digits.labels.shape == (128,)
    assert digits.images.unique().tolist() == [-1.0, 1.0]
    assert (digits.images[:, :, :2] == -1).all()


def test_a_file_that_is_cut_short_is_refused(small_mnist: Path) -> None:
    path = small_mnist / mnist.FILES["test"][1]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="cut short"):
        mnist.load(small_mnist, "test")


def test_a_file_of_another_kind_is_refused(small_mnist: Path) -> None:
    (small_mnist / mnist.FILES["test"][1]).write_bytes(b"not an IDX file at all")
    with pytest.raises(UserError, match="not the IDX file"):
        mnist.load(small_mnist, "test")


def test_a_folder_without_mnist_is_refused(cli: Cli, tmp_path: Path) -> None:
    line = cli("generators", "train", "dcgan-mnist", "--data", tmp_path).refused()
    assert "train-images-idx3-ubyte" in line
    assert "--data" in line


@pytest.mark.parametrize("name", ["gan-mnist", "vae-mnist", "digit-classifier"])
def test_training_leaves_weights_metrics_and_a_recipe(
    cli: Cli, small_mnist: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    done = cli("generators", "train", name, "--data", small_mnist, "--epochs", 1, "--output", out)
    assert done.status == 1
    *warnings, line = done.err.splitlines()
    assert "less than" in line, "two batches train nothing worth shipping, and it says so"
    assert any("mode collapse" in warning for warning in warnings) == (name == "gan-mnist")
    recipe = json.loads((out / f"{name}.json").read_text())
    weights = out / f"{name}.safetensors"
    assert recipe["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    metrics = (out / "training" / name / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in metrics] == [1]
    entry(name).load(out)


def test_the_same_seed_trains_the_same_weights(small_mnist: Path) -> None:
    def trained() -> dict[str, torch.Tensor]:
        from generators.recipes.digits import dcgan_mnist

        digits = mnist.load(small_mnist, "train")
        objective = dcgan_mnist(digits, seed=5)
        for start in (0, 64):
            part = slice(start, start + 64)
            objective.train_batch(digits.images[part], digits.labels[part], 0.0)
        return objective.product().state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_average_forgets_its_start_and_keeps_counters() -> None:
    old, new = torch.zeros(2), torch.ones(2)
    assert float(warmed_average(0.999, old, new, 0)[0]) == pytest.approx(0.9)
    assert float(warmed_average(0.999, old, new, 10**6)[0]) == pytest.approx(0.001)
    assert int(warmed_average(0.999, torch.tensor(3), torch.tensor(4), 9)) == 4


def test_a_discriminator_sees_a_collapsed_batch() -> None:
    same = torch.ones(8, 4, 2, 2)
    deviation = append_minibatch_deviation(same)[:, -1]
    assert float(deviation.max()) < 1e-3
    varied = append_minibatch_deviation(torch.randn(8, 4, 2, 2))[:, -1]
    assert float(varied.min()) > 0.1


def test_shipped_weights_are_what_their_recipe_says() -> None:
    total = 0
    assert {chosen.name for chosen in SHIPPED} >= {
        *("dcgan-mnist", "dcgan-skip-mnist", "denoise-mnist", "digit-classifier"),
        *("gan-mnist", "vae-mnist"),
    }
    for chosen in SHIPPED:
        recipe, path = facts(chosen.name), FOLDER / f"{chosen.name}.safetensors"
        assert recipe["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert all(recipe["figures"][name] >= least for name, least in chosen.least.items())
        assert path.stat().st_size <= 5_000_000
        total += path.stat().st_size
    assert total <= 25_000_000


def test_the_shipped_gan_draws_digits_that_the_classifier_recognises() -> None:
    verdict = recognise_samples(
        entry("digit-classifier").load(),
        entry("dcgan-mnist").load(),
        dcgan.signature(),
        count=2000,
        seed=2026,
    )
    assert verdict["recognised"] >= 0.90
    assert verdict["least_digit"] >= 0.04


def test_the_digit_asked_for_is_the_digit_drawn() -> None:
    z = Inputs(dcgan.signature(), "quality").draw(500)["z"]
    with torch.no_grad():
        drawn = entry("digit-classifier").load()(entry("dcgan-mnist").load()(z)).argmax(1)
    assert float((drawn == class_of(z)).double().mean()) > 0.95


def test_the_shipped_classifier_is_right_on_the_test_set() -> None:
    if not DATA.is_dir():
        pytest.skip("no MNIST beside the repository")
    test = mnist.load(DATA, "test")
    classifier = entry("digit-classifier").load()
    with torch.no_grad():
        right = sum(
            int((classifier(x).argmax(1) == y).sum())
            for x, y in zip(test.images.split(500), test.labels.split(500), strict=True)
        )
    assert right >= 9900


def test_recognition_counts_confidence_and_kinds() -> None:
    class Brightness(torch.nn.Module):
        """A classifier that reads the digit off the first pixel, surely where it is positive."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            value = images[:, 0, 0, 0]
            digit = value.abs().long() % 10
            sure = torch.where(value > 0, 9.0, 0.1)
            return torch.nn.functional.one_hot(digit, 10) * sure[:, None]

    values = torch.tensor([1.0, 1.0, 2.0, -3.0])
    verdict = recognise(Brightness(), values[:, None, None, None].expand(4, 1, 32, 32))
    assert verdict["recognised"] == 0.75
    assert verdict["least_digit"] == 0.0


def test_the_list_shows_every_generator(cli: Cli) -> None:
    done = cli("generators", "list", "--json")
    assert done.status == 0
    data = json.loads(done.out.splitlines()[-1])
    assert [g["name"] for g in data["generators"]] == [entry.name for entry in CATALOGUE]
    made = {g["name"] for g in data["generators"] if "figures" in g}
    assert made == {chosen.name for chosen in SHIPPED}
    assert all(g["kind"] for g in data["generators"])


def test_samples_are_written_as_a_sheet(cli: Cli, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "sheet.png"
    done = cli("generators", "sample", "dcgan-mnist", "--n", 10, "-o", path, "--scale", 2)
    assert done.status == 0
    with Image.open(path) as sheet:
        assert sheet.size == (4 * 32 * 2, 3 * 32 * 2)


def test_the_built_in_generator_is_a_source() -> None:
    generator = load("dcgan-mnist")
    images = generator(Inputs(generator.signature, "quality").draw(3))
    assert images.shape == (3, 1, 32, 32)
    assert float(images.abs().max()) <= 1.0
