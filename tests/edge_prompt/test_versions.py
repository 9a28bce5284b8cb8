"""Files written by earlier versions are read: `written/VERSION` holds those of each version and never changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import CardError, ManifestError
from edge_prompt.formats.kinds import KIND_AXES
from edge_prompt.formats.manifest import MANIFEST_NAME, read_manifest, write_manifest
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt.formats.prompt import read_prompt

WRITTEN = Path(__file__).parent / "written"
BUNDLES = sorted(path.parent for path in WRITTEN.glob(f"*/bundles/*/{MANIFEST_NAME}"))
PROMPTS = sorted(WRITTEN.glob("*/prompts/*.npy"))

LATER_FIELDS = {"cache", "compression", "activation", "max_tokens", "template", "labels", "head", "provenance"}
"""Fields of manifests and cards that may be missing, since the first files were written without them."""


def named(path: Path) -> str:
    return "-".join(path.relative_to(WRITTEN).with_suffix("").parts)


def counted(*shape: int) -> np.ndarray[Any, Any]:
    """The numbers of every array in `written`."""
    return (np.arange(np.prod(shape)) / 8).reshape(shape)


def test_every_version_wrote_every_modality_and_every_kind() -> None:
    for version in WRITTEN.iterdir():
        assert {path.name for path in (version / "bundles").iterdir()} >= {"text", "image", "language", "arrays"}
        assert {path.stem for path in (version / "prompts").glob("*.npy")} >= {*KIND_AXES, "bare"}


@pytest.mark.parametrize("folder", BUNDLES, ids=named)
def test_a_bundle_of_an_earlier_version_is_read(folder: Path) -> None:
    manifest = read_manifest(folder)
    written = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert modality_of(manifest.preprocessing) == folder.name
    assert manifest.backbone.fingerprint == written["backbone"]["fingerprint"]
    assert [*manifest.graphs] == [graph["engine"] for graph in written["graphs"]]
    assert [*manifest.fold_graphs] == [graph["engine"] for graph in written["fold_graphs"]]
    assert manifest.kinds.keys() == written["kinds"].keys()


@pytest.mark.parametrize("folder", BUNDLES, ids=named)
def test_a_manifest_is_written_back_byte_for_byte(tmp_path: Path, folder: Path) -> None:
    write_manifest(tmp_path, read_manifest(folder))
    assert (tmp_path / MANIFEST_NAME).read_bytes() == (folder / MANIFEST_NAME).read_bytes()


@pytest.mark.parametrize("path", PROMPTS, ids=named)
def test_a_prompt_of_an_earlier_version_is_read(path: Path) -> None:
    prompt = read_prompt(path)
    np.testing.assert_array_equal(prompt.array, counted(*prompt.array.shape))
    if path.stem == "bare":
        assert prompt.card is None
        return
    written = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert prompt.card
    assert prompt.card.kind == written["kind"] == path.stem
    assert (prompt.card.template, prompt.card.max_tokens) == (written["template"], written["max_tokens"])
    assert list(prompt.card.labels) == written["labels"]
    assert (prompt.head is None) is (written["head"] is None)
    if prompt.head:
        np.testing.assert_array_equal(prompt.head.weight, counted(*prompt.head.weight.shape))
        assert (None if prompt.head.dense is None else prompt.head.dense.activation) == written["head"].get(
            "activation"
        )


def changed(value: Any, later: set[str], **more: Any) -> Any:
    """A JSON value without empty fields of `later`, and with `more` at its top level."""
    if isinstance(value, list):
        return [changed(item, later, **more) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: changed(item, later) for name, item in value.items() if item or name not in later} | more


@pytest.mark.parametrize("folder", BUNDLES, ids=named)
@pytest.mark.parametrize("more", [{}, {"of_a_later_version": [1]}], ids=["less", "more"])
def test_a_manifest_may_lack_what_came_later_and_have_what_is_not_known(
    tmp_path: Path, folder: Path, more: dict[str, Any]
) -> None:
    value = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(changed(value, LATER_FIELDS - {"labels"}, **more)), "utf-8")
    assert read_manifest(tmp_path) == read_manifest(folder)


@pytest.mark.parametrize("path", [path for path in PROMPTS if path.stem != "bare"], ids=named)
@pytest.mark.parametrize("more", [{}, {"of_a_later_version": [1]}], ids=["less", "more"])
def test_a_card_may_lack_what_came_later_and_have_what_is_not_known(
    tmp_path: Path, path: Path, more: dict[str, Any]
) -> None:
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copyfile(file, tmp_path / file.name)
    card = tmp_path / f"{path.stem}.json"
    card.write_text(json.dumps(changed(json.loads(card.read_text("utf-8")), LATER_FIELDS, **more)), "utf-8")
    assert read_prompt(tmp_path / path.name).card == read_prompt(path).card


def test_files_of_a_later_format_are_refused_with_the_remedy(tmp_path: Path) -> None:
    for file in (*BUNDLES[0].iterdir(), *PROMPTS[-1].parent.glob(f"{PROMPTS[-1].stem}.*")):
        shutil.copyfile(file, tmp_path / file.name)
    for file in tmp_path.glob("*.json"):
        value = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(value | {"format_version": 2}), encoding="utf-8")
    with pytest.raises(ManifestError, match="Install a newer edge-prompt"):
        read_manifest(tmp_path)
    with pytest.raises(CardError, match="Install a newer edge-prompt"):
        read_prompt(tmp_path / PROMPTS[-1].name)
