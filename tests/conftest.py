"""What the tests share: an empty working folder, small generators, the programs in-process."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genslim.generator import Generator
    from genslim.run import Run

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
"""Large files that only some machines have; tests that need one skip without it."""

# Machines that others use too are slow at times: no test fails for that.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Shells start background jobs with Ctrl-C ignored; the tests of interruptions need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, and has an empty cache."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GENSLIM_CACHE", str(tmp_path / "cache"))
    return folder


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    status: int
    out: str
    err: str

    def refused(self, *, status: int = 2) -> str:
        """Check that it ended as a refusal should, and return its one line."""
        assert self.status == status, self
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "a defect in genslim" not in lines[0]
        return lines[0]


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a program in this process: ``cli("compress", "prune", "--ratio", "0.5")``."""

    def run(program: str, *arguments: object) -> Outcome:
        from genslim.main import main

        words = [str(a) for a in arguments]
        capfd.readouterr()
        status = main(words if program == "genslim" else [program, *words])
        out, err = capfd.readouterr()
        return Outcome(status, out, err)

    return run


def run_program(
    command: Sequence[str | Path], *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> Outcome:
    """Run a program in a process of its own, with nothing on its standard input."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def installed_program(name: str) -> Path:
    """The console script ``name`` of the environment that the tests run in."""
    path = Path(sys.executable).with_name(name)
    assert path.is_file(), f"{name} is not installed beside {sys.executable}"
    return path


def random_dcgan() -> Generator:
    """The DCGAN of the catalogue with random weights whose pictures are not blank.

    Of latents ``(N, 32)``, to grey 32x32 images: as large and as quick as the trained one.
    """
    import torch

    from generators.networks import dcgan
    from generators.networks.classes import LATENT
    from genslim.generator import Generator

    torch.manual_seed(0)
    module = dcgan.Generator()
    settle_batch_norms(module, torch.randn(64, LATENT))
    return Generator(
        "dcgan-mnist", dcgan.signature(), {"kind": "catalogue", "name": "dcgan-mnist"}, module
    )


@pytest.fixture
def tiny_gan() -> Generator:
    """See :func:`random_dcgan`."""
    return random_dcgan()


@pytest.fixture
def small_gan() -> Generator:
    """A GAN of latents ``(N, 8)``, to grey 16x16 images, for what runs one many times."""
    import torch
    from torch import nn

    from genslim.generator import Generator
    from genslim.signature import BATCH, Input, Output, Prior, Signature

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Unflatten(1, (8, 1, 1)),
        nn.ConvTranspose2d(8, 16, 4),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 4, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 4, 2, 1),
        nn.Tanh(),
    )
    settle_batch_norms(module, torch.randn(64, 8))
    signature = Signature(
        (Input("z", (BATCH, 8), Prior()),), (Output("images", (BATCH, 1, 16, 16), (-1.0, 1.0)),)
    )
    return Generator("small", signature, {"kind": "test"}, module)


@pytest.fixture(scope="session")
def graphs() -> dict[str, bytes]:
    """Graphs that tests share: PyTorch's exporter takes seconds."""
    return {}


@pytest.fixture
def graph_gan(tiny_gan: Generator, graphs: dict[str, bytes]) -> Generator:
    """``tiny_gan`` as an ONNX graph without a module, exported once a session."""
    from dataclasses import replace

    from genslim.onnx_graph import onnx_of

    if "tiny_gan" not in graphs:
        graphs["tiny_gan"] = onnx_of(tiny_gan)
    return replace(tiny_gan, module=None, onnx=graphs["tiny_gan"])


@pytest.fixture
def run(tiny_gan: Generator, graph_gan: Generator, working_folder: Path) -> Run:
    """A run whose newest artifact is a graph, as after ``compress quantize``: quick to export."""
    from genslim.run import Run

    place = Run(working_folder / "runs" / "00-gan")
    with place.locked():
        place.start(tiny_gan)
        place.append(graph_gan, "graph", parent="00-original")
    return place


@pytest.fixture
def quantized_gan(graph_gan: Generator, graphs: dict[str, bytes], tmp_path: Path) -> Generator:
    """``graph_gan`` with Q/DQ pairs by ONNX Runtime's quantizer, symmetric int8 for TensorRT."""
    from dataclasses import replace

    import torch
    from onnxruntime import quantization

    if "quantized_gan" not in graphs:
        assert graph_gan.onnx is not None
        latents = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)).numpy()

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
            batches = iter([{"z": latents}])

            def get_next(self) -> object:
                return next(self.batches, None)

        plain, quantized = tmp_path / "plain.onnx", tmp_path / "quantized.onnx"
        plain.write_bytes(graph_gan.onnx)
        quantization.quantize_static(
            plain,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False},
        )
        graphs["quantized_gan"] = quantized.read_bytes()
    return replace(graph_gan, onnx=graphs["quantized_gan"])


def settle_batch_norms(module: nn.Module, *inputs: Tensor) -> None:
    """Let every batch norm of ``module`` learn the statistics that ``inputs`` give it."""
    import torch
    from torch import nn

    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches seen
        norm.reset_running_stats()
    with torch.no_grad():
        module.train()(*inputs)
    for norm in norms:
        norm.momentum = 0.1
    module.eval()


def write_pictures(folder: Path, count: int = 8, size: tuple[int, int] = (80, 72)) -> Path:
    """Make ``folder`` and write ``count`` RGB pictures of coloured noise blobs, width x height."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = random.integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(
            folder / f"picture-{index}.png"
        )
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Eight small RGB pictures of coloured noise blobs, 80x72."""
    return write_pictures(tmp_path / "images")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of a given size, such as ``100k``; needs root on Linux."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk-{len(mounted)}"
        place.mkdir()
        program = shutil.which("mount")
        if program is None:
            pytest.skip("there is no mount program here")
        made = run_program([program, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place])
        if made.status != 0:
            pytest.skip(f"mounting is not permitted here: {made.err.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def compact_weights(tmp_path: Path) -> Path:
    """A safetensors file that spandrel recognises: a small SRVGGNetCompact, x2, random weights."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    width, scale = 16, 2
    state: dict[str, torch.Tensor] = {}
    sizes = [(3, width), (width, width), (width, width), (width, 3 * scale**2)]
    for index, (inside, outside) in enumerate(sizes):
        state[f"body.{2 * index}.weight"] = torch.randn(outside, inside, 3, 3) * 0.1
        state[f"body.{2 * index}.bias"] = torch.zeros(outside)
        if index < len(sizes) - 1:
            state[f"body.{2 * index + 1}.weight"] = torch.full((outside,), 0.2)
    path = tmp_path / "compact-x2.safetensors"
    save_file(state, path)
    return path
