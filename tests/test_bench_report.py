"""``bench run`` and ``bench report``: files, rows that agree, a page that stands alone."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Cli

from bench.measurement import Artifact, Measurement
from bench.page.changes import TITLES, changes
from bench.tables import prose, recipe, rows
from genslim.generator import Generator, StepRecord
from genslim.run import Run

QUICK = ("--count", "12", "--rounds", "3", "--target", "openvino:batch=4,threads=1", "--no-memory")


@pytest.fixture
def made(tiny_gan: Generator, working_folder: Path) -> Run:
    """A run with the original, a step, and an engine that can't run here."""
    run = Run(working_folder / "runs" / "00-dcgan-mnist")
    module = tiny_gan.trainable()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
    record = StepRecord(
        "prune",
        {"seed": 0, "ratio": 0.5, "recover": "none", "revert": True, "layers": None},
        {
            "changed": ["net.0: 256 to 128 channels"],
            "left": [{"what": "net.9", "reason": "its channels are <the> picture's"}],
            "seconds": 1.5,
            "parameters": [1000, 500],
            "engine": None,
            "parity": {"max_error": 0.05, "of": [{"inputs": {"z": [1, 100]}, "problem": None}]},
        },
    )
    with run.locked():
        run.start(tiny_gan)
        step = run.append(tiny_gan.with_step(record, module=module), "prune", parent="00-original")
        engine = working_folder / "engine.plan"
        engine.write_bytes(b"engine" * 100)
        built = step.with_step(
            StepRecord("trt", {"precision": "fp16"}), files={"engine.plan": engine}
        )
        run.append(built, "trt", parent="01-prune", kind="export")
    return run


MEASURED: list[Path] = []
"""What ``bench run`` wrote for the first test that needed it: every run here is made alike."""


