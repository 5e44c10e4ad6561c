"""Taking a sweep: at each batch and number of threads, all artifacts in the same rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.harness.candidates import Candidate
from bench.measurement import BASELINE, Artifact, Refusal
from bench.sweep import Point, Sweep
from genslim.console import Console
from genslim.inputs import Inputs
from genslim.runtimes import Session
from genslim.target import Target
from genslim.timing import interleave


def take_sweep(
    candidates: Sequence[Candidate],
    measured: Sequence[Artifact],
    settled: Target,
    sweep: Sweep,
    *,
    seed: int,
    console: Console,
) -> tuple[Point, ...]:
    """Measure the baseline, and each artifact on its best runtime, at every setting.

    Args:
        candidates: their sessions need not be open.
        measured: what they are measured as, in the same order.
        settled: what precision and device the runtimes are asked for.
        sweep: the settings.
        seed: of the inputs.
        console: shows progress.

    Returns:
        A point for each at each setting; one that can't run there has the reason.
    """
    racers: list[tuple[str, str, Candidate]] = []
    baseline = measured[0].readings[0]
    if measured[0].best is not baseline:
        racers.append((BASELINE, baseline.runtime, candidates[0]))
    for candidate, artifact in zip(candidates, measured, strict=True):
        if artifact.best is not None:
            racers.append((artifact.name, artifact.best.runtime, candidate))
    signature = candidates[0].generator.signature
    assert settled.batch is not None
    assert settled.threads is not None
    settings = [
        (batch, threads)
        for threads in sweep.threads or (settled.threads,)
        for batch in sweep.batches or (settled.batch,)
    ]
    seconds = sweep.seconds / len(settings)
    points: list[Point] = []
    with console.progress("sweep", len(settings)) as bar:
        for batch, threads in settings:
            inputs = {
                name: tensor.numpy()
                for name, tensor in Inputs(signature, "timing", seed).draw(batch).items()
            }
            target = replace(settled, batch=batch, threads=threads)
            points += take_setting(racers, target, inputs, rounds=sweep.rounds, seconds=seconds)
            bar.advance(note=f"batch {batch}, threads {threads}")
    return tuple(points)


def take_setting(
    racers: Sequence[tuple[str, str, Candidate]],
    target: Target,
    inputs: Mapping[str, NDArray[np.float32]],
    *,
    rounds: int,
    seconds: float,
) -> list[Point]:
    """All of them at one batch and number of threads, in the same rounds."""
    assert target.batch is not None
    assert target.threads is not None
    points: list[Point] = []
    sessions: list[Session] = []
    try:
        for name, place, candidate in racers:
            precision = candidate.targets[place].precision
            there = replace(target, runtime=place, precision=precision)
            session = candidate.tried(there, inputs)
            point = Point(name, place, target.batch, target.threads)
            if isinstance(session, Refusal):
                points.append(replace(point, reason=session.reason))
            else:
                points.append(point)
                sessions.append(session)
        calls = {str(n): partial(session.run, inputs) for n, session in enumerate(sessions)}
        samples = interleave(calls, rounds=rounds, seconds=seconds) if calls else {}
    finally:
        for session in sessions:
            session.close()
    found = iter(samples.values())
    return [p if p.reason is not None else replace(p, samples=next(found)) for p in points]
