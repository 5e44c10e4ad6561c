"""What is left of an interrupted command, who goes on with it, and who does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genslim import Generator, loading, stepping
from genslim.command import Common
from genslim.errors import GateFailed
from genslim.run import Run, runs
from genslim.stepping import existing_artifact, working_on


@pytest.fixture(autouse=True)
def quick_source(tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """``dcgan-mnist`` with the weights of ``tiny_gan``."""
    plain = stepping.open_source

    def open_source(source: str | None, common: Common) -> Generator:
        return tiny_gan if source in (None, "dcgan-mnist") else plain(source, common)

    monkeypatch.setattr(stepping, "open_source", open_source)


def interrupt(source: str | None = "dcgan-mnist", output: str | None = None) -> Run:
    """Begin to work, leave a checkpoint, and be interrupted."""
    found: list[Run] = []

    def work() -> None:
        with working_on(source, Common(output=output)) as place:
            found.append(place.run)
            place.run.checkpoint.write_bytes(b"half of the work")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    return found[0]


def fail_at_last(output: str | None) -> None:
    """Go on, and come to the result that the work can't be done."""
    with working_on("dcgan-mnist", Common(output=output)) as place:
        place.run.checkpoint.unlink()
        raise GateFailed("diverged")


def test_an_interrupted_run_stays_and_is_gone_on_with() -> None:
    run = interrupt()
    assert run.interrupted
    assert not run.in_use
    assert runs() == []
    assert runs(interrupted=True) == [run]
    assert existing_artifact(None) is None  # nothing that another command should go on with
    for source in ("dcgan-mnist", None, str(run.path)):
        with working_on(source, Common()) as place:
            assert place.run.path.resolve() == run.path.resolve()
            assert place.run.checkpoint.read_bytes() == b"half of the work"
            assert place.parent == "00-original"


def test_a_named_run_is_gone_on_with_when_named() -> None:
    run = interrupt(output="ours")
    with working_on("dcgan-mnist", Common(output="ours")) as place:
        assert place.run.checkpoint.is_file()
        place.run.checkpoint.unlink()
        place.run.append(place.generator, "prune", parent=place.parent)
    assert not run.interrupted


def test_work_that_fails_in_the_end_takes_its_run_away() -> None:
    for output in (None, "ours"):
        run = interrupt(output=output)
        with pytest.raises(GateFailed):
            fail_at_last(output)
        assert not run.path.exists()


def test_an_interrupted_run_of_other_weights_is_none_of_ours(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt()
    module = tiny_gan.trainable()
    with torch.no_grad():
        next(module.parameters()).add_(1)
    trained_on = replace(tiny_gan, module=module)
    monkeypatch.setattr(stepping, "open_source", lambda source, common: trained_on)
    with working_on("dcgan-mnist", Common()) as place:
        assert place.run.path == Path("runs/01-dcgan-mnist")


def test_an_interrupted_run_that_another_goes_on_with_is_left_to_it() -> None:
    run = interrupt()
    with run.locked():
        assert run.in_use
        with working_on("dcgan-mnist", Common()) as place:
            assert place.run.path == Path("runs/01-dcgan-mnist")


def test_the_default_source_is_never_an_interrupted_run(tiny_gan: Generator) -> None:
    with working_on("dcgan-mnist", Common(output="runs/00-done")) as place:
        place.run.append(place.generator, "prune", parent=place.parent)
    interrupt()
    assert loading.load().label == "runs/00-done/01-prune"


def test_half_written_checkpoints_are_swept_and_whole_ones_are_not() -> None:
    run = interrupt(output="ours")
    half = run.path / ".tmp-.unfinished.safetensors-123"
    half.touch()
    with run.locked():
        assert not half.exists()
        assert run.checkpoint.is_file()
