"""The page out of its sections, and a fragment of it for notebooks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from bench.measurement import BASELINE, Measurement
from bench.page.changes import TITLES, changes
from bench.page.gallery import gallery
from bench.page.latencies import CONFIDENCE, latencies, strip
from bench.page.layers import layer_tables
from bench.page.stairs import stairs, tiles
from bench.page.surroundings import surroundings
from bench.plots.pictures import palette_css
from bench.plots.plot import plot, shape
from bench.plots.sweep_plot import sweep_plots
from bench.tables import prose, recipe, rows
from bench.tables.sweep_table import sweep_reasons, sweep_table

if TYPE_CHECKING:
    import jinja2

STYLES = ("page.css", "pictures.css", "figures.css", "media.css")
SCRIPTS = ("pictures.js", "page.js")


def render(measurement: Measurement, missing: Sequence[str] = ()) -> str:
    """The page.

    Args:
        measurement: what to show.
        missing: names of artifacts that are newer than the measurement.
    """
    original = measurement.artifacts[0]
    last, reading = rows.last_measured(measurement)
    baseline = rows.row(measurement, original, measurement.baseline, BASELINE)
    samples = [v for _, r in measurement.all_readings() for v in r.latency.milliseconds]
    low, high = min(samples), max(samples)
    spread = rows.distribution_rows(measurement)
    script = together(SCRIPTS)
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            m=measurement,
            policy=policy(script),
            style=together(STYLES),
            script=script,
            headline=prose.headline(measurement),
            baseline_name=rows.baseline_name(measurement),
            warnings=[*prose.stale(missing), *measurement.warnings],
            tiles=tiles(baseline, rows.row(measurement, last, reading, last.name)),
            gallery=gallery(measurement),
            heat_css=palette_css(),
            stairs=stairs(measurement),
            changes=changes(measurement),
            change_titles=TITLES,
            main=rows.MAIN,
            main_rows=rows.main_rows(measurement),
            last=last,
            threads=rows.in_words(measurement.target.threads),
            plot_wide=plot(measurement, width=1140, height=460),
            plot_narrow=plot(measurement, width=350, height=330),
            legend=[(name, shape(name, 7, 7, 5)) for name in runtimes_of(measurement)],
            latencies=latencies(measurement),
            sweep_wide=sweep_plots(measurement.sweep, width=560, height=340),
            sweep_narrow=sweep_plots(measurement.sweep, width=350, height=300),
            sweep_table=sweep_table(measurement.sweep),
            sweep_reasons=sweep_reasons(measurement.sweep),
            confidence=round(100 * CONFIDENCE),
            distribution=rows.present(rows.DISTRIBUTION, spread),
            distribution_rows=spread,
            distribution_method=rows.distribution_method(measurement),
            layer_tables=layer_tables(measurement),
            every=rows.present(rows.EVERY, rows.every_row(measurement)),
            every_rows=[
                (rows.row(measurement, a, r, a.name), strip(r, low, high))
                for a, r in measurement.all_readings()
            ],
            refusals=[(a.name, r) for a in measurement.artifacts for r in a.refusals],
            memory_reasons=rows.memory_reasons(measurement),
            commands=recipe.commands(measurement),
            method=prose.method(measurement),
            surroundings=surroundings(measurement),
        )
    )


def notebook(measurement: Measurement) -> str:
    """A fragment for a notebook: the headline, the table, a few pictures."""
    return (
        templates()
        .get_template("notebook.html.j2")
        .render(
            headline=prose.headline(measurement),
            main=rows.MAIN,
            main_rows=rows.main_rows(measurement),
            gallery=gallery(measurement),
            warnings=measurement.warnings,
        )
    )


def runtimes_of(measurement: Measurement) -> list[str]:
    """The runtimes that something was measured on, each once."""
    return list(dict.fromkeys(r.runtime for _, r in measurement.all_readings()))


def policy(script: str) -> str:
    """The page's Content-Security-Policy: it may fetch nothing, and run this one script.

    Styles are allowed by word and not by hash, as bars carry their length in a style attribute;
    they can load nothing either.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def together(names: Sequence[str]) -> str:
    """Files of this package, one after the other."""
    return "\n".join(text_of(name).strip() for name in names) + "\n"


def text_of(name: str) -> str:
    """A file that lies beside the templates."""
    return (files("bench.page") / "templates" / name).read_text(encoding="utf-8")


def templates() -> jinja2.Environment:
    """The templates that lie in this package; everything put into them is escaped."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(text_of),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
