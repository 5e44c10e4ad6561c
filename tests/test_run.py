"""A run: artifacts in order, one writer at a time, and the newest is what comes next."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from genslim import Generator, artifact
from genslim.command import Common
from genslim.errors import UserError
from genslim.generator import StepRecord
from genslim.run import LOCK, Run, is_run, new_run, run_of, runs
from genslim.stepping import working_on
from genslim.storage import TEMPORARY


def stepped(generator: Generator, name: str) -> Generator:
    return generator.with_step(StepRecord(name, {}))


def a_run(generator: Generator, folder: str = "runs/00-ours") -> Run:
    run = Run(Path(folder))
    with run.locked():
        run.start(generator)
    return run


def test_artifacts_are_numbered_in_order(tiny_gan: Generator) -> None:
    run = a_run(tiny_gan)
    with run.locked():
        for name in ("prune", "separable"):
            run.append(stepped(tiny_gan, name), name, parent=run.newest.name)
    assert [p.name for p in run.artifacts] == ["00-original", "01-prune", "02-separable"]
    assert run.newest.name == "02-separable"
    assert run_of(run.newest).path == run.path.resolve()


def test_the_newest_is_never_an_export(tiny_gan: Generator) -> None:
    run = a_run(tiny_gan)
    with run.locked():
        run.append(stepped(tiny_gan, "prune"), "prune", parent="00-original")
        run.append(tiny_gan, "onnx", parent="01-prune", kind="export")
        assert run.newest.name == "01-prune"
        assert run.next_folder("trt").name == "03-trt"


def test_a_gap_is_not_filled(tiny_gan: Generator) -> None:
    import shutil

    run = a_run(tiny_gan)
    with run.locked():
        run.append(tiny_gan, "prune", parent="00-original")
        run.append(tiny_gan, "separable", parent="01-prune")
        shutil.rmtree(run.path / "01-prune")
        assert run.next_folder("quantize").name == "03-quantize"


def test_what_is_no_artifact_does_not_count(tiny_gan: Generator) -> None:
    run = a_run(tiny_gan)
    (run.path / "07-notes").mkdir()
    (run.path / "report.html").touch()
    (run.path / "thumbnails").mkdir()
    assert [p.name for p in run.artifacts] == ["00-original"]


def test_runs_and_their_names(tiny_gan: Generator, working_folder: Path) -> None:
    assert runs() == []
    assert new_run("dcgan-mnist").path == Path("runs/00-dcgan-mnist")
    a_run(tiny_gan, "runs/00-dcgan-mnist")
    a_run(tiny_gan, "runs/04-later")
    (working_folder / "runs" / "05-empty").mkdir()
    assert [run.path.name for run in runs()] == ["00-dcgan-mnist", "04-later"]
    assert new_run("RealESRGAN x4+ (anime)").path.name == "06-realesrgan-x4-anime"
    assert new_run("???").path.name == "06-run"
    assert is_run(Path("runs/04-later"))
    assert not is_run(Path("runs/05-empty"))
    assert not is_run(Path("nowhere"))


def test_a_run_without_artifacts_has_no_newest() -> None:
    with pytest.raises(UserError, match="holds no artifact"):
        _ = Run(Path("nowhere")).newest


def test_the_lock_keeps_others_out_and_sweeps_leftovers(tiny_gan: Generator) -> None:
    run = a_run(tiny_gan)
    leftover = run.path / f"{TEMPORARY}01-prune-123"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    with run.locked():
        assert not leftover.exists()
        with pytest.raises(UserError, match="in use by another process"), run.locked():
            pass
    with run.locked():
        assert run.newest.name == "00-original"


def enter(path: str, results: multiprocessing.Queue[str]) -> None:
    """Work in a run from another process."""
    try:
        with Run(Path(path)).locked():
            results.put("in")
    except UserError as error:
        results.put(str(error))


def test_another_process_is_kept_out_too(tiny_gan: Generator) -> None:
    run = a_run(tiny_gan)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with run.locked():
        process = context.Process(target=enter, args=(str(run.path), results))
        process.start()
        assert "in use by another process" in results.get(timeout=60)
        process.join()


def test_work_on_a_run_starts_from_its_newest(tiny_gan: Generator) -> None:
    run = a_run(tiny_gan)
    with run.locked():
        run.append(stepped(tiny_gan, "prune"), "prune", parent="00-original")
    for source in (None, "runs/00-ours", "runs/00-ours/01-prune"):
        with working_on(source, Common()) as place:
            assert place.parent == "01-prune"
            assert place.run.path.resolve() == run.path.resolve()
            assert [step.name for step in place.generator.steps] == ["prune"]
    with working_on("runs/00-ours/00-original", Common()) as place:
        assert place.parent == "00-original"


def test_output_starts_a_run_of_its_own(tiny_gan: Generator) -> None:
    a_run(tiny_gan)
    with working_on("runs/00-ours", Common(output="elsewhere")) as place:
        assert place.parent == "00-original"
        assert place.run == Run(Path("elsewhere"))
    assert [p.name for p in Run(Path("elsewhere")).artifacts] == ["00-original"]


def test_a_run_of_another_generator_is_not_continued(tiny_gan: Generator) -> None:
    a_run(stepped(tiny_gan, "prune"), "runs/00-pruned")
    a_run(tiny_gan, "runs/01-whole")
    with (
        pytest.raises(UserError, match="began with another generator"),
        working_on("runs/01-whole", Common(output="runs/00-pruned")),
    ):
        pass
    assert [p.name for p in Run(Path("runs/00-pruned")).artifacts] == ["00-original"]


def fail() -> None:
    raise UserError("no")


def test_a_run_started_for_work_that_fails_is_taken_away(tiny_gan: Generator) -> None:
    artifact.save(tiny_gan, Path("single"), kind="original")
    for output in ("new", "used"):
        if output == "used":
            Path(output).mkdir()
            (Path(output) / "notes.txt").write_text("precious")
        with (
            pytest.raises(UserError, match="no"),
            working_on("single", Common(output=output)),
        ):
            fail()
    assert not Path("new").exists()
    assert [p.name for p in Path("used").iterdir() if p.name != LOCK] == ["notes.txt"]
    with working_on("single", Common(output="new")):
        pass
    assert is_run(Path("new"))


def test_a_run_that_was_there_stays_when_work_fails(tiny_gan: Generator) -> None:
    run = a_run(tiny_gan)
    with pytest.raises(UserError, match="no"), working_on("runs/00-ours", Common()):
        fail()
    assert [p.name for p in run.artifacts] == ["00-original"]
    artifact.save(tiny_gan, Path("single"), kind="original")
    with pytest.raises(UserError, match="no"), working_on("single", Common(output=str(run.path))):
        fail()
    assert [p.name for p in run.artifacts] == ["00-original"]


def test_what_a_failed_command_appended_stays(tiny_gan: Generator) -> None:
    artifact.save(tiny_gan, Path("single"), kind="original")

    def append_and_fail() -> None:
        with working_on("single", Common(output="new")) as place:
            place.run.append(tiny_gan, "prune", parent="00-original")
            fail()

    with pytest.raises(UserError, match="no"):
        append_and_fail()
    assert [p.name for p in Run(Path("new")).artifacts] == ["00-original", "01-prune"]