@pytest.fixture
def benched(made: Run, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run, measured."""
    if not MEASURED:
        done = cli("bench", "run", made.path, *QUICK, "--quiet")
        assert done.status == 0, done
        kept = tmp_path_factory.mktemp("measured") / "bench"
        shutil.copytree(made.path / "bench", kept)
        MEASURED.append(kept)
    shutil.copytree(MEASURED[0], made.path / "bench", dirs_exist_ok=True)
    return made


def load(run: Run) -> Measurement:
    return Measurement.load(run.path / "bench")


def markdown_rows(text: str) -> list[list[str]]:
    """The cells of the first table."""
    lines = text[text.index("| Step") :].split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_report_says_the_same_everywhere(benched: Run, cli: Cli) -> None:
    done = cli("bench", "report")
    assert done.status == 0, done
    folder = benched.path / "report"
    facts = json.loads((folder / "report.json").read_text())
    text = (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    header, _, *table = markdown_rows(text)
    assert header == [column.title for column in rows.MAIN]
    assert table == [[column.cell(row) for column in rows.MAIN] for row in facts["rows"]]
    body = re.search(r'id="table".*?<tbody>(.*?)</tbody>', page, re.S)
    assert body is not None
    lines = re.findall(r"<tr.*?</tr>", body[1], re.S)
    assert [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line) for line in lines] == table
    assert facts["headline"] in done.out
    assert facts["headline"] in text
    for row in table:
        assert row[0] in done.out
    steps = [row[0] for row in table if row[0] != "baseline"]
    assert steps == ["00-original", "01-prune", "02-trt"]


def test_the_page_stands_alone(benched: Run, cli: Cli) -> None:
    cli("bench", "report", "--quiet")
    path = benched.path / "report" / "report.html"
    page = path.read_text()
    assert path.stat().st_size < 5_000_000
    markup, script = (
        re.sub(r"<script>.*?</script>", "", page, flags=re.S),
        page.split("<script>")[1],
    )
    fetched = re.findall(r"""\b(?:src|href|action|poster)\s*=\s*["']?([^"'\s>]+)""", markup)
    assert fetched
    assert all(target.startswith("data:") for target in fetched)
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|WebSocket|sendBeacon)\b", script)
    assert "@import" not in page
    assert not re.search(r"url\(\s*[\"']?(?!data:)", page)
    assert not re.search(r"https?://", page)
    assert page.count("data:image/webp;base64,") == 12 * (1 + 1)
    assert page.count("data:image/png;base64,") == 12
    assert "&lt;the&gt; picture" in page
    assert "<the>" not in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_what_can_not_run_here_is_listed_with_the_reason(benched: Run, cli: Cli) -> None:
    measurement = load(benched)
    engine = measurement.artifacts[2]
    assert engine.readings == ()
    assert [r.runtime for r in engine.refusals] == ["tensorrt"]
    assert "GPU" in engine.refusals[0].reason
    assert engine.disk_bytes == 600
    assert engine.parameters == measurement.artifacts[1].parameters
    done = cli("bench", "report")
    assert "02-trt on tensorrt was not measured" in done.out
    assert rows.last_measured(measurement)[0].name == "01-prune"


def test_every_command_is_told(benched: Run) -> None:
    first, second, last = recipe.commands(load(benched))
    assert first == "compress prune dcgan-mnist --ratio 0.5 --recover none --revert --seed 0"
    assert second == "export trt --precision fp16"
    assert last == "bench run --target openvino:batch=4,threads=1 --seed 0"


def test_what_a_step_did_is_told(benched: Run) -> None:
    detail = recipe.detail(load(benched).artifacts[1])
    assert detail is not None
    assert detail.facts == (("seconds", "1.5"), ("parameters", "1 000 → 500"))
    assert detail.lists == (
        ("changed", ("net.0: 256 to 128 channels",), 0),
        ("left", ("net.9: its channels are <the> picture's",), 0),
        ("parity", ("max error: 0.05", "of: inputs z [1, 100]"), 0),
    )


def test_json_output_is_one_line_of_the_same_facts(made: Run, cli: Cli) -> None:
    done = cli("bench", "run", *QUICK, "--runtimes", "torch", "--json")
    assert done.status == 0, done
    (line,) = done.out.splitlines()
    said = json.loads(line)
    assert said["wrote"].endswith("measurement.json")
    assert [row["step"] for row in said["rows"]][-1] == "02-trt"
    report = cli("bench", "report", "--json")
    again = json.loads(report.out)
    assert again["rows"] == said["rows"]
    assert all(Path(file).is_file() for file in again["files"])


def test_a_report_can_be_one_file(benched: Run, cli: Cli, working_folder: Path) -> None:
    assert cli("bench", "report", "-o", "deep/page.html").status == 0
    assert [p.name for p in (working_folder / "deep").iterdir()] == ["page.html"]
    assert "no report ends in '.pdf'" in cli("bench", "report", "-o", "page.pdf").refused()


def test_artifacts_newer_than_the_measurement_are_named(benched: Run, cli: Cli) -> None:
    shutil.copytree(benched.path / "01-prune", benched.path / "03-later")
    done = cli("bench", "report")
    assert "made after the measurement and not in it: 03-later" in done.err
    assert "03-later" in (benched.path / "report" / "report.html").read_text()


def test_dry_run_does_nothing(made: Run, cli: Cli) -> None:
    done = cli("bench", "run", "--dry-run")
    assert done.status == 0
    assert "00-original, 01-prune, 02-trt" in done.out
    assert "on openvino:batch=16" in done.out
    assert not (made.path / "bench").exists()


def test_no_run(cli: Cli) -> None:
    assert "no run below this folder" in cli("bench", "run").refused()
    assert "no run below this folder" in cli("bench", "report").refused()


def test_no_such_run(cli: Cli, working_folder: Path) -> None:
    assert "nowhere does not exist" in cli("bench", "run", "nowhere").refused()
    (working_folder / "empty").mkdir()
    assert "empty is no run" in cli("bench", "report", "empty").refused()


def test_nothing_measured(made: Run, cli: Cli) -> None:
    line = cli("bench", "report").refused()
    assert "nothing was measured" in line
    assert "bench run" in line


def test_a_run_in_use_is_refused(made: Run, cli: Cli) -> None:
    with made.locked():
        assert "in use by another process" in cli("bench", "run", *QUICK).refused()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--runtimes", "torch,abacus"), "abacus"),
        (("--target", "abacus"), "abacus"),
        (("--target", "openvino:batch=x"), "batch=x"),
        (("--rounds", "1"), "rounds 1"),
        (("--count", "0"), "count 0"),
    ],
)
def test_settings_that_can_not_be(
    made: Run, cli: Cli, flags: tuple[str, ...], complaint: str
) -> None:
    assert complaint in cli("bench", "run", *flags).refused()
    assert not (made.path / "bench").exists()


