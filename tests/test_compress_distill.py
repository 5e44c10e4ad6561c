"""Distillation: it recovers, goes on where it stopped, and does the same in several processes."""

from __future__ import annotations

import copy
import math
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, Cli, installed_program, run_program, settle_batch_norms
from safetensors.torch import load_file, save_file
from torch import nn

from compress import distill as distillation
from compress.checkpoint import Checkpoint, current, kept_at
from compress.distill import Distillation, distill
from compress.plan import Plan
from compress.pool import USES, Pool
from compress.watched import Watched
from genslim import processes
from genslim.console import SILENT, Console
from genslim.errors import GateFailed
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.interruption import Interruption, held
from genslim.signature import BATCH, Input, Output, Prior, Signature

SIGNATURE = Signature(
    (Input("z", (BATCH, 4, 12, 12), Prior()),), (Output("images", (BATCH, 3, 12, 12), (0, 1)),)
)

PLAN = Plan(
    seconds=None,
    steps=10,
    seed=0,
    learning_rate=2.0,
    schedule="linear",
    feature_weight=0,
    structure_weight=0,
    batch_size=1,
    adapt_norms=True,
    least=0,
)


def teacher() -> Generator:
    """A small generator with a batch norm, whose pictures are not flat."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout(0.1),  # a random choice that no stream of inputs knows of
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 3, padding=1),
        nn.Sigmoid(),
    )
    module.register_parameter("idle", nn.Parameter(torch.ones(3)))  # nothing depends on it
    settle_batch_norms(module, torch.randn(64, 4, 12, 12))
    with torch.no_grad():
        module[6].weight.mul_(6)  # type: ignore[operator]
    return Generator("small", SIGNATURE, {"kind": "factory", "name": "x:y"}, module)


@torch.no_grad()
def damaged(generator: Generator) -> nn.Module:
    """A copy whose weights are off."""
    torch.manual_seed(1)
    student = generator.trainable()
    for parameter in student.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3 * parameter.abs().mean())
    return student


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_a_damaged_generator_recovers_in_exactly_the_steps_asked_for() -> None:
    original = teacher()
    student = damaged(original)
    done = distill(student, original, steps=120, seed=0, learning_rate=3e-3)
    assert done.steps == 120
    assert done.module is student
    assert not student.training
    assert 1 - done.ssim_after < 0.5 * (1 - done.ssim_before)


def test_seconds_bound_it_as_well() -> None:
    done = distill(damaged(original := teacher()), original, seconds=0.3, seed=0)
    assert done.steps > 0
    assert done.seconds >= 0.3


def test_either_seconds_or_steps() -> None:
    for bounds in ({}, {"seconds": 1.0, "steps": 1}, {"steps": 0}):
        with pytest.raises(AssertionError):
            distill(nn.Identity(), teacher(), seed=0, **bounds)  # type: ignore[arg-type]


def test_the_best_that_was_seen_is_kept() -> None:
    student = copy.deepcopy((original := teacher()).trainable())
    done = distill(student, original, steps=8, seed=0, learning_rate=0.3, adapt_norms=False)
    assert done.ssim_after == done.ssim_before == pytest.approx(1)
    assert original.module is not None
    assert equal(student, original.module)


def test_what_diverges_is_refused() -> None:
    with pytest.raises(GateFailed, match="diverged after"):
        distill(damaged(original := teacher()), original, steps=50, seed=0, learning_rate=1e30)


def test_both_schedules_fall_from_the_whole_rate_to_almost_nothing() -> None:
    for schedule, middle in (("linear", 0.75), ("cosine", 0.8536)):
        plan = replace(PLAN, schedule=schedule)  # type: ignore[arg-type]
        rates = [plan.rate(share / 10, 100) for share in range(11)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == 2
        assert rates[-1] == 0.002
        assert plan.rate(0.25, 100) == pytest.approx(2 * middle, abs=1e-4)
        risen = [plan.rate(0.0, step) for step in range(12)]
        assert risen == sorted(risen)
        assert risen[0] == pytest.approx(0.2)
        assert risen[9:] == [2, 2, 2]


def test_ssim_in_the_loss_tells_noise_from_an_offset() -> None:
    """Both are as far off, pixel by pixel; only one hides what is to be seen."""
    original = teacher()
    target = original(Inputs(SIGNATURE, "quality").draw(4))
    away = torch.full_like(target, 0.05)
    noise = away * (torch.randint(0, 2, target.shape) * 2 - 1)
    for weight, same in ((0.0, True), (0.5, False)):
        plan = replace(PLAN, structure_weight=weight)
        work = Distillation(
            original.trainable(), original, plan, features={}, checkpoint=None, console=SILENT
        )
        offset, noisy = (float(work.error(target + x, target)) for x in (away, noise))
        assert (noisy == pytest.approx(offset)) == same
        assert noisy >= offset - 1e-6


def test_features_are_drawn_towards_the_teachers() -> None:
    original = teacher()
    inputs = Inputs(SIGNATURE, "quality").draw(16)
    some = torch.arange(0, 16, 2)

    def off(features: dict[str, torch.Tensor | None]) -> float:
        student = damaged(original)
        distill(
            student, original, steps=60, seed=0, features=features, feature_weight=10.0,
            learning_rate=3e-3,
        )  # fmt: skip
        assert original.module is not None
        with torch.no_grad():
            goal = Watched(original.module, SIGNATURE, {"4": None})(inputs)[1]
            return float((Watched(student, SIGNATURE, {"4": None})(inputs)[1] - goal).abs().mean())

    assert off({"4": None}) < 0.8 * off({})
    # A pruned student: channels that it still has are compared with those of the original.
    student = damaged(original)
    narrow, wide = nn.Conv2d(16, 8, 3, padding=1), original.trainable()
    with torch.no_grad():
        narrow.weight.copy_(wide[4].weight[some])  # type: ignore[index]
        narrow.bias.copy_(wide[4].bias[some])  # type: ignore[index,union-attr]
        student[6] = nn.Conv2d(8, 3, 3, padding=1)  # type: ignore[index,operator]
    student[4] = narrow  # type: ignore[operator]
    done = distill(student, original, steps=30, seed=0, features={"4": some, "0": None})
    assert done.ssim_after > done.ssim_before


def test_a_watched_module_is_left_without_hooks() -> None:
    module = teacher().trainable()
    inputs = Inputs(SIGNATURE, "quality").draw(2)
    images, feature = Watched(module, SIGNATURE, {"4": torch.tensor([3, 1])})(inputs)
    assert images.equal(module(inputs["z"]))
    assert feature.shape == (2, 2, 12, 12)
    assert all(not layer._forward_hooks for layer in module.modules())


def test_a_pool_that_skips_goes_on_like_one_that_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    module = teacher().trainable()
    calls = []

    def draw(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        calls.append(len(inputs["z"]))
        return [module(inputs["z"])]

    def pool() -> Pool:
        return Pool(draw, Inputs(SIGNATURE, "recovery", 5), 2)

    whole = pool()
    block = whole.block
    # Three blocks fit, so that the oldest go.
    monkeypatch.setattr("compress.pool.MOST_BYTES", 3 * block * 2 * (4 + 3) * 12 * 12 * 4)
    for _ in range(7 * USES * block + 5):
        whole.next()
    calls.clear()
    skipped = pool()
    skipped.skip(7 * USES * block + 5)
    assert len(calls) == (1 + 3) * block  # the first, which says how large they are, and the kept
    for _ in range(2 * USES * block):
        (ours, images), (theirs, expected) = skipped.next(), whole.next()
        assert ours["z"].equal(theirs["z"])
        assert images[0].equal(expected[0])
        assert images[0].equal(module(ours["z"]))


class Watching(Console):
    """A console that remembers."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def info(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        self.said.append(f"warning: {line}")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Let the signal come while step number ``step`` is taken."""
    plain = Distillation.take_step

    def take_step(self: Distillation, interruption: Interruption) -> None:
        if self.step + 1 == step:
            signal.raise_signal(number)
        plain(self, interruption)

    monkeypatch.setattr(Distillation, "take_step", take_step)


