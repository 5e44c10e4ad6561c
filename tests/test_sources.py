"""Everything that a user can name opens as a generator with the right contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import SHARED, run_program
from safetensors.torch import load_file, save_file

import genslim
from genslim import Generator, Images, Prior, UserError
from genslim.inputs import Inputs
from genslim.run import Run
from genslim.sources import SOURCES, known
from genslim.sources.weights import parse_shape, read_state

MINE = """\
import torch
from torch import nn

class Latent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.ConvTranspose2d(8, 3, 4)
    def forward(self, z, style):
        return self.net(z[:, :, None, None]) + style[:, :, None, None]

def build():
    return Latent()

def enlarge():
    return nn.Upsample(scale_factor=2)

class Beside(nn.Module):
    def forward(self, picture, depth):
        return torch.cat([picture, depth], 1)

def beside():
    return Beside()

def flat():
    return nn.Identity()
"""


@pytest.fixture
def mine(working_folder: Path) -> str:
    """A module of the user's own in the working folder."""
    (working_folder / "mine_too.py").write_text(MINE)
    return "mine_too"


def test_each_source_has_a_name_of_its_own_and_claims_its_example() -> None:
    kinds = [source.kind for source in SOURCES]
    assert len(set(kinds)) == len(kinds)
    model = Path("stable-diffusion/vae")  # a folder is known by what lies in it
    model.mkdir(parents=True)
    (model / "config.json").touch()
    for source in SOURCES:
        claiming = [s.kind for s in SOURCES if s.claims(source.example)]
        assert claiming == [source.kind]


def test_a_catalogue_lists_generators_and_no_judges() -> None:
    assert "dcgan-mnist" in known()
    assert "digit-classifier" not in known()
    for name, entry in known().items():
        assert entry.name == name
        signature = entry.signature()
        if not all(isinstance(spec.draw, Prior) for spec in signature.inputs):
            continue  # what takes images has tests of its own
        module = entry.build().eval()
        inputs = Inputs(signature, "parity").draw(2)
        images = Generator(name, signature, {}, module)(inputs)
        assert images.shape == (2, *signature.images.shape[1:])
        low, high = signature.images.value_range
        assert low <= float(images.min())
        assert float(images.max()) <= high


def test_weights_are_recognised(compact_weights: Path, image_folder: Path) -> None:
    generator = genslim.load(compact_weights, images=image_folder)
    assert generator.name == "compact-x2"
    (spec,) = generator.signature.inputs
    assert spec.shape == ("batch", 3, "height", "width")
    assert spec.draw == Images(str(image_folder))
    assert generator.signature.images.shape == ("batch", 3, "2*height", "2*width")
    assert generator.signature.data_range == 1.0
    images = generator(Inputs(generator.signature, "parity").draw(2))
    assert images.shape == (2, 3, 128, 128)


@pytest.mark.parametrize("wrapper", [None, "params", "params_ema", "state_dict"])
def test_weights_in_a_pickle_open_like_those_in_safetensors(
    compact_weights: Path, working_folder: Path, wrapper: str | None
) -> None:
    state = load_file(compact_weights)
    path = working_folder / "compact.pth"
    torch.save({wrapper: state} if wrapper else state, path)
    loaded = read_state(path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[k], state[k]) for k in state)
    images = torch.rand(1, 3, 16, 16)
    ours = genslim.load(path)({"images": images})
    assert torch.equal(ours, genslim.load(compact_weights)({"images": images}))


def test_the_size_to_measure_at_can_be_named(compact_weights: Path) -> None:
    (spec,) = genslim.load(compact_weights, input="1,3,48,32").signature.inputs
    assert spec.concrete(4) == (4, 3, 48, 32)


def test_half_precision_weights_open_as_float32(
    compact_weights: Path, working_folder: Path
) -> None:
    path = working_folder / "half.safetensors"
    save_file({k: v.half() for k, v in load_file(compact_weights).items()}, path)
    assert genslim.load(path).dtype is torch.float32


def test_a_factory_with_two_inputs(mine: str) -> None:
    generator = genslim.load(f"{mine}:build", input=("z:1,8", "style:1,3"))
    assert [spec.name for spec in generator.signature.inputs] == ["z", "style"]
    assert all(spec.draw == Prior("normal") for spec in generator.signature.inputs)
    assert generator.signature.images.shape == ("batch", 3, 4, 4)
    assert generator.signature.images.value_range == (-1.0, 1.0)
    assert generator(Inputs(generator.signature, "parity").draw(5)).shape == (5, 3, 4, 4)


