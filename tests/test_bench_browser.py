"""The report's page in a real Chromium: it opens, compares, and can be read everywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.measurement import Measurement, Pictures
from benchmarks.picture import chromium
from benchmarks.report import example

CHROMIUM = chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"
)
SIDE, COUNT = 32, 3
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def measured() -> Measurement:
    """Three artifacts: the first makes white pictures, the second noise, the last black ones."""
    random = np.random.default_rng(0)
    images = random.random((COUNT, 3, SIDE, SIDE), dtype=np.float32)
    white = np.full((COUNT, SIDE, SIDE, 3), 255, np.uint8)
    noise = random.integers(0, 256, white.shape, dtype=np.uint8)
    pictures = {"00-original": white, "01-prune": noise, "02-quantize": np.zeros_like(white)}
    found = example(images, artifacts=3, layers=9)
    return replace(found, pictures=Pictures(tuple(range(COUNT)), white, pictures))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    (written,) = measured().report(tmp_path_factory.mktemp("page") / "report.html")
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@contextmanager
def opened(browser: Any, path: Path, **settings: Any) -> Iterator[Any]:
    """The page in a context of its own; it must stay silent and alone until the end."""
    context = browser.new_context(
        **{"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"} | settings
    )
    page = context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert [one for one in heard if one != path.as_uri() and not one.startswith("data:")] == []


def pixel(page: Any, across: float) -> tuple[int, ...]:
    """What is seen in the comparison, a third of the way down, beside names and handle."""
    from PIL import Image

    frame = page.locator(".compare")
    with Image.open(io.BytesIO(frame.screenshot())) as shot:
        colour = shot.convert("RGB").getpixel((int(across * shot.width), shot.height // 3))
    assert isinstance(colour, tuple)
    return colour


def heat(page: Any) -> list[list[int]]:
    """The colours of the difference."""
    found: list[list[int]] = page.evaluate("""() => {
        const canvas = document.querySelector(".heat canvas");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const colours = [];
        for (let i = 0; i < data.length; i += 4) colours.push([...data.slice(i, i + 3)]);
        return colours;
    }""")
    return found


def stop_the_clock(page: Any) -> None:
    """From here on timers run only as far as they are told to."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)


def compared(page: Any, left: str, right: str) -> None:
    """Wait until the difference of two artifacts is drawn."""
    page.locator(f'canvas[aria-label^="Difference of {left} and {right},"]').wait_for()