def interrupted(
    monkeypatch: pytest.MonkeyPatch, original: Generator, checkpoint: Checkpoint, step: int = 13
) -> None:
    """A distillation of 40 steps of which the checkpoint after ``step`` is left."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            distill(damaged(original), original, steps=40, seed=0, checkpoint=checkpoint)
    assert checkpoint.path.is_file()


def test_what_was_interrupted_ends_as_if_it_had_not_been(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original, checkpoint = teacher(), Checkpoint(tmp_path / "unfinished")
    whole = damaged(original)
    expected = distill(whole, original, steps=40, seed=0)
    for step in (13, 30):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        interrupted(monkeypatch, original, checkpoint, step)
        assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        student, console = damaged(original), Watching()
        torch.manual_seed(99)
        done = distill(student, original, steps=40, seed=0, checkpoint=checkpoint, console=console)
        assert console.said == [f"going on after {step} steps that were interrupted"]
        assert done.steps == 40
        assert equal(student, whole)
        assert (done.ssim_before, done.ssim_after) == (expected.ssim_before, expected.ssim_after)
        assert not checkpoint.path.exists()


def test_a_checkpoint_is_written_now_and_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(distillation, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(distillation, "SAVE_SHARE", math.inf)
    checkpoint = Checkpoint(tmp_path / "unfinished")
    original = teacher()
    plain, at_step_9 = Distillation.take_step, tmp_path / "at-9"

    def take_step(self: Distillation, interruption: Interruption) -> None:
        if self.step == 9:  # what is there when the process is killed at this moment
            at_step_9.write_bytes(checkpoint.path.read_bytes())
        plain(self, interruption)

    monkeypatch.setattr(Distillation, "take_step", take_step)
    whole = damaged(original)
    distill(whole, original, steps=20, seed=0, checkpoint=checkpoint)
    at_step_9.rename(checkpoint.path)
    monkeypatch.setattr(Distillation, "take_step", plain)
    student, console = damaged(original), Watching()
    distill(student, original, steps=20, seed=0, checkpoint=checkpoint, console=console)
    assert console.said == ["going on after 9 steps that were interrupted"]
    assert equal(student, whole)


def test_a_checkpoint_of_something_else_is_ignored_and_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original, path = teacher(), tmp_path / "unfinished"
    other = copy.deepcopy(original)
    assert other.module is not None
    with torch.no_grad():
        other.module[6].bias += 0.1  # type: ignore[index,operator]
    for generator, purpose, settings in (
        (original, "", {"seed": 1}),
        (original, "", {"seed": 0, "schedule": "cosine"}),
        (original, "", {"seed": 0, "features": {"4": None}}),
        (original, "of another artifact", {"seed": 0}),
        (other, "", {"seed": 0}),
    ):
        interrupted(monkeypatch, original, Checkpoint(path))
        console = Watching()
        done = distill(
            damaged(original), generator, steps=40, checkpoint=Checkpoint(path, purpose),
            console=console, **settings,  # type: ignore[arg-type]
        )  # fmt: skip
        assert console.said == []
        assert done.steps == 40
        assert not path.exists()


@pytest.mark.parametrize("how", ["cut", "flipped", "text", "empty", "bare"])
def test_a_damaged_checkpoint_is_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    original, checkpoint = teacher(), Checkpoint(tmp_path / "unfinished")
    interrupted(monkeypatch, original, checkpoint)
    content = checkpoint.path.read_bytes()
    changed = {
        "cut": content[:-100],
        "flipped": content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        "text": b"not a checkpoint",
        "empty": b"",
    }
    if how == "bare":
        save_file({"student.0.weight": torch.zeros(1)}, checkpoint.path)
    else:
        checkpoint.path.write_bytes(changed[how])
    console = Watching()
    done = distill(
        damaged(original), original, steps=40, seed=0, checkpoint=checkpoint, console=console
    )
    assert done.steps == 40
    assert len(console.said) == 1
    assert "is damaged and is not used" in console.said[0]


def test_a_full_disk_costs_the_checkpoint_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(distillation, "SAVE_EVERY", 0.0)
    (tmp_path / "file").touch()
    console, checkpoint = Watching(), Checkpoint(tmp_path / "file" / "unfinished")
    done = distill(
        damaged(original := teacher()), original, steps=5, seed=0, checkpoint=checkpoint,
        console=console,
    )  # fmt: skip
    assert done.steps == 5
    assert [line.partition(":")[0] for line in console.said] == ["warning"]


@pytest.fixture
def emulated_bf16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that says that it computes bf16; autocast works, if slowly, on any."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(processes, "has_bf16", lambda: True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("emulated_bf16")
def test_bf16_is_for_learning_alone() -> None:
    """What the quality is read from is computed exactly."""
    seen: set[tuple[bool, torch.dtype]] = set()
    student = damaged(original := teacher())
    student.get_submodule("4").register_forward_hook(
        lambda _, __, made: seen.add((torch.is_grad_enabled(), made.dtype))
    )
    done = distill(student, original, steps=60, seed=0, learning_rate=3e-3)
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert done.ssim_after > done.ssim_before
    assert all(p.dtype == torch.float32 for p in student.parameters())
    assert student(torch.randn(1, 4, 12, 12)).dtype == torch.float32


def test_an_impatient_interruption_does_not_wait() -> None:
    with held() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_its_listener_survives_waits_again() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with held() as interruption:
            for times in (1, 2):
                signal.raise_signal(signal.SIGTERM)
                assert len(heard) == times - 1
                interruption.deliver(interruption.number)
                assert len(heard) == times
                assert interruption.number == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_step_finds_its_checkpoint_only_where_a_command_keeps_one(tmp_path: Path) -> None:
    assert current() is None
    with kept_at(tmp_path / "unfinished", "prune of 00-original"):
        assert current() == Checkpoint(tmp_path / "unfinished", "prune of 00-original")
        with kept_at(None, ""):
            assert current() is None
    assert current() is None


def test_an_interrupted_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, working_folder: Path
) -> None:
    """The same line again finds the run without being told, and nothing else takes it for news."""
    line = ("compress", "prune", "dcgan-mnist", "--steps", "6", "--seed", "3")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        assert cli(*line).status == 130
    (run,) = Path("runs").iterdir()
    assert not (run / "01-prune").exists()
    assert "would export dcgan-mnist" in cli("export", "onnx", "--dry-run").out
    again = cli(*line)
    assert again.status == 0, again.err
    assert "going on after 3 steps" in again.out
    assert [path.name for path in Path("runs").iterdir()] == [run.name]
    left = {path.name for path in run.iterdir()}
    assert left - {".lock"} == {"00-original", "01-prune"}


def alone() -> dict[str, str]:
    """The environment for a launcher: one thread a process, and our own code first."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


