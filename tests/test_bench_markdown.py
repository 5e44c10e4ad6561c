"""The Markdown report: it fits where GitHub shows it, whatever was measured."""

from __future__ import annotations

from dataclasses import replace

import figures
import pytest

from bench.formats.markdown import MOST, fitted, markdown
from bench.measurement import Measurement, Refusal

COMMENT, SUMMARY = 65_536, 2**20


def many(count: int) -> Measurement:
    """So many steps, each on three runtimes and refused with a long reason by a fourth."""
    measured = figures.usual()
    first, step = measured.artifacts[0], measured.artifacts[2]
    refusal = Refusal("tensorrt", "no driver <here> | " * 10)
    others = [
        replace(
            step,
            name=f"{n:03d}-quantize-{'x' * 40}",
            parent=f"{n - 1:03d}-quantize" if n > 1 else first.name,
            readings=(*step.readings, figures.reading("torch", figures.around(9, 0.9, seed=n))),
            refusals=(refusal,),
            steps=({"name": "quantize", "parameters": {"layers": ["a"] * 200}, "report": {}},),
        )
        for n in range(1, count)
    ]
    return replace(measured, artifacts=(first, *others))


def test_a_usual_report_is_whole() -> None:
    text = markdown(figures.usual())
    assert "more" not in text.replace("MORE", "")
    for name in ("00-original", "01-prune", "02-quantize", "03-trt"):
        assert f"| {name} |" in text
    assert text.count("<details>") == text.count("</details>") == 2
    assert "report.html" in text
    assert "data:" not in text
    assert "no &lt;GPU>" in text


@pytest.mark.parametrize("count", [100, 300])
def test_a_long_report_fits_a_comment_and_a_summary(count: int) -> None:
    text = markdown(many(count))
    assert len(text) <= MOST < COMMENT
    assert len(text.encode()) < SUMMARY
    assert text.startswith("## gan: ")
    assert text.count("<details>") == text.count("</details>") == 2
    assert text.count("```") == 2
    assert "more in the HTML page" in text
    assert "00-original" in text
    assert figures.usual().environment.cpu in text


def test_what_can_not_be_cut_by_lines_is_cut() -> None:
    assert fitted([], 10) == ""
    assert len(markdown(figures.usual(), most=500)) <= 500


def test_names_are_escaped() -> None:
    text = markdown(replace(figures.usual(), name="a<img src=x>"), missing=["04-x"])
    assert "<img" not in text
    assert "04-x" in text
