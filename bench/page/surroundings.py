"""What a measurement was taken with: the machine, its state, and the libraries, in words."""

from __future__ import annotations

from bench.measurement import Measurement


def surroundings(measurement: Measurement) -> list[tuple[str, str]]:
    """Names and values, those that are known."""
    where = measurement.environment
    libraries = ", ".join(f"{name} {version}" for name, version in where.libraries.items())
    variables = ", ".join(f"{k}={v}" for k, v in sorted((where.thread_variables or {}).items()))
    cores = f"{where.cores} cores usable"
    if where.physical_cores is not None:
        cores += f", {where.physical_cores} in the machine"
    clock = [f"governor {where.governor}"] if where.governor else []
    if where.turbo is not None:
        clock.append("turbo on" if where.turbo else "turbo off")
    commit = where.commit or ""
    if commit and where.dirty:
        commit += ", with changes"
    facts = (
        ("Processor", f"{where.cpu}, {cores}"),
        ("Instructions", ", ".join(where.cpu_flags)),
        ("Clock", ", ".join(clock)),
        ("Cores busy before", "" if where.load is None else f"{where.load:.2f}"),
        ("GPU", ", driver ".join(filter(None, (where.gpu, where.gpu_driver)))),
        ("System", f"{where.system}, Python {where.python}"),
        ("Libraries", libraries),
        ("Variables", variables),
        ("Commit", commit),
        ("Target", f"{measurement.target}, seed {measurement.seed}"),
        ("Date", where.date),
    )
    return [(name, value) for name, value in facts if value]