def test_a_factory_with_weights(mine: str, working_folder: Path) -> None:
    state = {"net.weight": torch.ones(8, 3, 4, 4), "net.bias": torch.zeros(3)}
    path = working_folder / "ones.safetensors"
    save_file(state, path)
    generator = genslim.load(f"{mine}:build", input=("z:1,8", "style:1,3"), weights=path)
    images = generator({"z": torch.ones(1, 8), "style": torch.zeros(1, 3)})
    assert torch.equal(images, torch.full((1, 3, 4, 4), 8.0))


def test_a_factory_of_images(mine: str, image_folder: Path) -> None:
    generator = genslim.load(f"{mine}:enlarge", input="1,3,16,24", images=image_folder)
    (spec,) = generator.signature.inputs
    assert spec.draw == Images(str(image_folder))
    assert generator.signature.images.value_range == (0.0, 1.0)
    assert generator.signature.images.shape == ("batch", 3, 32, 48)


def test_a_factory_of_images_and_something_else(mine: str, image_folder: Path) -> None:
    generator = genslim.load(
        f"{mine}:beside", input=("picture:1,3,16,16", "depth:1,4,16,16"), images=image_folder
    )
    assert [spec.draw for spec in generator.signature.inputs] == [
        Images(str(image_folder)),
        Prior("normal"),
    ]
    assert generator(Inputs(generator.signature, "parity").draw(2)).shape == (2, 7, 16, 16)


def test_a_value_range_can_be_stated(mine: str) -> None:
    generator = genslim.load(
        f"{mine}:build", input=("z:1,8", "style:1,3"), value_range=(0.0, 255.0)
    )
    assert generator.signature.data_range == 255.0


def test_a_factory_whose_output_is_no_picture(mine: str) -> None:
    with pytest.raises(UserError, match="images are \\(N, C, H, W\\)"):
        genslim.load(f"{mine}:flat", input="1,8")


def test_without_a_source_the_newest_run_goes_on(tiny_gan: Generator) -> None:
    for name in ("00-first", "01-second"):
        run = Run(Path("runs") / name)
        with run.locked():
            run.start(tiny_gan)
    assert genslim.load().path == Path("runs/01-second/00-original")
    assert genslim.load("runs/00-first").path == Path("runs/00-first/00-original")
    assert genslim.load("runs/00-first/00-original").label == "runs/00-first/00-original"


def test_images_named_for_an_artifact_replace_the_recorded_folder(
    compact_weights: Path, image_folder: Path, tmp_path: Path
) -> None:
    run = Run(Path("runs/00-ours"))
    with run.locked():
        run.start(genslim.load(compact_weights, images=image_folder))
    (spec,) = genslim.load("runs/00-ours", images=tmp_path).signature.inputs
    assert spec.draw == Images(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "shape"),
    [("1,3,64,64", (1, 3, 64, 64)), ("1x3x64x64", (1, 3, 64, 64)), ("1, 100", (1, 100))],
)
def test_shapes(text: str, shape: tuple[int, ...]) -> None:
    assert parse_shape(text) == shape


BROKEN_TORCHVISION = """\
raise RuntimeError("operator torchvision::{name} does not exist")
"""


@pytest.mark.parametrize(("name", "passes"), [("nms", False), ("else", True)])
def test_the_guard_acts_on_one_failure_alone(working_folder: Path, name: str, passes: bool) -> None:
    """A torchvision that fails otherwise fails as it did; see :mod:`genslim.torchvision_guard`."""
    (working_folder / "torchvision.py").write_text(BROKEN_TORCHVISION.format(name=name))
    code = (
        "from genslim import torchvision_guard as guard\n"
        "try: guard.ensure_torchvision_imports()\n"
        "except RuntimeError: pass\n"
        "print(len(guard._declared))"
    )
    outcome = run_program([sys.executable, "-c", code], cwd=working_folder)
    assert outcome.out.strip() == ("0" if passes else "1"), outcome.err


def test_spandrel_imports_in_a_fresh_process(compact_weights: Path) -> None:
    code = "import sys, genslim; print(genslim.load(sys.argv[1]).name)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(compact_weights)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "compact-x2"
    assert done.stderr == ""


def test_a_published_checkpoint_opens_and_enlarges(image_folder: Path) -> None:
    path = SHARED / "models" / "realesr-animevideov3-x4.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    generator = genslim.load(path, images=image_folder, input="1,3,32,32")
    images = generator(Inputs(generator.signature, "parity").draw(1))
    assert images.shape == (1, 3, 128, 128)
    low = torch.nn.functional.interpolate(images, scale_factor=0.25, mode="area")
    original = Inputs(generator.signature, "parity").draw(1)["images"]
    likeness = torch.corrcoef(torch.stack([low.flatten(), original.flatten()]))[0, 1]
    assert float(likeness) > 0.95, "it enlarges the picture it was given"
