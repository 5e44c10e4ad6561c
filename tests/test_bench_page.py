"""The page's parts: pictures, figures and tables that are drawn, on a measurement made up."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.harness.showing import choose, displayed
from bench.measurement import Measurement
from bench.page.gallery import LEAST, gallery
from bench.page.latencies import latencies
from bench.page.layers import layer_tables
from bench.plots.pictures import coarse, difference, heat_png, webp
from bench.plots.plot import (
    Point,
    frame_for,
    front,
    labels,
    latency_ticks,
    plot,
    points_of,
    ssim_ticks,
)
from bench.quality import Quality
from bench.tables import rows
from benchmarks.report import example


@pytest.fixture(scope="module")
def measured() -> Measurement:
    """Two artifacts with eight pictures each on three runtimes."""
    images = np.random.default_rng(0).random((8, 3, 32, 32), dtype=np.float32)
    return example(images, artifacts=2, layers=3)


def with_images(measurement: Measurement, side: int, count: int) -> Measurement:
    """The same measurement with large noisy pictures, which PNG can't make small."""
    random = np.random.default_rng(0)
    assert measurement.pictures is not None
    pixels = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    pictures = replace(
        measurement.pictures,
        indices=tuple(range(count)),
        reference=pixels,
        images=dict.fromkeys(measurement.pictures.images, pixels[::-1]),
    )
    return replace(measurement, pictures=pictures, image_shape=(3, side, side))


def test_large_pictures_are_cut_until_the_page_is_small(
    measured: Measurement, tmp_path: Path
) -> None:
    large = with_images(measured, 600, 8)
    shown = gallery(large)
    assert shown is not None
    assert shown.cut is not None
    assert len(shown.titles) >= LEAST
    assert shown.kept == 8
    (page,) = large.report(tmp_path / "page.html")
    assert page.stat().st_size < 5_000_000
    assert f"the centre is shown, {shown.cut} pixels" in page.read_text()


def test_chosen_inputs_hold_the_worst() -> None:
    ssim = tuple(1 - i / 100 for i in range(40))
    chosen = choose(Quality(ssim, ssim, ssim, 1.0), 32 * 32)
    assert chosen == [*range(12), 36, 37, 38, 39]
    assert len(choose(Quality(ssim, ssim, ssim, 1.0), 4_000_000)) == 4
    assert choose(Quality(ssim[:3], ssim[:3], ssim[:3], 1.0), 32 * 32) == [0, 1, 2]


