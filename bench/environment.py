"""The machine and the libraries that a measurement was taken with, and whether two are alike."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genslim.target import usable_cores

CPU_INFO = Path("/proc/cpuinfo")
CPU_DEVICES = Path("/sys/devices/system/cpu")
FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "fphp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Instructions that inference libraries choose their kernels by, on x86 and on ARM."""
VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "OMP_SCHEDULE"),
    *("GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_BLOCKTIME", "MKL_NUM_THREADS"),
    *("MKL_DYNAMIC", "OPENBLAS_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD"),
)
"""They tell libraries how many threads to use, where, and which instructions."""
WATCHED = 0.5
"""Seconds in which other programs are watched."""
PATIENCE = 10
"""Seconds that another program gets to answer."""


@dataclass(frozen=True)
class Environment:
    """Where it was measured. None, or empty: it can't be told, or an older record."""

    cpu: str
    cores: int
    """Cores this process may use."""
    system: str
    """Operating system, its release and the architecture."""
    python: str
    libraries: Mapping[str, str]
    """Version by distribution, genslim's own among them."""
    date: str
    """ISO 8601, UTC: when the measurement began."""
    physical_cores: int | None = None
    """Of the machine."""
    cpu_flags: tuple[str, ...] = ()
    """Those of ``FLAGS`` that the CPU has."""
    governor: str | None = None
    """How the system chooses the clock: ``performance``, ``powersave``."""
    turbo: bool | None = None
    """Whether the clock may exceed its base."""
    load: float | None = None
    """Cores at work with something else when the measurement began."""
    gpu: str | None = None
    """Name of the first GPU."""
    gpu_driver: str | None = None
    thread_variables: Mapping[str, str] | None = None
    """Those of ``VARIABLES`` that are set."""
    commit: str | None = None
    """Of the working folder, where that is under git."""
    dirty: bool | None = None
    """Whether files that git follows there differ from that commit."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Environment:
        """Rebuild an environment; older ones know less."""
        return cls(**{**data, "cpu_flags": tuple(data.get("cpu_flags", ()))})

    def differences(self, other: Environment) -> list[str]:
        """What makes times of the two incomparable, a line each, ours first.

        When it was and how busy the machine was do not: they are noise, and intervals show noise.
        Nor does the commit: it is what one compares. What one of them does not know is no
        difference.
        """
        ours, theirs = self.known(), other.known()
        return [
            f"{name}: {ours[name]}, not {theirs[name]}"
            for name in ours
            if name in theirs and ours[name] != theirs[name]
        ]

    def known(self) -> dict[str, str]:
        """All that matters to a time and is known, in words."""
        named = {
            "CPU": self.cpu,
            "cores": self.cores,
            "physical cores": self.physical_cores,
            "CPU flags": " ".join(self.cpu_flags) or None,
            "governor": self.governor,
            "turbo": self.turbo,
            "system": self.system,
            "GPU": self.gpu,
            "GPU driver": self.gpu_driver,
            "Python": self.python,
            **self.libraries,
        }
        if self.thread_variables is not None:
            pairs = sorted(self.thread_variables.items())
            named["variables"] = " ".join(f"{name}={value}" for name, value in pairs) or "none"
        return {name: str(value) for name, value in named.items() if value is not None}


def environment() -> Environment:
    """What this process runs on, now."""
    from genslim.artifact import LIBRARIES, installed

    gpu, driver = first_gpu()
    commit, dirty = git_state()
    return Environment(
        cpu=cpu_model(),
        cores=usable_cores(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=installed((*LIBRARIES, "numpy")),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        physical_cores=physical_cores(),
        cpu_flags=cpu_flags(),
        governor=first_line(CPU_DEVICES / "cpu0/cpufreq/scaling_governor"),
        turbo=turbo(),
        load=busy_cores(),
        gpu=gpu,
        gpu_driver=driver,
        thread_variables={n: os.environ[n] for n in VARIABLES if n in os.environ},
        commit=commit,
        dirty=dirty,
    )


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    names = (name for name in cpu_info("model name") if name not in ("", "unknown"))
    return next(names, platform.processor() or platform.machine() or "unknown")


def cpu_flags() -> tuple[str, ...]:
    """Those of ``FLAGS`` that the processor has; empty where the system does not tell."""
    has = " ".join([*cpu_info("flags")[:1], *cpu_info("Features")[:1]]).split()
    return tuple(flag for flag in FLAGS if flag in has)


def cpu_info(key: str) -> list[str]:
    """What Linux says to ``key``, once for each core."""
    if not CPU_INFO.is_file():
        return []
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == key]


def physical_cores() -> int | None:
    """Cores of the machine, hyper-threads not counted."""
    import psutil  # type: ignore[import-untyped]

    found: int | None = psutil.cpu_count(logical=False)
    return found


def turbo() -> bool | None:
    """Whether the clock may exceed its base."""
    if (line := first_line(CPU_DEVICES / "intel_pstate/no_turbo")) is not None:
        return line == "0"
    if (line := first_line(CPU_DEVICES / "cpufreq/boost")) is not None:
        return line == "1"
    return None


def busy_cores() -> float | None:
    """How many cores are at work while this process waits; None where nobody tells.

    Not the system's load average, which remembers for a minute what made the artifacts.
    """
    import psutil

    try:
        shares: list[float] = psutil.cpu_percent(interval=WATCHED, percpu=True)
    except (OSError, NotImplementedError):
        return None
    return round(sum(shares) / 100, 2)


def first_line(path: Path) -> str | None:
    """The first line of a file that the system makes; None where there is none."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8").partition("\n")[0].strip() or None
    return None


def first_gpu() -> tuple[str | None, str | None]:
    """Name and driver of the first NVIDIA GPU."""
    said = answer(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    if said is None or "," not in said:
        return None, None
    name, _, driver = said.splitlines()[0].rpartition(",")
    return name.strip(), driver.strip()


def git_state() -> tuple[str | None, bool | None]:
    """The commit of the working folder, and whether files that git follows there differ from it."""
    commit = answer(["git", "rev-parse", "HEAD"])
    if commit is None:
        return None, None
    changed = answer(["git", "status", "--porcelain", "--untracked-files=no"])
    return commit, None if changed is None else bool(changed)


def answer(command: Sequence[str]) -> str | None:
    """What another program prints; None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
