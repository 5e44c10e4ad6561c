"""What a user can get wrong: one clear line, the right exit status, and nothing lost.

Each case goes through the command line, with ``compress prune`` standing for every step.
"""

from __future__ import annotations

import json
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Cli, run_program
from safetensors.torch import load_file, save_file

from genslim import Generator, artifact
from genslim.errors import GenslimError, UserError
from genslim.run import LOCK, Run
from genslim.sources.weights import read_state
from genslim.storage import TEMPORARY, write_whole

FACTORY = """\
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(8, 16, 4), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(),
            nn.Upsample(scale_factor=4), nn.Conv2d(16, 3, 3, 1, 1), nn.Tanh(),
        )
    def forward(self, z):
        return self.net(z[:, :, None, None])

def build():
    return Net()

def needs(something):
    return something

def number():
    return 5
"""
PRUNE = ("--recover", "none", "--ratio", "0.5")


@pytest.fixture
def factory(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """``module:build`` of a small generator of latents ``(N, 8)`` in the working folder."""
    name = f"ours_{abs(hash(request.node.nodeid))}"
    (working_folder / f"{name}.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(working_folder))
    return f"{name}:build"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` but locks, by its path."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != LOCK and "__pycache__" not in p.parts
    }


def no_run_was_started() -> bool:
    return not list(Path.cwd().rglob(artifact.RECORD)) and not list(
        Path.cwd().rglob(f"{TEMPORARY}*")
    )


# Sources that are none.


def test_a_missing_file(cli: Cli) -> None:
    for name in ("nowhere.safetensors", "nowhere.pth", "no/such/folder.pt"):
        line = cli("compress", "prune", name, *PRUNE).refused()
        assert f"no file {name}" in line
    assert no_run_was_started()


def test_a_name_that_is_nothing(cli: Cli, working_folder: Path) -> None:
    line = cli("compress", "prune", "dcgan-minst", *PRUNE).refused()
    assert "'dcgan-minst' is no source" in line
    assert "dcgan-mnist" in line, "the line says what there is"
    (working_folder / "empty").mkdir()
    assert "'empty' exists but is no source" in cli("compress", "prune", "empty", *PRUNE).refused()
    assert no_run_was_started()


@pytest.mark.parametrize("keep", [0, 1, 7, 40, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_cut_short(
    cli: Cli, compact_weights: Path, working_folder: Path, suffix: str, keep: float
) -> None:
    whole = working_folder / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(load_file(compact_weights), whole)
    else:
        shutil.copy(compact_weights, whole)
    blob = whole.read_bytes()
    short = working_folder / f"short{suffix}"
    short.write_bytes(blob[: keep if isinstance(keep, int) else int(len(blob) * keep)])
    line = cli("compress", "prune", short, *PRUNE).refused()
    assert str(short) in line
    assert "damaged or cut short" in line
    assert no_run_was_started()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_random_bytes(cli: Cli, working_folder: Path, suffix: str, seed: int) -> None:
    path = working_folder / f"noise{suffix}"
    random = torch.Generator().manual_seed(seed)
    path.write_bytes(bytes(torch.randint(256, (4096,), generator=random).tolist()))
    assert str(path) in cli("compress", "prune", path, *PRUNE).refused()
    assert no_run_was_started()


class Payload:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_does_not_run(
    cli: Cli, working_folder: Path, suffix: str, zipped: bool
) -> None:
    crime = working_folder / "crime"
    path = working_folder / f"evil{suffix}"
    torch.save({"weight": Payload(crime)}, path, _use_new_zipfile_serialization=zipped)
    line = cli("compress", "prune", path, *PRUNE).refused()
    assert "was not executed" in line
    assert not crime.exists()
    assert no_run_was_started()
    pickle.loads(pickle.dumps(Payload(crime)))
    assert crime.exists(), "the payload would have worked"


def test_a_plain_pickle_with_code_does_not_run(cli: Cli, working_folder: Path) -> None:
    crime = working_folder / "crime"
    path = working_folder / "evil.pth"
    path.write_bytes(pickle.dumps(Payload(crime)))
    cli("compress", "prune", path, *PRUNE).refused()
    assert not crime.exists()


def test_a_pickle_named_safetensors_does_not_run(cli: Cli, working_folder: Path) -> None:
    crime = working_folder / "crime"
    path = working_folder / "evil.safetensors"
    torch.save({"weight": Payload(crime)}, path)
    cli("compress", "prune", path, *PRUNE).refused()
    assert not crime.exists()


def test_a_whole_module_in_a_pickle_is_refused(cli: Cli, working_folder: Path) -> None:
    path = working_folder / "module.pth"
    torch.save(torch.nn.Conv2d(3, 3, 3), path)
    assert "more than weights" in cli("compress", "prune", path, *PRUNE).refused()


def test_a_file_of_something_else_than_tensors(cli: Cli, working_folder: Path) -> None:
    path = working_folder / "list.pth"
    torch.save([1, 2, 3], path)
    assert "no dictionary of tensors" in cli("compress", "prune", path, *PRUNE).refused()


def test_weights_that_fit_no_architecture(cli: Cli, working_folder: Path) -> None:
    path = working_folder / "strange.safetensors"
    save_file({"a.weight": torch.zeros(3, 4)}, path)
    line = cli("compress", "prune", path, *PRUNE).refused()
    assert "recognises no architecture" in line
    assert "package.module:factory" in line
    assert no_run_was_started()


def test_weights_of_a_known_architecture_with_a_wrong_shape(
    cli: Cli, compact_weights: Path, working_folder: Path
) -> None:
    state = load_file(compact_weights)
    state["body.2.weight"] = torch.zeros(5, 5, 3, 3)
    path = working_folder / "bent.safetensors"
    save_file(state, path)
    assert "fit no architecture" in cli("compress", "prune", path, *PRUNE).refused()
    assert no_run_was_started()


def test_image_generators_need_a_folder_of_images(cli: Cli, compact_weights: Path) -> None:
    assert "--images DIR" in cli("compress", "prune", compact_weights, *PRUNE).refused()
    assert no_run_was_started()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(
    cli: Cli, compact_weights: Path, working_folder: Path, image_folder: Path, value: float
) -> None:
    state = load_file(compact_weights)
    state["body.2.weight"][0, 0] = value
    path = working_folder / "nan.safetensors"
    save_file(state, path)
    line = cli("compress", "prune", path, "--images", image_folder, *PRUNE).refused()
    assert "9 of the 2304 weights in 'body.2.weight' are NaN or infinite" in line
    assert no_run_was_started()


# Factories.


def test_weights_of_wrong_shapes_for_a_factory(
    cli: Cli, factory: str, working_folder: Path
) -> None:
    path = working_folder / "other.safetensors"
    save_file({"net.0.weight": torch.zeros(8, 8, 4, 4)}, path)
    line = cli(
        "compress", "prune", factory, "--weights", path, "--input", "z:1,8", *PRUNE
    ).refused()
    assert f"does not fit {factory}" in line
    assert no_run_was_started()


def test_a_factory_without_the_shape_of_its_input(cli: Cli, factory: str) -> None:
    assert "--input z:1,100" in cli("compress", "prune", factory, *PRUNE).refused()


@pytest.mark.parametrize(
    "shape", ["z", "z:", "z:8", "z:1,-8", "z:1,0", "z:1,8.5", "z:one,8", "1,,8", "z:1,8,", "²,8"]
)
def test_an_input_shape_that_is_none(cli: Cli, factory: str, shape: str) -> None:
    line = cli("compress", "prune", factory, f"--input={shape}", *PRUNE).refused()
    assert "is no shape" in line
    assert no_run_was_started()


def test_an_input_shape_that_the_module_does_not_take(cli: Cli, factory: str) -> None:
    line = cli("compress", "prune", factory, "--input", "z:1,9", *PRUNE).refused()
    assert "does not take inputs of shape [[2, 9]]" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name: name.replace("build", "absent"), "absent"),
        (lambda name: "no_such_package.module:build", "no_such_package"),
        (lambda name: name.replace("build", "needs"), "something"),
        (lambda name: name.replace("build", "number"), "returned int"),
        (lambda name: "os:abort", "standard library"),
    ],
)
def test_a_factory_that_is_none(
    cli: Cli, factory: str, change: Callable[[str], str], said: str
) -> None:
    line = cli("compress", "prune", change(factory), "--input", "z:1,8", *PRUNE).refused()
    assert said in line
    assert no_run_was_started()


def test_a_factory_in_the_working_folder_is_found_by_a_console_script(
    working_folder: Path,
) -> None:
    (working_folder / "mine.py").write_text(FACTORY)
    program = Path(sys.executable).with_name("compress")
    outcome = run_program([program, "prune", "mine:build", "--input", "z:1,9", *PRUNE])
    assert "does not take inputs" in outcome.refused(), "it was imported and tried"


# What is asked of a step.


@pytest.mark.parametrize("ratio", ["0", "1", "-0.5", "2", "nan", "inf"])
def test_a_ratio_outside_0_and_1(cli: Cli, factory: str, ratio: str) -> None:
    line = cli(
        "compress", "prune", factory, "--input", "z:1,8", "--recover", "none", f"--ratio={ratio}"
    ).refused()
    assert "ratio" in line
    assert "between 0 and 1" in line
    assert no_run_was_started()


def test_a_target_that_is_none(cli: Cli, factory: str) -> None:
    common = ("compress", "prune", factory, "--input", "z:1,8", *PRUNE)
    assert "'abacus'" in cli(*common, "--target", "abacus").refused()
    assert "'batch=0'" in cli(*common, "--target", "openvino:batch=0").refused()
    assert "'speed=1'" in cli(*common, "--target", "openvino:speed=1").refused()
    assert no_run_was_started()


# Folders of images.


def test_a_folder_of_images_that_is_not_there(cli: Cli, compact_weights: Path) -> None:
    line = cli("compress", "prune", compact_weights, "--images", "nowhere", *PRUNE).refused()
    assert "no folder" in line
    assert no_run_was_started()


def test_a_folder_without_images(cli: Cli, compact_weights: Path, working_folder: Path) -> None:
    folder = working_folder / "texts"
    folder.mkdir()
    (folder / "note.txt").write_text("no picture")
    line = cli("compress", "prune", compact_weights, "--images", folder, *PRUNE).refused()
    assert "holds 0 usable images" in line
    assert no_run_was_started()


def test_a_folder_of_broken_images(
    cli: Cli, compact_weights: Path, working_folder: Path, image_folder: Path
) -> None:
    folder = working_folder / "broken"
    folder.mkdir()
    blob = (image_folder / "picture-0.png").read_bytes()
    (folder / "empty.png").touch()
    (folder / "short.png").write_bytes(blob[: len(blob) // 2])
    (folder / "noise.jpg").write_bytes(bytes(range(256)) * 4)
    (folder / "good.png").write_bytes(blob)
    line = cli("compress", "prune", compact_weights, "--images", folder, *PRUNE).refused()
    assert "holds 1 usable images (4 files look like images)" in line
    assert no_run_was_started()


# Disks.


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_is_a_file(
    cli: Cli, factory: str, working_folder: Path, place: str
) -> None:
    (working_folder / "file").write_text("precious")
    line = cli("compress", "prune", factory, "--input", "z:1,8", "-o", place, *PRUNE).refused()
    assert "can't write" in line
    assert (working_folder / "file").read_text() == "precious"


def test_a_read_only_disk(cli: Cli, factory: str, small_disk: Callable[[str], Path]) -> None:
    place = small_disk("1m")
    (place / "kept").write_text("precious")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    line = cli(
        "compress", "prune", factory, "--input", "z:1,8", "-o", place / "run", *PRUNE
    ).refused()
    assert "can't write" in line
    assert "read-only" in line
    assert snapshot(place) == {"kept": b"precious"}


def test_a_folder_that_one_may_not_write_to(tiny_gan: Generator, working_folder: Path) -> None:
    """Root may write anywhere, so the refusal is looked for where users are not root."""
    folder = working_folder / "theirs"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        probe = folder / "probe"
        try:
            probe.touch()
        except PermissionError:
            with pytest.raises(UserError, match="you may not write there"):
                artifact.save(tiny_gan, folder / "00-original", kind="original")
        else:
            probe.unlink()
            pytest.skip("this user may write to read-only folders (root)")
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_full_disk(cli: Cli, factory: str, small_disk: Callable[[str], Path]) -> None:
    place = small_disk("20k")
    (place / "kept").write_text("precious")
    line = cli(
        "compress", "prune", factory, "--input", "z:1,8", "-o", place / "run", *PRUNE
    ).refused()
    assert "can't write" in line
    assert "disk is full" in line
    assert snapshot(place) == {"kept": b"precious"}


def test_a_disk_that_fills_up_at_the_second_artifact(
    tiny_gan: Generator, small_disk: Callable[[str], Path]
) -> None:
    place = small_disk("12m")  # the weights take 8.4 MB
    run = Run(place / "run")
    with run.locked():
        first = run.start(tiny_gan)
        before = snapshot(place)
        with pytest.raises(UserError, match="the disk is full"):
            run.append(tiny_gan, "prune", parent="00-original")
        assert snapshot(place) == before
    assert run.newest == first.path


def test_a_whole_file_is_replaced_or_kept(small_disk: Callable[[str], Path]) -> None:
    path = small_disk("100k") / "report.html"
    write_whole(path, "old")
    with pytest.raises(UserError, match="the disk is full"):
        write_whole(path, b"x" * 200_000)
    assert snapshot(path.parent) == {"report.html": b"old"}
    write_whole(path, "new")
    assert snapshot(path.parent) == {"report.html": b"new"}


# A run that another process works in.

HOLDER = """\
import sys
from pathlib import Path
from genslim.run import Run
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_in_use_by_another_process(cli: Cli, factory: str, working_folder: Path) -> None:
    common = ("compress", "prune", factory, "--input", "z:1,8", "-o", "shared", *PRUNE)
    assert cli(*common).status == 0
    before = snapshot(working_folder / "shared")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "shared"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert "in use by another process" in cli(*common).refused()
        assert "in use" in cli("compress", "prune", "shared", *PRUNE).refused()
        assert snapshot(working_folder / "shared") == before
    finally:
        holder.kill()
        holder.communicate()
    assert cli(*common).status == 0, "a killed process holds nothing"


# Damaged artifacts.


@pytest.fixture
def run(tiny_gan: Generator, working_folder: Path) -> Run:
    """A run with the random DCGAN as its original."""
    made = Run(Path("runs") / "00-ours")
    with made.locked():
        made.start(tiny_gan)
    return made


def refusal(cli: Cli, run: Run) -> str:
    """The one line of a step that starts from the damaged run, which must stay as it is."""
    before = snapshot(run.path)
    line = cli("compress", "prune", run.path / "00-original", *PRUNE).refused()
    assert cli("compress", "prune", *PRUNE).refused() == line, "the same by default"
    assert snapshot(run.path) == before
    return line


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"format": "one"}', b'{"format": 1}', b"\xff\xfe\x00"],
)
def test_a_damaged_record(cli: Cli, run: Run, content: bytes) -> None:
    (run.path / "00-original" / artifact.RECORD).write_bytes(content)
    assert "artifact.json is damaged" in refusal(cli, run)


def edit_record(run: Run, change: Callable[[dict[str, object]], object]) -> None:
    path = run.path / "00-original" / artifact.RECORD
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_record_of_a_newer_format(cli: Cli, run: Run) -> None:
    edit_record(run, lambda r: r.update(format=artifact.FORMAT + 1))
    line = refusal(cli, run)
    assert f"format {artifact.FORMAT + 1}" in line
    assert "upgrade genslim" in line


@pytest.mark.parametrize(
    "change",
    [
        {"signature": {}},
        {"signature": {"inputs": [{"draw": {"from": "thin air"}}], "outputs": []}},
        {"signature": 5},
        {"steps": [{"no": "step"}]},
        {"steps": 3},
        {"edits": 3},
        {"files": []},
        {"files": {"weights.safetensors": 3}},
        {"dtype": "no_such_type"},
        {"dtype": "manual_seed"},
        {"source": 3},
        {"name": 3},
        {"rewrites": 3},
        {"rewrites": [{"kind": "no such rewrite", "at": "net.3.weight"}]},
        {"rewrites": [{"kind": "transposed convolution"}]},
        {"rewrites": [{"kind": "transposed convolution", "at": 3}]},
    ],
    ids=str,
)
def test_a_record_whose_parts_are_wrong(cli: Cli, run: Run, change: dict[str, object]) -> None:
    edit_record(run, lambda r: r.update(change))
    assert "artifact.json is damaged" in refusal(cli, run)


def test_a_record_that_names_an_unknown_source(cli: Cli, run: Run) -> None:
    edit_record(run, lambda r: r.update(source={"kind": "oracle"}))
    assert "unknown source 'oracle'" in refusal(cli, run)
    edit_record(run, lambda r: r.update(source={"kind": "catalogue", "name": "stylegan9"}))
    assert "'stylegan9', which no installed catalogue knows" in refusal(cli, run)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/b"])
def test_a_record_may_name_files_of_its_own_folder_alone(cli: Cli, run: Run, name: str) -> None:
    edit_record(run, lambda r: r["files"].update({name: {"bytes": 1, "sha256": ""}}))  # type: ignore[attr-defined]
    assert "artifact.json is damaged" in refusal(cli, run)


def test_missing_weights(cli: Cli, run: Run) -> None:
    (run.path / "00-original" / artifact.WEIGHTS).unlink()
    assert "weights.safetensors is missing" in refusal(cli, run)


def test_altered_weights(cli: Cli, run: Run) -> None:
    path = run.path / "00-original" / artifact.WEIGHTS
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    assert "not the file that was written" in refusal(cli, run)


@pytest.mark.parametrize(
    "spec",
    [
        {"class": "system", "command": "touch crime"},
        {"class": "os.system", "command": "touch crime"},
        {"class": "Module"},
        {"class": "__import__", "name": "os"},
        {"class": None},
        {"class": ["Conv2d"]},
        {},
        {"class": "Sequential"},
        {"class": "Sequential", "children": {"0": {"class": "eval", "source": "1"}}},
        {"class": "Conv2d", "in_channels": 8},
        {"class": "Conv2d", "in_channels": -8, "out_channels": 8, "kernel_size": 3},
        {"class": "Linear", "in_features": 8, "out_features": 8, "device": "nowhere"},
        "Conv2d",
        None,
    ],
    ids=str,
)
def test_an_edit_that_names_no_known_layer_executes_nothing(
    cli: Cli, run: Run, working_folder: Path, spec: object
) -> None:
    edit_record(run, lambda r: r.update(edits={"net.0": spec}))
    refusal(cli, run)
    assert not (working_folder / "crime").exists()


def test_an_edit_of_a_module_that_is_not_there(cli: Cli, run: Run) -> None:
    edit_record(run, lambda r: r.update(edits={"net.99.conv": {"class": "Identity"}}))
    assert "'net.99.conv', which the architecture lacks" in refusal(cli, run)


def test_edits_that_do_not_fit_the_weights(cli: Cli, run: Run) -> None:
    edit_record(run, lambda r: r.update(edits={"net.0": {"class": "Identity"}}))
    assert "does not fit the architecture" in refusal(cli, run)


# SIGKILL.

KILLED = """\
import os, shutil, signal, sys
from pathlib import Path
import torch
from generators.networks import dcgan
from genslim import artifact
from genslim.generator import Generator
from genslim.run import Run

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def half_then_die(tensors, path):
    Path(path).write_bytes(b"half")
    die()

import safetensors.torch
point = sys.argv[1]
run = Run(Path("run"))
torch.manual_seed(1)
source = {"kind": "catalogue", "name": "dcgan-mnist"}
generator = Generator("dcgan-mnist", dcgan.signature(), source, dcgan.Generator())
with run.locked():
    if point == "before weights":
        artifact.difference = die
    elif point == "in the weights":
        safetensors.torch.save_file = half_then_die
    elif point == "before the record":
        artifact.fingerprint = die
    elif point == "in the record":
        write = Path.write_text
        Path.write_text = lambda path, text, **_: (write(path, text[:50]), die())
    elif point == "before renaming":
        Path.rename = die
    elif point == "after renaming":
        artifact.load = die
    run.append(generator, "prune", parent="00-original")
"""


@pytest.mark.parametrize(
    "point",
    [
        "before weights",
        "in the weights",
        "before the record",
        "in the record",
        "before renaming",
        "after renaming",
    ],
)
def test_sigkill_while_an_artifact_is_written(tiny_gan: Generator, point: str) -> None:
    run = Run(Path("run"))
    with run.locked():
        run.start(tiny_gan)
    before = snapshot(run.path)

    killed = run_program([sys.executable, "-c", KILLED, point])
    assert killed.status == -9, killed.err
    leftovers = list(run.path.glob(f"{TEMPORARY}*"))
    after = snapshot(run.path)
    assert before.items() <= after.items()
    assert bool(leftovers) is (point != "after renaming")
    for path in run.artifacts:
        assert artifact.load(path).module is not None, "whatever counts as an artifact is whole"

    with run.locked():
        assert not list(run.path.glob(f"{TEMPORARY}*"))
        saved = run.append(tiny_gan, "prune", parent="00-original")
    number = "02" if point == "after renaming" else "01"
    assert saved.path == run.path / f"{number}-prune"


def test_a_step_that_was_killed_can_be_started_again(
    cli: Cli, factory: str, working_folder: Path
) -> None:
    code = (
        "import os, signal, sys\nfrom genslim import artifact\nfrom genslim.main import main\n"
        "rename = artifact.Path.rename\n"
        "artifact.Path.rename = lambda a, b: os.kill(os.getpid(), signal.SIGKILL) "
        "if 'prune' in b.name else rename(a, b)\n"
        "main(sys.argv[1:])"
    )
    words = ("compress", "prune", factory, "--input", "z:1,8", *PRUNE)
    killed = run_program([sys.executable, "-c", code, *words])
    assert killed.status == -9, killed.err
    run = Run(next((working_folder / "runs").iterdir()))
    assert [p.name for p in run.artifacts] == ["00-original"]
    assert cli("compress", "prune", *PRUNE).status == 0
    assert [p.name for p in run.artifacts] == ["00-original", "01-prune"]
    assert not list(run.path.glob(f"{TEMPORARY}*"))


def test_reading_weights_directly_raises_typed_errors(working_folder: Path) -> None:
    with pytest.raises(GenslimError, match="no file"):
        read_state(working_folder / "nothing.pth")