TOGETHER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from safetensors.torch import save_file
from test_compress_distill import damaged, teacher
from compress.checkpoint import Checkpoint
from compress.distill import distill
from genslim import processes

rank = 0 if processes.leads() else 1
assert processes.count() == 2
assert processes.agreed(rank) == 0
student = damaged(original := teacher())
done = distill(
    student, original, seed=0, learning_rate=3e-3, features={{"4": None}},
    checkpoint=Checkpoint(Path(f"checkpoint-{{rank}}")), **{bounds},
)
Path(f"rank-{{rank}}").write_text(f"{{done.steps}} steps, SSIM {{done.ssim_after}}")
save_file(student.state_dict(), f"rank-{{rank}}.safetensors")
"""


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [{"steps": 30}, {"seconds": 1.0}])
def test_two_processes_end_with_the_same_weights(
    working_folder: Path, bounds: dict[str, float]
) -> None:
    script = working_folder / "together.py"
    tests = str(Path(__file__).parent)
    script.write_text(TOGETHER.format(tests=tests, bounds=bounds))
    launch = [installed_program("accelerate"), "launch", "--multi_gpu", "--num_processes", "2"]
    done = run_program([*launch, "--main_process_port", "0", script], env=alone())
    assert done.status == 0, done.err
    ours, theirs = (load_file(f"rank-{rank}.safetensors") for rank in (0, 1))
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    assert not list(working_folder.glob("checkpoint-*"))
    facts = Path("rank-0").read_text()
    assert facts == Path("rank-1").read_text()
    if "steps" in bounds:
        assert facts.startswith("30 steps")
        # Each learned from its own inputs, so that two learn something else than one.
        single = damaged(original := teacher())
        distill(single, original, seed=0, learning_rate=3e-3, features={"4": None}, steps=30)
        assert not all(t.equal(ours[name]) for name, t in single.state_dict().items())


@pytest.mark.slow
def test_a_launched_command_writes_one_run(working_folder: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    where = ["--num_processes", "2", "--main_process_port", "0", "-m", "genslim"]
    command = ["compress", "prune", "dcgan-mnist", "--steps", "3", "--json"]
    done = run_program([*launch, *where, *command], env=alone())
    assert done.status == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert "[rank" not in done.err  # no warnings of torch.distributed
    (run,) = Path("runs").iterdir()
    left = {path.name for path in run.iterdir()}
    assert left - {".lock"} == {"00-original", "01-prune"}
