from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_prompt_export.adapters.location import adapter_folder


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "./a/b", "../a", "/a/b", ""])
def test_anything_but_a_hub_name_is_a_folder(name: str) -> None:
    assert adapter_folder(name, None, None) == Path(name)


def test_a_folder_takes_precedence_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert adapter_folder("org/name", None, None) == Path("org/name")


def import_offline(bundle: Path, output: Path, cache: Path, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["import", "org/name", "--bundle", str(bundle), "-o", str(output), "--cache-dir", str(cache), *options]
    return subprocess.run(
        [sys.executable, "-m", "edge_prompt", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )


def test_an_adapter_in_the_hubs_cache_is_found_by_its_name(
    adapter: Path, encoder_bundle: object, tmp_path: Path
) -> None:
    assert callable(encoder_bundle)
    bundle, cache = encoder_bundle("bert"), tmp_path / "cache"
    folder = cache / "models--org--name"
    for revision, commit in (("main", "1" * 40), ("v2", "2" * 40)):
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
        shutil.copytree(adapter, folder / "snapshots" / commit)
    for options in ([], ["--revision", "v2"]):
        result = import_offline(bundle, tmp_path / "task.npy", cache, *options)
        assert result.returncode == 0, result.stderr
    assert '"adapter": "org/name"' in (tmp_path / "task.json").read_text()


def test_a_name_unknown_to_the_hub_gives_one_message(tiny_bundle: Path, tmp_path: Path) -> None:
    result = import_offline(tiny_bundle, tmp_path / "task.npy", tmp_path / "cache")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: org/name: no such folder, and the download failed")
    assert result.stderr.count("\n") == 1
