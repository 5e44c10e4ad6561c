"""``generators sample``: PNG files or a sheet, the same images whatever runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image

from generators import sampling, sinks
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.loading import load
from genslim.run import Run
from genslim.signature import Output


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_a_folder_gets_a_file_for_each_image(cli: Cli) -> None:
    done = cli(
        *("generators", "sample", "dcgan-mnist", "--n", 20, "--runtime", "torch", "--threads", 1),
        *("--batch", 8, "--seed", 3, "-o", "made/samples", "--json"),
    )
    assert done.status == 0, done.err
    facts = json.loads(done.out.splitlines()[-1])
    assert (facts["n"], facts["batch"], facts["wrote"]) == (20, 8, "made/samples")
    assert facts["execution"]["runtime"] == "torch"
    assert facts["execution"]["threads"] == 1
    assert facts["images_per_second"] >= facts["images_per_second_written"] > 0
    assert facts["writing_seconds"] > 0
    assert "images per second generated" in done.err
    files = sorted(Path("made/samples").iterdir())
    assert [file.name for file in files] == [f"{n:05d}.png" for n in range(20)]
    assert [p.name for p in Path("made").iterdir()] == ["samples"]  # nothing half-written
    generator = load("dcgan-mnist")
    expected = generator(Inputs(generator.signature, "quality", seed=3).draw(64))[:20, 0]
    found = np.stack([pixels(file) for file in files])
    assert np.abs(found - ((expected.numpy() + 1) * 127.5)).max() <= 0.6


def test_a_sheet_holds_them_in_order(cli: Cli) -> None:
    for output, more in (("sheet.png", ()), ("files", ()), ("large.png", ("--scale", 2))):
        done = cli("generators", "sample", "--n", 5, "--threads", 1, "-o", output, *more)
        assert done.status == 0, done.err
    sheet = pixels(Path("sheet.png"))
    assert sheet.shape == (64, 96)
    for number in range(5):
        top, left = number // 3 * 32, number % 3 * 32
        file = pixels(Path(f"files/{number:05d}.png"))
        assert (sheet[top : top + 32, left : left + 32] == file).all()
    assert (pixels(Path("large.png")) == sheet.repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize("runtime", [None, "onnxruntime"])
def test_a_graph_is_sampled_too(cli: Cli, run: Run, runtime: str | None) -> None:
    chosen = ("--runtime", runtime) if runtime else ()
    done = cli(
        *("generators", "sample", run.newest, "--n", 6, "--threads", 1, "--batch", 4),
        *("-o", "files", "--json", *chosen),
    )
    assert done.status == 0, done.err
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["execution"]["runtime"] == (runtime or "openvino")
    original = load(run.path / "00-original")
    expected = original(Inputs(original.signature, "quality").draw(64))[:6, 0].numpy()
    found = np.stack([pixels(file) for file in sorted(Path("files").iterdir())])
    assert np.abs(found - ((expected + 1) * 127.5)).max() <= 0.6


def test_a_generator_of_images_takes_a_folder(
    cli: Cli, compact_weights: Path, image_folder: Path
) -> None:
    arguments = ("generators", "sample", compact_weights, "--n", 3, "--input", "1,3,24,32")
    done = cli(*arguments, "--images", image_folder, "-o", "files", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["batch"] == 1
    assert [pixels(file).shape for file in Path("files").iterdir()] == [(48, 64, 3)] * 3
    line = cli(*arguments, "-o", "others").refused()
    assert "takes images, and no folder was named; name one: --images DIR" in line
    assert not Path("others").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--n", 0), "n is 0; it is 1 or more"),
        (("--batch", 0), "batch is 0"),
        (("--scale", -1), "scale is -1"),
        (("--threads", 0), "threads is 0"),
        (("--runtime", "tvm"), "no runtime called 'tvm'"),
        (("--runtime", "tensorrt"), "tensorrt"),
        (("-o", "samples.gif"), "samples.gif is neither a folder nor a sheet"),
        (("-o", "taken"), "taken is there already"),
        (("-o", "folder.png"), "folder.png is a folder"),
        (("-o", "taken/file/samples"), "can't write to taken/file: something is there already"),
        (("--n", 1_000_000, "-o", "huge.png"), "a sheet of 1000000 images"),
    ],
)
def test_what_can_not_be_is_refused(cli: Cli, arguments: tuple[object, ...], message: str) -> None:
    Path("taken").mkdir()
    Path("taken/file").write_text("mine")
    Path("folder.png").mkdir()
    done = cli("generators", "sample", "dcgan-mnist", *arguments)
    assert message in done.refused(status=3 if "tensorrt" in arguments else 2)
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["folder.png", "taken"]
    assert Path("taken/file").read_text() == "mine"


def test_a_dry_run_draws_nothing(cli: Cli) -> None:
    done = cli("generators", "sample", "dcgan-mnist", "--n", 2000, "-o", "made", "--dry-run")
    assert done.status == 0, done.err
    assert "would draw 2,000 images of dcgan-mnist into made" in done.out
    assert not Path("made").exists()


def test_a_graph_is_not_run_on_torch(cli: Cli, run: Run) -> None:
    line = cli("generators", "sample", run.newest, "--runtime", "torch").refused()
    assert "runtime torch can't run" in line


def test_a_full_disk_is_one_line_and_leaves_nothing(
    cli: Cli, small_disk: object, tmp_path: Path
) -> None:
    place = small_disk("64k")  # type: ignore[operator]
    line = cli("generators", "sample", "--n", 200, "--scale", 4, "-o", place / "files").refused()
    assert "the disk is full" in line
    assert list(place.iterdir()) == []


def test_writing_that_is_slower_than_generation_is_told(
    small_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genslim.console import SILENT

    clock = iter(range(10_000))
    monkeypatch.setattr(sinks, "BATCHES_TO_WRITE", 1)
    monkeypatch.setattr(sampling.time, "monotonic", lambda: float(next(clock)))
    made = sampling.sample(
        small_gan, Path("files"), 12, runtime_name="torch", threads=1, batch=2, console=SILENT
    )
    assert made.waited_seconds >= 6  # a tick or more for each of six batches
    assert made.writing_seconds >= 6
    assert made.images_per_second_written == made.n / made.seconds


def test_pixels_span_the_value_range_of_the_signature() -> None:
    images = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 7.0], np.float32).reshape(1, 1, 2, 3)
    output = Output("images", ("batch", 1, 2, 3), (-1.0, 2.0))
    found = sampling.pixels_of(images, output)
    assert found.shape == (1, 2, 3, 1)
    assert found.ravel().tolist() == [0, 85, 128, 170, 255, 255]
    with pytest.raises(UserError, match="makes 2 channels"):
        sampling.pixels_of(np.zeros((1, 2, 4, 4), np.float32), output)
