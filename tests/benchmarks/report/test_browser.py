"""The report in headless Chromium, at the width of a telephone and of a desktop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--allow-file-access-from-files",  # the frame is measured from outside, because no script may run inside
    "--virtual-time-budget=20000",
    "--hide-scrollbars",  # as on a telephone, where scroll bars overlay the page
    "--window-size=1400,1000",
)
WIDTHS = (360, 1280)
HARNESS = """<!DOCTYPE html><title>measures</title><pre id="found"></pre>
<script>
function measure(frame) {
  const page = frame.contentDocument, root = page.documentElement, width = root.clientWidth;
  page.querySelectorAll("details").forEach(each => { each.open = true; });
  const shown = [...page.querySelectorAll("svg")].filter(each => each.getBoundingClientRect().width > 0);
  const letters = shown.flatMap(svg => {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return [...svg.querySelectorAll("text")].map(text => parseFloat(getComputedStyle(text).fontSize) * scale);
  });
  const beyond = [...page.querySelectorAll("body *")].filter(each => each.getBoundingClientRect().right > width + 1
    && !each.closest(".skip") && each.getBoundingClientRect().width > 0);
  return {
    title: page.title, width: width, scrolls: root.scrollWidth, charts: shown.length,
    figures: page.querySelectorAll("figure").length, smallest: Math.min(...letters),
    sections: [...page.querySelectorAll("section")].map(each => each.id), height: root.scrollHeight,
    beyond: beyond.map(each => each.tagName + ": " + each.textContent.slice(0, 60)),
    colour: getComputedStyle(page.body).backgroundColor, scripts: page.scripts.length,
  };
}
addEventListener("load", () => {
  document.getElementById("found").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(measure));
});
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


def measured(browser: str, folder: Path, *flags: str) -> list[dict[str, Any]]:
    """Return the measurements of the pages in frames of `WIDTHS`; the console must stay empty."""
    frames = "".join(f'<iframe src="report.html" width="{width}" height="900"></iframe>' for width in WIDTHS)
    harness = folder / "harness.html"
    harness.write_text(HARNESS + frames, encoding="utf-8")
    alone = ("--no-sandbox",) if os.geteuid() == 0 else ()
    ended = subprocess.run(
        [browser, *FLAGS, *alone, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", harness.as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in ended.stderr
    said = re.search(r'<pre id="found">(.*?)</pre>', ended.stdout, re.DOTALL)
    assert said, ended.stdout[:500]
    measures: list[dict[str, Any]] = json.loads(unescape(said[1]))
    return measures


def test_the_report_fits_a_telephone_and_a_desktop(browser: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    for measures in measured(browser, tmp_path):
        assert measures["beyond"] == []
        assert measures["scrolls"] <= measures["width"]
        assert measures["smallest"] >= 10.99
        assert measures["sections"] == ["q1", "q2", "q3", "how"]
        assert measures["charts"] == measures["figures"] == 4
        assert measures["title"] == "edge-prompt benchmarks"
        assert measures["scripts"] == 0


def test_dark_mode_follows_the_preference(browser: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    _, wide = measured(browser, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert wide["colour"] == "rgb(22, 21, 19)"
