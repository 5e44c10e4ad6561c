"""The picture of a report that the README shows: the top of its page, in Chromium.

python -m benchmarks.picture RUN/report/report.html -o docs/report.png
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1280, 1640


def chromium() -> str | None:
    """The browser that is installed; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def take(page: Path, picture: Path) -> None:
    """Write the top of a page as a PNG file.

    Args:
        page: a report.
        picture: where the PNG goes.
    """
    from playwright.sync_api import sync_playwright

    browser_path = chromium()
    if browser_path is None:
        raise SystemExit("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        opened.goto(page.resolve().as_uri())
        opened.locator('canvas[aria-label^="Difference"]').wait_for()
        opened.screenshot(path=picture)
        browser.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the picture of the report that is named."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("page", type=Path)
    options.add_argument("-o", "--output", type=Path, default=Path("docs/report.png"))
    asked = options.parse_args(arguments)
    take(asked.page, asked.output)


if __name__ == "__main__":
    main()
