"""Several processes for one command: the first speaks and writes, and decides for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from genslim import Generator, processes
from genslim.command import Common
from genslim.generator import StepRecord
from genslim.run import RUNS, Onlooker
from genslim.stepping import working_on


def launched(monkeypatch: pytest.MonkeyPatch, rank: int, count: int = 2) -> None:
    """Let this process take itself for one that a launcher started."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


def test_a_command_that_no_launcher_started_is_the_first_of_one() -> None:
    assert processes.count() == 1
    assert processes.leads()
    marker = object()
    assert processes.agreed(marker) is marker


def test_the_first_of_several_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in (0, 1):
        launched(monkeypatch, rank)
        assert processes.count() == 2
        assert processes.leads() == (rank == 0)
        assert Common().console().quiet == (rank != 0)
    launched(monkeypatch, 0, count=1)
    assert processes.count() == 1


def test_an_onlooker_works_along_and_writes_nothing(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch, working_folder: Path
) -> None:
    launched(monkeypatch, 1)
    monkeypatch.setattr(processes, "agreed", lambda value: value)
    with working_on("dcgan-mnist", Common()) as place:
        assert isinstance(place.run, Onlooker)
        stepped = tiny_gan.with_step(StepRecord("prune", {}))
        assert place.run.append(stepped, "prune", parent=place.parent) is stepped
        (place.run.path / "scratch").touch()
        thrown_away = place.run.path
    assert not thrown_away.exists()
    assert not RUNS.exists()
    assert list(working_folder.iterdir()) == []


def test_the_onlooker_opens_what_the_first_process_found(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working_on("dcgan-mnist", Common(output="ours")) as place:
        place.run.append(tiny_gan.with_step(StepRecord("prune", {})), "prune", parent=place.parent)
    launched(monkeypatch, 1)
    monkeypatch.setattr(processes, "agreed", lambda value: Path("ours/01-prune"))
    with working_on(None, Common()) as place:
        assert [step.name for step in place.generator.steps] == ["prune"]
