"""What the tests share: a working folder of their own, small generators, the programs in-process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genslim.generator import Generator

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
"""Large files that only some machines have; tests that need one skip without it."""


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder: runs are made below the working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
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
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out
        assert "a defect in genslim" not in self.err
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


@pytest.fixture
def tiny_gan() -> Generator:
    """The DCGAN of the catalogue with random weights whose pictures are not blank.

    Of latents ``(N, 100)``, to grey 32x32 images: as large and as quick as the trained one.
    """
    import torch

    from generators import dcgan
    from genslim.generator import Generator

    torch.manual_seed(0)
    module = dcgan.Generator()
    settle_batch_norms(module, torch.randn(64, dcgan.LATENT))
    return Generator(
        "dcgan-mnist", dcgan.signature(), {"kind": "catalogue", "name": "dcgan-mnist"}, module
    )


def settle_batch_norms(module: nn.Module, inputs: Tensor) -> None:
    """Let every batch norm of ``module`` learn the statistics that ``inputs`` give it."""
    import torch
    from torch import nn

    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches seen
        norm.reset_running_stats()
    with torch.no_grad():
        module.train()(inputs)
    for norm in norms:
        norm.momentum = 0.1
    module.eval()


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Eight small RGB pictures of coloured noise blobs, 80x72."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(8):
        coarse = random.integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 72), Image.Resampling.BICUBIC).save(
            folder / f"picture-{index}.png"
        )
    return folder


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
