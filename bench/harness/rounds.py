"""Latencies of every open session, in paired rounds, with sessions opened anew between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.harness.candidates import Candidate
from genslim.console import Console
from genslim.timing import Samples, over_openings

Key = tuple[str, str]
"""Names of an artifact and of a runtime."""


def take_latencies(
    candidates: Sequence[Candidate],
    inputs: Mapping[str, NDArray[np.float32]],
    *,
    openings: int,
    rounds: int,
    seconds: float,
    console: Console,
) -> dict[Key, Samples]:
    """Time all sessions of the candidates in turn; other sessions are open afterwards.

    Args:
        candidates: with open sessions.
        inputs: one batch.
        openings: how often sessions are opened.
        rounds: how many rounds in all.
        seconds: stop early after this time.
        console: shows progress.
    """
    keys = [(c.name, name) for c in candidates for name in c.sessions]

    def opener(number: int) -> dict[str, Callable[[], object]]:
        if number:
            reopen(candidates, backwards=number % 2 == 1)
        sessions = [session for c in candidates for session in c.sessions.values()]
        return {str(n): partial(session.run, inputs) for n, session in enumerate(sessions)}

    with console.progress("timing", rounds) as bar:
        samples = over_openings(
            opener, openings=openings, rounds=rounds, seconds=seconds, on_round=bar.reach
        )
    return {key: samples[str(n)] for n, key in enumerate(keys)}


def reopen(candidates: Sequence[Candidate], *, backwards: bool) -> None:
    """Close every session, then open all again.

    Args:
        candidates: with open sessions.
        backwards: last first, as what is opened first may stay at an advantage.
    """
    names = {candidate.name: list(candidate.sessions) for candidate in candidates}
    for candidate in candidates:
        candidate.close()
    for candidate in reversed(candidates) if backwards else candidates:
        candidate.reopen(names[candidate.name], backwards=backwards)