def test_it_begins_with_the_original_and_the_last(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        compared(page, "00-original", "02-quantize")
        assert pixel(page, 0.1) == WHITE
        assert pixel(page, 0.9) == BLACK
        assert page.locator(".stage .which").inner_text().endswith(f"1 of {COUNT}")
    assert path.stat().st_size < 5_000_000


def test_the_slider_follows_the_mouse(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        frame = page.locator(".compare")
        frame.scroll_into_view_if_needed()
        box = frame.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.2 * box["width"], middle, steps=5)
        page.mouse.up()
        assert pixel(page, 0.15) == WHITE
        assert pixel(page, 0.25) == BLACK


def test_the_slider_follows_the_keyboard(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        slider = page.get_by_role("slider", name="How much of 00-original is shown")
        slider.focus()
        page.keyboard.press("Home")
        assert pixel(page, 0.05) == BLACK
        page.keyboard.press("End")
        assert pixel(page, 0.95) == WHITE
        page.keyboard.press("ArrowLeft")
        assert slider.input_value() == "99"


def test_the_slider_follows_a_finger(browser: Any, path: Path) -> None:
    with opened(browser, path, **PHONE) as page:
        frame = page.locator(".compare")
        frame.scroll_into_view_if_needed()
        box = frame.bounding_box()
        page.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
        assert pixel(page, 0.7) == WHITE
        assert pixel(page, 0.8) == BLACK


def test_blinking_alternates_by_itself_and_by_hand(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        stop_the_clock(page)
        page.get_by_label("Blink").check()
        assert pixel(page, 0.9) == WHITE
        page.clock.run_for(700)
        assert pixel(page, 0.1) == BLACK
        page.clock.run_for(700)
        assert pixel(page, 0.9) == WHITE
        page.get_by_role("button", name="Show the other picture").focus()
        page.keyboard.press("Enter")  # takes over: it no longer turns by itself
        assert pixel(page, 0.1) == BLACK
        page.clock.run_for(5000)
        assert pixel(page, 0.1) == BLACK
        page.get_by_label("Slider").check()
        assert pixel(page, 0.1) == WHITE
        assert pixel(page, 0.9) == BLACK


def test_nothing_moves_where_less_motion_is_asked_for(browser: Any, path: Path) -> None:
    with opened(browser, path, reduced_motion="reduce") as page:
        stop_the_clock(page)
        page.get_by_label("Blink").check()
        assert page.get_by_label("by itself").is_disabled()
        page.clock.run_for(5000)
        assert pixel(page, 0.9) == WHITE
        page.locator(".compare").click()
        assert pixel(page, 0.1) == BLACK


def test_blinking_stops_when_less_motion_is_asked_for(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        stop_the_clock(page)
        page.get_by_label("Blink").check()
        page.clock.run_for(700)
        assert pixel(page, 0.1) == BLACK
        page.emulate_media(reduced_motion="reduce")
        page.get_by_text("This device asks for less motion").wait_for()
        before = pixel(page, 0.1)
        page.clock.run_for(700)
        assert pixel(page, 0.1) == before


def test_any_two_artifacts_are_compared(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        page.get_by_label("01-prune on the right").focus()
        page.keyboard.press("Space")
        page.get_by_label("02-quantize on the left").check()
        compared(page, "02-quantize", "01-prune")
        assert pixel(page, 0.1) == BLACK
        shown = page.locator(".stage .after").get_attribute("src")
        line = page.locator('.line[data-row="01-prune"]')
        assert shown == line.locator("img").first.get_attribute("src")
        assert line.is_visible()
        page.get_by_label("02-quantize on the right").check()
        compared(page, "02-quantize", "02-quantize")
        assert np.max(heat(page)) < 8
        assert not line.is_visible()


def test_inputs_are_chosen(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        names = page.locator('.line[data-row="00-original"] .thumb').evaluate_all(
            "thumbs => thumbs.map((thumb) => thumb.dataset.title)"
        )
        which = page.locator(".stage .which")
        page.get_by_role("button", name="Next input").click()
        assert which.inner_text() == f"{names[1]}, 2 of {COUNT}"
        page.get_by_role("button", name="Previous input").click()
        page.get_by_role("button", name="Previous input").click()
        assert which.inner_text() == f"{names[-1]}, {COUNT} of {COUNT}"
        page.locator('.line[data-row="02-quantize"] .thumb').first.click()
        assert which.inner_text() == f"{names[0]}, 1 of {COUNT}"


def test_the_page_draws_the_differences_that_python_draws(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        page.get_by_label("01-prune on the right").check()
        compared(page, "00-original", "01-prune")
        theirs = page.evaluate("""async () => {
            const image = document.querySelector('.line[data-heat="01-prune"] img');
            await image.decode();
            const canvas = document.createElement("canvas");
            canvas.width = image.naturalWidth;
            canvas.height = image.naturalHeight;
            const pen = canvas.getContext("2d");
            pen.drawImage(image, 0, 0);
            const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
            const colours = [];
            for (let i = 0; i < data.length; i += 4) colours.push([...data.slice(i, i + 3)]);
            return colours;
        }""")
        ours = np.array(heat(page))
        assert ours.std(axis=0).min() > 10
        # A gradient of a few stops stands for 256 colours.
        assert np.abs(ours - np.array(theirs)).max() <= 6


CONTRASTS = """() => {
    const channels = (colour) => {
        const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
    const light = (colour) => {
        const [r, g, b] = colour.map((v) => {
            const share = v / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const layers = [];
        for (let one = element; one; one = one.parentElement) {
            const colour = channels(getComputedStyle(one).backgroundColor);
            layers.push(colour);
            if (colour[3] === 1) break;
        }
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const element = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || element.closest("script, style, title")) continue;
        if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
        const style = getComputedStyle(element);
        const ground = behind(element);
        const colour = over(channels(element.closest("svg") ? style.fill : style.color), ground);
        const [low, high] = [light(colour), light(ground)].sort((a, b) => a - b);
        found.push([(high + 0.05) / (low + 0.05), walk.currentNode.data.trim()]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(browser: Any, path: Path, scheme: str) -> None:
    with opened(browser, path, color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        found = page.evaluate(CONTRASTS)
        assert len(found) > 200
        assert [said for contrast, said in found if contrast < 4.5] == []
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        levels = [int(v) for v in paper.removeprefix("rgb(").removesuffix(")").split(",")]
        assert max(levels) < 40 if scheme == "dark" else min(levels) > 240


@pytest.mark.parametrize("width", [320, 390, 700, 1200])
def test_no_width_scrolls_sideways(browser: Any, path: Path, width: int) -> None:
    with opened(browser, path, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_readable_without_javascript(browser: Any, path: Path) -> None:
    with opened(browser, path, java_script_enabled=False) as page:
        assert not page.locator(".stage").is_visible()
        lines = page.locator(".line")
        assert lines.count() == 1 + 2 * 2
        assert all(lines.nth(i).is_visible() for i in range(lines.count()))
        sections = ("changes", "table", "plot", "latencies", "sweep", "distribution", "layers")
        for name in (*sections, "runtimes", "made", "environment"):
            assert page.locator(f"#{name}").is_visible(), name


def test_a_printer_gets_every_picture_and_detail(browser: Any, path: Path) -> None:
    with opened(browser, path, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not([open])").count() > 0
        assert not page.locator(".stage").is_visible()
        assert all(line.is_visible() for line in page.locator(".line").all())
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert page.pdf().startswith(b"%PDF")


def test_its_structure_is_told_to_machines(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        levels = page.locator("h1, h2, h3, h4").evaluate_all(
            "found => found.map((one) => Number(one.tagName[1]))"
        )
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert page.locator("img:not([alt]), canvas:not([aria-label])").count() == 0
        nameless = page.locator("input, button, svg[role=img], [role=region]").evaluate_all(
            """found => found.filter((one) =>
                !one.ariaLabel && !one.labels?.length && !one.textContent.trim()).length"""
        )
        assert nameless == 0
        ids = page.locator("[id]").evaluate_all("found => found.map((one) => one.id)")
        assert len(ids) == len(set(ids))
        assert page.locator("th:not([scope])").count() == 0


def test_the_policy_forbids_everything_from_outside(browser: Any, path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    asked: list[str] = []
    refused: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    page.evaluate("""() => {
        window.refused = [];
        addEventListener("securitypolicyviolation", (event) => {
            refused.push(event.effectiveDirective);
        });
        const put = (name, fields) =>
            document.head.append(Object.assign(document.createElement(name), fields));
        put("script", { textContent: "window.ran = true" });
        put("script", { src: "https://example.invalid/a.js" });
        put("img", { src: "https://example.invalid/a.png" });
        put("link", { rel: "stylesheet", href: "https://example.invalid/a.css" });
        fetch("https://example.invalid/").catch(() => null);
    }""")
    page.wait_for_function("refused.length >= 5")
    kinds = {"script-src-elem", "img-src", "style-src-elem", "connect-src"}
    assert set(page.evaluate("refused")) == kinds
    assert page.evaluate("window.ran") is None
    assert refused == [(url, "csp") for url in asked]
    context.close()
