from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.report.figures import HEADLINES, headlines, verdicts
from benchmarks.report.folder import Folder, Run, read_folder, read_runs, write_runs
from benchmarks.report.page import prose, took, when, write_page
from edge_prompt_runtime.bench.results import Results
from tests.places import ROOT

CSS = ROOT / "benchmarks" / "report" / "page.css"
VOID = {"meta", "link", "br", "img", "hr"}


class Outline(HTMLParser):
    """Collects tags, ids and attributes, and checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture
def outline(text: str) -> Outline:
    read = Outline()
    read.feed(text)
    return read


def test_the_report_is_self_contained(outline: Outline) -> None:
    assert not outline.open
    assert not {"script", "link", "img", "iframe"} & set(outline.tags)
    asked = [value or "" for name, value in outline.attributes if name in {"src", "href", "xlink:href"}]
    assert {value.partition(":")[0] for value in asked if not value.startswith("#")} == {"data"}


def test_ids_are_unique_and_references_resolve(outline: Outline, text: str) -> None:
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert named
    assert named <= set(ids)


def test_every_sample_can_be_downloaded(outline: Outline, found: Folder, folder: Path) -> None:
    links = [value or "" for name, value in outline.attributes if name == "href" and (value or "").startswith("data:")]
    saved = [base64.b64decode(link.partition(",")[2]) for link in links]
    assert saved == [(folder / f"{name}.json").read_bytes() for name in found.results]
    assert json.loads(saved[0])["series"][0]["samples"] == [6.0, 7.0, 6.5, 40.0]


def test_failed_outdated_and_unreadable_results_are_reported(text: str) -> None:
    assert "footprint failed: it ended with 1: no room" in text
    assert "The last run failed: &lt;/script&gt;" in text
    assert "broken.json" in text
    assert "Not for citing" in text
    assert "pip said no" in text


def test_an_empty_folder_makes_a_page(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", read_folder(tmp_path))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("not measured") == len(HEADLINES)
    assert "Nothing has been measured yet." in text


def test_key_figures_are_shown(found: Folder) -> None:
    peft, session, *others = headlines(found.results)
    assert [(one.value, one.goal, one.state) for one in peft.lines] == [("26.7", "at least 20", "met")]
    assert [one.state for one in session.lines] == ["missed"]
    assert not any(one.lines for one in others)
    assert all(one.missing for one in others)


def test_the_worst_of_many_ratios_are_shown(swap: Results) -> None:
    slower = [replace(swap.series[0], name=f"{factor}", samples=(6.0 * factor,) * 4) for factor in (3, 1, 9, 2)]
    ratios = tuple(replace(swap.ratios[0], name=f"PEFT over {one.name}", bottom=one.name) for one in slower)
    peft, *_ = headlines({"swap": replace(swap, series=(*swap.series, *slower), ratios=ratios)})
    assert [one.name for one in peft.lines] == ["PEFT over 3", "PEFT over 9"]
    assert peft.hidden == 2


def test_a_verdict_reports_noise(swap: Results) -> None:
    sure, _ = verdicts(swap)
    assert not sure.sure  # four samples, one of them 40 µs
    steady = replace(swap, ratios=(replace(swap.ratios[0], goal=2),))
    assert verdicts(steady)[0].sure
    plain = replace(swap, ratios=(replace(swap.ratios[0], goal=None),))
    assert verdicts(plain)[0].state == ""


def test_text_has_enough_contrast_in_light_and_dark_mode() -> None:
    day, night = CSS.read_text(encoding="utf-8").split("@media screen and (prefers-color-scheme: dark)")[:2]
    for part in (day, night.partition("@media print")[0]):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part))
        for text in ("ink", "muted", "link", "met", "missed"):
            for ground in ("paper", "card"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def contrast(one: str, other: str) -> float:
    """The contrast as defined by WCAG 2."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    runs = {"swap": Run("swap", "2030-01-01T00:00:00+00:00", 1.5, "no", quick=True)}
    write_runs(tmp_path, runs)
    assert read_runs(tmp_path) == runs
    (tmp_path / "logs" / "runs.json").write_text("[{}]")
    assert read_runs(tmp_path) == {}


def test_values_are_formatted() -> None:
    assert prose("a `b<c` & d") == "a <code>b&lt;c</code> &amp; d"
    assert prose("a ` b") == "a ` b"
    assert when("2030-01-02T03:04:05+00:00") == "2 January 2030, 03:04"
    assert when("yesterday") == "yesterday"
    assert (took(99.4), took(3600)) == ("99 s", "60 min")