def test_a_notebook_shows_table_and_pictures(benched: Run) -> None:
    shown = load(benched)._repr_html_()
    assert str(prose.headline(load(benched))) in shown
    assert shown.count("data:image/webp") == 2 * 8
    assert shown.count("data:image/png") == 8
    assert "<style" not in shown
    assert "<script" not in shown


def test_changes_are_told_step_by_step_and_in_all(benched: Run) -> None:
    table = {row.step: row for row in rows.main_rows(load(benched))}
    first, *_ = table.values()
    found = {one.step: dict(zip(TITLES, one.pairs, strict=True)) for one in changes(load(benched))}
    assert list(found) == [step for step in table if step != first.step]
    step, in_all = found["01-prune"]["SSIM"]
    ssim = table["01-prune"].ssim
    assert ssim is not None
    assert step == in_all
    assert in_all.text == prose.signed(ssim - 1, ".4f")
    assert in_all.tone == "worse"
    step, in_all = found["01-prune"]["Speed"]
    assert step.text == rows.times(table["01-prune"].change or 0)
    assert in_all.text == rows.times(table["01-prune"].speedup or 0)
    disk, _ = found["02-trt"]["Disk"]
    was, now = table["01-prune"].disk_bytes, table["02-trt"].disk_bytes
    assert was is not None
    assert now is not None
    assert disk.text == f"{prose.signed(100 * (now / was - 1), '.0f')} %"
    assert disk.tone == "better"
    speed, _ = found["02-trt"]["Speed"]
    assert speed.text == rows.NOTHING


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (rows.milliseconds, 0.4821, "0.482 ms"),
        (rows.milliseconds, 4.821, "4.82 ms"),
        (rows.milliseconds, 482.1, "482 ms"),
        (rows.times, 12.94, "12.9×"),
        (rows.times, 0.85, "0.85×"),
        (rows.quantity, 999, "999"),
        (rows.quantity, 1_320_000, "1.32 M"),
        (rows.file_size, 388_000, "388 kB"),
        (rows.file_size, 999_999_999, "1000 MB"),
        (prose.faster, 1.02, "as fast"),
        (prose.faster, 0.5, "2.00× slower"),
        (prose.faster, 12.94, "12.9× faster"),
    ],
)
def test_figures_as_text(write, value, text) -> None:  # type: ignore[no-untyped-def]
    assert write(value) == text


def test_a_gain_names_what_changed(benched: Run) -> None:
    measurement = load(benched)
    table = {row.step: row for row in rows.main_rows(measurement)}
    now = replace(table["01-prune"], change=2.1, ssim=0.9, parameters=500, runtime="openvino")
    before = replace(
        table["00-original"], ssim=0.95, parameters=1000, runtime="torch", disk_bytes=now.disk_bytes
    )
    said = prose.gain(now, before, "01-prune")
    assert said.speed == "2.10× faster on openvino fp32"
    assert said.costs == ("SSIM 0.9500 to 0.9000 (−0.0500)", "params −50 %")


def test_headline(benched: Run) -> None:
    measurement = load(benched)
    line = str(prose.headline(measurement))
    artifact, reading = rows.last_measured(measurement)
    assert "PyTorch eager fp32 at SSIM 0." in line
    assert f"({reading.runtime}, fp32, batch 4, 1 thread; " in line
    speedup = 1 / reading.latency.ratio_to(measurement.baseline.latency)
    low, high = reading.latency.ratio_interval(measurement.baseline.latency)
    assert line.endswith(f"; {rows.times_between((1 / high, 1 / low))} in 95 %)")
    assert line.startswith(prose.faster(speedup))
    assert isinstance(artifact, Artifact)