def test_displayed_pixels() -> None:
    images = np.float32([-2, -1, 0, 1, 2, np.nan]).reshape(1, 1, 1, 6)
    assert displayed(images, (-1.0, 1.0))[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


def test_heat_is_brightest_where_pictures_differ_most() -> None:
    from io import BytesIO

    from PIL import Image

    reference = np.zeros((1, 4, 4, 3), np.uint8)
    images = reference.copy()
    images[0, 1, 2] = 255
    gap = difference(images, reference)
    assert gap[0, 1, 2] == 1
    assert gap.sum() == 1
    heat = np.asarray(Image.open(BytesIO(heat_png(gap[0], 1.0))).convert("L"))
    assert np.unravel_index(heat.argmax(), heat.shape) == (1, 2)
    assert heat[0, 0] < 5


def test_pictures_lose_nothing() -> None:
    from io import BytesIO

    from PIL import Image

    random = np.random.default_rng(0)
    for colours in (1, 3):
        pixels = random.integers(0, 256, (9, 7, colours), dtype=np.uint8)
        packed = Image.open(BytesIO(webp(pixels))).convert("RGB")
        assert (np.asarray(packed) == np.broadcast_to(pixels, (9, 7, 3))).all()


def test_one_wrong_pixel_is_seen_in_a_small_map() -> None:
    gap = np.zeros((300, 200), np.float32)
    gap[299, 10] = 0.5
    small = coarse(gap, 128)
    assert small.shape == (100, 67)
    assert small.max() == 0.5
    assert np.argwhere(small).tolist() == [[99, 3]]
    assert coarse(gap[:100, :100], 128).shape == (100, 100)


def with_report(measurement: Measurement, report: dict[str, object]) -> Measurement:
    """The same measurement, its step with another report."""
    first, step = measurement.artifacts
    told = replace(step, steps=({**step.steps[-1], "report": report},))
    return replace(measurement, artifacts=(first, told))


def test_layers_are_listed_with_precision_cost_and_time(measured: Measurement) -> None:
    assert layer_tables(with_report(measured, {"changed": ["net.0: 9 to 5 channels"]})) == []
    left = [{"what": "net.3", "reason": "slower in int8"}]
    report: dict[str, object] = {"changed": ["net.0: int8", "net.6: int8"], "left": left}
    (table,) = layer_tables(with_report(measured, report))
    assert table.counts == "2 int8, 1 float"
    assert not table.timed
    assert [(one.name, one.precision, one.reason) for one in table.layers] == [
        ("net.0", "int8", ""),
        ("net.6", "int8", ""),
        ("net.3", "float", "slower in int8"),
    ]
    row = {"node": "n", "ssim_cost": 0.00067, "float_ms": 0.6, "int8_ms": 0.2}
    report["layers"] = [
        {"layer": "net.0", "precision": "int8", **row},
        {"layer": "net.3", "precision": "float", **row, "ssim_cost": None},
    ]
    (table,) = layer_tables(with_report(measured, report))
    rounded, kept = table.layers
    assert table.timed
    assert (rounded.cost, rounded.before, rounded.after) == ("0.00067", "0.600 ms", "0.200 ms")
    assert (rounded.milliseconds, kept.milliseconds) == (0.2, 0.6)
    assert (kept.cost, kept.reason) == (rows.NOTHING, "slower in int8")


def test_latencies_are_told_with_the_interval_of_their_ratio(measured: Measurement) -> None:
    found = latencies(measured)
    baseline, *others = found.rows
    assert (baseline.ratio, baseline.interval) == ("1", "")
    for one in others:
        low, high = map(float, one.interval.split(" to "))
        assert low <= float(one.ratio) <= high
        values = one.samples.milliseconds
        assert one.cell(5) == rows.milliseconds(float(np.percentile(values, 5)))
        assert one.figure.count("<circle") == len(values)
    assert all(0 <= place <= 100 for place, _ in found.ticks)


def test_equal_latencies_have_no_density(measured: Measurement) -> None:
    readings = tuple(
        replace(r, latency=replace(r.latency, milliseconds=(2.0,) * len(r.latency.milliseconds)))
        for r in measured.artifacts[0].readings
    )
    first = replace(measured.artifacts[0], readings=readings)
    alone = replace(measured, artifacts=(first,), pictures=None)
    assert all('class="density"' not in row.figure for row in latencies(alone).rows)


def test_nothing_dominates_the_front() -> None:
    random = np.random.default_rng(0)
    points = [
        Point("step", "torch", float(ms), float(ssim), best=False)
        for ms, ssim in random.random((50, 2)).round(1) + 0.1
    ]
    found = front(points)
    for point in points:
        dominated = any(
            (other.latency_ms <= point.latency_ms and other.ssim >= point.ssim)
            and (other.latency_ms < point.latency_ms or other.ssim > point.ssim)
            for other in points
        )
        on_front = any((p.latency_ms, p.ssim) == (point.latency_ms, point.ssim) for p in found)
        assert on_front is not dominated


def test_the_policy_lets_the_one_script_run(measured: Measurement, tmp_path: Path) -> None:
    (path,) = measured.report(tmp_path / "page.html")
    page = path.read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert f"script-src 'sha256-{digest}'" in html.unescape(policy)
    assert "default-src 'none'" in html.unescape(policy)


def test_ticks_are_round_and_inside() -> None:
    for least in (0.0, 0.31, 0.8, 0.93, 0.997):
        ticks = ssim_ticks(least)
        assert ticks[0] == 1
        assert 2 <= len(ticks) <= 7
        assert min(ticks) >= least
    for low, high in ((0.4, 0.7), (1, 30), (0.05, 900), (3, 8000)):
        ticks = latency_ticks(low, high)
        assert 2 <= len(ticks) <= 12
        assert all(low <= t <= high for t in ticks)


def test_the_plot_is_sound_and_names_every_artifact(measured: Measurement) -> None:
    from xml.etree import ElementTree

    for width, height in ((1140, 460), (350, 330)):
        svg = ElementTree.fromstring(plot(measured, width=width, height=height))
        names = [t.text for t in svg.iter("text") if t.get("class") == "name"]
        assert names == ["00-original", "01-quantize"]
        marks = list(svg.iter("g"))
        assert len(marks) == len(list(measured.all_readings()))
        for text in svg.iter("text"):
            assert 0 <= float(text.get("x", "-1")) <= width
            assert 0 <= float(text.get("y", "-1")) <= height


def test_labels_of_the_plot_do_not_cover_each_other(measured: Measurement) -> None:
    points = points_of(measured)
    frame = frame_for(points, 860, 400)
    places = [re.findall(r'[xy]="([\d.]+)"', label) for label in labels(frame, points)]
    assert len({tuple(place) for place in places}) == len(places) == 2
