"""``bench gate``: fail a build whose figures are not good enough."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.commands.compare import load as load_any
from bench.commands.finding import find_run
from bench.formats.verdicts import markdown
from bench.measurement import Measurement
from bench.verdicts import gate as gates
from bench.verdicts.gate import Settings, Threshold, Verdict
from genslim.command import Common
from genslim.console import Console
from genslim.errors import GateFailed, UserError
from genslim.run import is_run
from genslim.storage import write_whole


def gate(
    source: str | None = None,
    /,
    *,
    require: tuple[str, ...] = (),
    file: str | None = None,
    base: str | None = None,
    runtime: str | None = None,
    confidence: float = 0.95,
    strict: bool = False,
    allow_none: bool = False,
    common: Common = Common(),  # noqa: B008  frozen
) -> int:
    """Compare what was measured with thresholds; exit status 1 where one is not met.

    Thresholds stand in [tool.genslim.gate] of the nearest pyproject.toml, in --file, or behind
    --require. Figures without noise are compared as they are. A time passes when its whole
    confidence interval does and fails when none of it does; in between it passes with a warning,
    and fails with --strict.

    Parameters
    ----------
    source:
        A run's folder, or one that `bench run -o` wrote. The newest run if left out.
    require:
        A threshold, like "latency_ratio <= 0.5"; may be repeated.
    file:
        A TOML file of thresholds: require = ["ssim_mean >= 0.95"], and tables for artifacts.
    base:
        An older run or measurement.json, which latency_change, size_change and ssim_change
        compare with.
    runtime:
        Judge artifacts on this runtime; on the best of each if left out.
    confidence:
        Of the intervals of times.
    strict:
        Fail what is too noisy to tell.
    allow_none:
        Pass where there are no thresholds.
    """
    settings = settings_for(require, file)
    if not settings.thresholds and not allow_none:
        raise UserError(
            "there are no thresholds",
            hint=f'say --require "ssim_mean >= 0.95", or write [{gates.TABLE}] in pyproject.toml',
        )
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence} is no probability", hint="try --confidence 0.95")
    output = Path(common.output) if common.output else None
    if output and output.suffix not in (".json", ".md"):
        raise UserError(f"no table ends in {output.suffix!r}", hint="name a .md or a .json file")
    console, measurement = common.console(), load(source)
    older = load_any(base) if base else None
    if older and any(t.figure.compares and t.figure.timed for t in settings.thresholds):
        refuse_unlike(older, measurement)
    if common.dry_run:
        for threshold in settings.thresholds:
            console.info(f"would ask {threshold.artifact or 'the newest'} for {threshold.text}")
        return 0
    verdicts = gates.judge(
        measurement,
        settings.thresholds,
        base=older,
        runtime=runtime,
        confidence=confidence,
        strict=strict or settings.strict,
    )
    failed = show(verdicts, console)
    facts = {
        "passed": not failed,
        "thresholds": settings.place or "--require",
        "checks": [verdict.to_json() for verdict in verdicts],
    }
    if output:
        text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
        write_whole(output, text if output.suffix == ".json" else markdown(verdicts))
    console.finish(facts, wrote=str(output) if output else None, following=None)
    return GateFailed.exit_status if failed else 0


def settings_for(require: tuple[str, ...], file: str | None) -> Settings:
    """What is asked: by the command line, else by the nearest pyproject.toml."""
    said = tuple(Threshold.parse(text) for text in require)
    if file:
        settings = gates.read_file(Path(file))
        return Settings((*settings.thresholds, *said), settings.strict, settings.place)
    return Settings(said) if said else gates.configured()


def load(source: str | None) -> Measurement:
    """The measurement that a command line names, which must know its run's newest artifact.

    Raises:
        UserError: there is none, or it is older than an artifact.
    """
    measurement = load_any(source)
    if source is None or is_run(Path(source)):
        found = find_run(source)
        newer = [path.name for path in found.artifacts if measurement.artifact(path.name) is None]
        if newer:
            raise UserError(
                f"{', '.join(newer)} of {found.path} came after the measurement",
                hint=f"measure again: bench run {found.path}",
            )
    return measurement


def refuse_unlike(older: Measurement, measurement: Measurement) -> None:
    """Raise UserError where times of the two can't be compared."""
    from bench.verdicts.differences import unlike

    if lines := unlike(older, measurement):
        raise UserError(
            "times of the two measurements can't be compared: " + "; ".join(lines),
            hint="measure both in one place and alike, or leave latency_change out",
        )


def show(verdicts: list[Verdict], console: Console) -> bool:
    """Print a table, a warning for each undecided, a line for each failed; whether one failed."""
    if verdicts:
        console.table(
            ["Artifact", "Threshold", "Outcome", "Figure"],
            [
                [v.artifact, v.threshold.text, v.outcome, v.value.text if v.value else "–"]
                for v in verdicts
            ],
            numbers=False,
        )
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    for verdict in verdicts:
        if verdict.outcome == "undecided":
            console.warn(
                f"{verdict.artifact}: {verdict.reason}; measure longer "
                "(bench run --rounds 100 --seconds 300), or say --strict"
            )
    for verdict in failed:
        print(f"error: {verdict.artifact}: {verdict.reason}", file=sys.stderr)
    return bool(failed)
