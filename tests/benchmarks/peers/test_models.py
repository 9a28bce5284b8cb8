from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.peers.environments import PEERS, RecipeError, made_of
from benchmarks.peers.models import RECIPES, STAMP, Recipe, is_made, make
from benchmarks.peers.variants import VARIANTS, missing

COUNT = "import pathlib, sys; pathlib.Path(sys.argv[1], 'made').write_text('x'); print('said')"


def recipe(code: str) -> Recipe:
    return Recipe(None, ("-c", code, "{target}"))


def test_a_folder_is_made_once_and_again_when_its_recipe_changes(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make(folder, recipe(COUNT))
    made = (folder / "made").stat().st_mtime_ns
    make(folder, recipe(COUNT))
    assert (folder / "made").stat().st_mtime_ns == made
    assert is_made(folder, recipe(COUNT))
    changed = recipe(COUNT + "; pathlib.Path(sys.argv[1], 'more').touch()")
    assert not is_made(folder, changed)
    make(folder, changed)
    assert {path.name for path in folder.iterdir()} == {"made", "more", STAMP}


def test_a_program_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"make-model failed: SystemExit|make-model failed: the disk is full"):
        make(tmp_path / "model", recipe(COUNT + "; sys.exit('the disk is full')"))
    assert not list(tmp_path.iterdir())


def test_a_folder_without_its_stamp_is_incomplete(tmp_path: Path) -> None:
    make(tmp_path / "model", recipe(COUNT))
    (tmp_path / "model" / STAMP).unlink()
    (tmp_path / "model" / "left").touch()
    make(tmp_path / "model", recipe(COUNT))
    assert not (tmp_path / "model" / "left").exists()


def test_recipes_name_existing_environments() -> None:
    assert {recipe.peer for recipe in RECIPES.values()} <= {None, *PEERS}
    assert {variant.peer for variant in VARIANTS} <= {None, *PEERS}
    for one in RECIPES.values():
        json.dumps([part.format(target="t", network="n", lora="l", minilm="m") for part in one.program])


@pytest.mark.parametrize("peer", PEERS)
def test_every_requirement_is_pinned_and_torch_is_ours(peer: str) -> None:
    lines = [line for line in made_of(peer).splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines if line)
    assert [line for line in lines if line.startswith("torch==")] in ([], ["torch==2.13.0"])
    assert not [line for line in lines if line.startswith("torchvision")]


def test_variants_have_unique_names_and_report_what_is_missing() -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
    ours = next(variant for variant in VARIANTS if variant.peer is None)
    assert "/nowhere" in str(missing(ours._replace(model=Path("/nowhere"))))
