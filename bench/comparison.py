"""Ours beside its peers: all in the same rounds, on the same unseen inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from bench.environment import Environment, environment
from bench.harness.candidates import images_from
from bench.harness.measuring import arrays, default_count
from bench.peers import PEERS, Peer
from bench.quality import judge
from bench.tables.rows import NOTHING, milliseconds, times
from genslim.console import Console
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.runtimes import Session, runtime
from genslim.target import Target
from genslim.timing import interleave


@dataclass(frozen=True)
class Entry:
    """One line of the comparison. Figures are None where it could not run."""

    name: str
    ours: bool
    execution: str | None = None
    """What really ran: ``openvino int8``."""
    latency_ms: float | None = None
    """Of a batch, the median over rounds."""
    speedup: float | None = None
    """Times as fast as the first, the median of paired rounds."""
    ssim: float | None = None
    """Mean, to the original."""
    reason: str = ""
    """Why it could not run."""

    def holds(self, least: float) -> bool:
        """Whether its pictures are near enough."""
        return self.ssim is not None and self.ssim >= least


@dataclass(frozen=True)
class Comparison:
    """Peers and ours, measured together."""

    name: str
    target: Target
    least: float
    """The SSIM that counts."""
    count: int
    """Inputs that SSIM was read on."""
    entries: tuple[Entry, ...]
    environment: Environment

    @property
    def best_peer(self) -> Entry | None:
        """The fastest peer whose pictures are near enough."""
        return self._fastest(ours=False)

    @property
    def best_of_ours(self) -> Entry | None:
        """The fastest of ours whose pictures are."""
        return self._fastest(ours=True)

    def _fastest(self, *, ours: bool) -> Entry | None:
        good = [e for e in self.entries if e.ours == ours and e.holds(self.least) and e.speedup]
        return max(good, key=lambda entry: entry.speedup or 0.0, default=None)

    def verdict(self) -> str:
        """Both in one line."""
        ours, peer = self.best_of_ours, self.best_peer
        if peer is None or peer.speedup is None:
            return f"no peer holds SSIM {self.least}"
        said = f"the fastest peer at SSIM {self.least} is {peer.name}, {times(peer.speedup)}"
        if ours is None or ours.speedup is None:
            return said
        return f"{ours.name} is {times(ours.speedup / peer.speedup)} as fast: {said}"

    def cells(self) -> list[list[str]]:
        """The table's rows."""
        return [
            [
                f"**{e.name}**" if e.ours else e.name,
                e.execution or f"{NOTHING} ({e.reason})",
                NOTHING if e.latency_ms is None else milliseconds(e.latency_ms),
                NOTHING if e.speedup is None else times(e.speedup),
                NOTHING if e.ssim is None else f"{e.ssim:.4f}",
            ]
            for e in self.entries
        ]

    def markdown(self) -> str:
        """The table for a README, with where it was measured."""
        lines = ["| | ran as | latency | speed-up | SSIM |", "| --- | --- | ---: | ---: | ---: |"]
        lines += ["| " + " | ".join(row) + " |" for row in self.cells()]
        where = f"{self.environment.cpu}, {self.target.threads} threads, batch {self.target.batch}"
        return "\n".join(lines) + f"\n\n({where}; SSIM on {self.count} unseen inputs.)\n"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**found, "verdict": self.verdict()}


def compare(
    original: Generator,
    ours: Sequence[tuple[str, Generator]],
    target: Target,
    *,
    least: float,
    count: int | None,
    rounds: int,
    seconds: float,
    seed: int,
    console: Console,
    peers: Sequence[Peer] = PEERS,
) -> Comparison:
    """Measure peers on the original, and generators made of it, side by side.

    Args:
        original: has a module.
        ours: generators with their names.
        target: where ours run; batch and threads count for all.
        least: the SSIM that counts.
        count: inputs that SSIM is read on; None: 256 latents or 16 images.
        rounds: how many rounds latency is measured in.
        seconds: stop the rounds after this time, but never before 5.
        seed: of the inputs.
        console: shows progress.
        peers: who; the first is the baseline.

    Raises:
        UserError: the baseline can't run.
    """
    settled = target.settled(original.signature)
    assert settled.batch is not None
    timing = arrays(Inputs(original.signature, "timing", seed), settled.batch)
    backend = runtime(settled.runtime)
    known = [(p.name, False, partial(p.open, original, settled)) for p in peers]
    known += [(name, True, partial(backend.open, g, settled)) for name, g in ours]
    sessions: dict[str, Session] = {}
    entries: dict[str, Entry] = {}
    with ExitStack() as stack:
        with console.progress("opening", len(known)) as bar:
            for name, own, opener in known:
                try:
                    session = stack.enter_context(opener())
                    session.run(timing)
                except Exception as error:  # other tools raise what they like: a line, not the end
                    reason = " ".join(str(error).split()) or type(error).__name__
                    entries[name] = Entry(name, own, reason=reason[:120])
                else:
                    sessions[name] = session
                    entries[name] = Entry(name, own, str(session.execution))
                bar.advance(note=name)
        baseline = peers[0].name
        if baseline not in sessions:
            raise UserError(f"{baseline} can't run: {entries[baseline].reason}")
        with console.progress("timing", rounds) as bar:
            samples = interleave(
                {name: partial(session.run, timing) for name, session in sessions.items()},
                rounds=rounds,
                seconds=seconds,
                on_round=bar.reach,
            )
        number = count or default_count(original.signature)
        inputs = arrays(Inputs(original.signature, "quality", seed), number)
        output = original.signature.images.name
        expected = images_from(sessions[baseline], inputs, output, settled.batch)
        with console.progress("quality", len(sessions)) as bar:
            for name, session in sessions.items():
                images = images_from(session, inputs, output, settled.batch)
                quality = judge(images, expected, value_range=original.signature.images.value_range)
                entries[name] = Entry(
                    name,
                    entries[name].ours,
                    entries[name].execution,
                    round(samples[name].median_ms, 3),
                    round(1 / samples[name].ratio_to(samples[baseline]), 3),
                    None if quality.ssim_mean is None else round(quality.ssim_mean, 4),
                )
                bar.advance(note=name)
    return Comparison(original.name, settled, least, number, tuple(entries.values()), environment())
