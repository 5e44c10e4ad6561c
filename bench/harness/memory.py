"""Peak memory and cold start of a fresh process that opens an artifact and makes one batch.

The process is ``python -m bench.harness.memory JOB``, where JOB is a JSON file. For ONNX Runtime
and OpenVINO it reads the graph and the signature alone and never imports torch, as a deployment
would not; for PyTorch it loads the artifact. The figure is the greatest resident size of the whole
process: the interpreter, the libraries, the weights, the activations. (ONNX Runtime's figure
includes some 10 MB for the ``onnx`` package, which tells what precision the graph is in.)

The cold start begins where this module and numpy are imported, and ends with the first batch: it
holds the import of the runtime, reading the files, and making a session. The files lie in the
system's cache by then: a disk's own speed is not in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genslim.errors import GenslimError
from genslim.signature import Signature
from genslim.target import Target

if TYPE_CHECKING:
    from bench.measurement import Memory
    from genslim.generator import Generator

WRONG = (ValueError, LookupError, TypeError)
"""What an answer that is none raises when it is read as one."""
MOST_SECONDS = 300
"""A process that takes longer is ended."""
STATUS = Path("/proc/self/status")


def peak_memory(generator: Generator, target: Target) -> Memory:
    """Measure in a new process.

    Args:
        generator: an artifact or not; with its graph for ONNX Runtime and OpenVINO.
        target: settled; names the runtime.

    Returns:
        The peak and the cold start, or the reason why there is none.
    """
    from bench.measurement import Memory

    with tempfile.TemporaryDirectory(prefix="genslim-memory-") as folder:
        try:
            job = Path(folder) / "job.json"
            job.write_text(json.dumps(job_of(generator, target, Path(folder))), encoding="utf-8")
            # -P: a folder called "bench" where the user works must not be taken for this package.
            done = subprocess.run(
                [sys.executable, "-P", "-m", "bench.harness.memory", str(job)],
                capture_output=True,
                text=True,
                timeout=MOST_SECONDS,
                check=True,
            )
            return Memory(**json.loads(done.stdout.splitlines()[-1]))
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
            return Memory(None, said[-1][:200])
        except (
            subprocess.TimeoutExpired,
            GenslimError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
        ) as error:
            return Memory(None, str(error)[:200])


def job_of(generator: Generator, target: Target, folder: Path) -> dict[str, Any]:
    """What the process is told, as plain JSON data; files it needs are written to ``folder``."""
    if target.runtime == "torch":
        from genslim import artifact

        place = generator.path
        if place is None:
            place = folder / "artifact"
            artifact.save(generator, place, kind="original")
    elif target.runtime == "openvino" and "model.xml" in generator.files:
        place = generator.files["model.xml"]
    else:
        assert generator.onnx is not None
        place = folder / "model.onnx"
        place.write_bytes(generator.onnx)
    return {
        "place": str(place.resolve()),
        "signature": generator.signature.to_json(),
        "target": asdict(target),
    }


@dataclass(frozen=True)
class Contract:
    """All that a session wants to know of a generator: no module, so that torch is not needed."""

    signature: Signature


def run_job(job: Path) -> dict[str, float | int | None]:
    """Open the artifact and make one batch of zeros.

    Returns:
        Fields of :class:`bench.measurement.Memory`.
    """
    import numpy as np

    told = json.loads(job.read_text(encoding="utf-8"))
    target = Target(**told["target"])
    signature = Signature.from_json(told["signature"])
    place = Path(told["place"])
    assert target.batch is not None
    inputs = {
        spec.name: np.zeros(spec.concrete(target.batch), np.float32) for spec in signature.inputs
    }
    used_before = gpu_used_bytes() if target.device == "cuda" else None
    begun = time.perf_counter()
    session = open_session(place, signature, target)
    opened = time.perf_counter()
    session.run(inputs)
    ended = time.perf_counter()
    return {
        "peak_bytes": peak_resident_bytes(),
        "load_ms": (opened - begun) * 1e3,
        "first_ms": (ended - opened) * 1e3,
        "gpu_peak_bytes": gpu_peak_bytes(used_before) if target.device == "cuda" else None,
    }


def open_session(place: Path, signature: Signature, target: Target) -> Any:
    """The session of the target's runtime on the files at ``place``."""
    if target.runtime == "onnxruntime":
        from genslim.runtimes.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(place.read_bytes(), target)
    if target.runtime == "openvino":
        from genslim.runtimes.openvino import OpenVinoSession

        return OpenVinoSession(str(place), Contract(signature), target)  # type: ignore[arg-type]
    from genslim import artifact
    from genslim.runtimes import runtime

    return runtime(target.runtime).open(artifact.load(place), target)


def peak_resident_bytes() -> int:
    """The greatest resident size of this process so far.

    Linux tells it for this program alone; ``getrusage`` there would include the process that
    started it, before it became this program.
    """
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def gpu_peak_bytes(used_before: int | None) -> int | None:
    """The greatest memory of the first GPU that this process held so far.

    PyTorch counts its own. Other runtimes do not say; they keep what they took until they close,
    so that it is what the GPU has in use now beyond what it had before.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_reserved():
        return int(torch.cuda.max_memory_reserved())
    used = gpu_used_bytes()
    return None if used is None or used_before is None else max(0, used - used_before)


def gpu_used_bytes() -> int | None:
    """Memory of the first GPU in use by all programs; None where nvidia-smi does not tell."""
    from bench.environment import answer

    said = answer(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"])
    words = said.split() if said else []
    return int(words[0]) * 2**20 if words and words[0].isdecimal() else None


def main(job: str) -> int:
    """Print what was measured as JSON; what went wrong as one line on standard error."""
    try:
        print(json.dumps(run_job(Path(job))))
    except GenslimError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
