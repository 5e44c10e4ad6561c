"""The machine and the libraries that a measurement was taken with."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path

from bench.measurement import Environment
from genslim.artifact import LIBRARIES, installed
from genslim.target import usable_cores

CPU_INFO = Path("/proc/cpuinfo")


def environment() -> Environment:
    """What this process runs on."""
    return Environment(
        cpu=cpu_model(),
        cores=usable_cores(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=installed((*LIBRARIES, "numpy")),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip() not in ("", "unknown"):
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"
