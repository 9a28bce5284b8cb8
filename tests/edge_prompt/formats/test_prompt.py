from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_prompt.base.errors import (
    ArrayFileError,
    CardError,
    EdgePromptError,
    HeadError,
    MissingFileError,
    PromptKindError,
    PromptShapeError,
    UnsafePathError,
    WriteError,
)
from edge_prompt.formats.head import write_head
from edge_prompt.formats.prompt import Dense, Head, read_prompt, write_prompt
from edge_prompt.storage.files import sha256_of
from edge_prompt.untrusted.npy import write_npy, write_npz

FINGERPRINT = "0123456789abcdef" * 4
SOFT = np.arange(160, dtype=np.float32).reshape(5, 32)
HEAD = Head(np.ones((3, 32), np.float32), np.zeros(3, np.float32))
LABELS = ("red", "green", "blue")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A prompt with a head and labels."""
    write_prompt(tmp_path / "x.npy", SOFT, "soft", FINGERPRINT, head=HEAD, labels=LABELS)
    return tmp_path / "x.npy"


def edit_card(path: Path, **changes: Any) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def replace_head(path: Path, weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> None:
    head = path.with_name("x.head.npz")
    write_npz(head, {"weight": weight, "bias": bias})
    edit_card(path, head={"file": "x.head.npz", "sha256": sha256_of(head)})


finite = st.floats(-1e4, 1e4, width=16)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from([np.float16, np.float32]), hnp.array_shapes(min_dims=2, max_dims=2), elements=finite
    ),
    weight=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=finite),
    template=st.sampled_from(["{text}", "Say: {text}", "{text} {}"]),
    max_tokens=st.none() | st.integers(3, 512),
)
def test_a_written_prompt_is_read_again(
    tmp_path: Path, array: Any, weight: Any, template: str, max_tokens: int | None
) -> None:
    labels = tuple(f"class {index}" for index in range(len(weight)))
    card = write_prompt(
        tmp_path / "x.npy",
        array,
        "soft",
        FINGERPRINT,
        head=Head(weight, weight[:, 0]),
        labels=labels,
        template=template,
        max_tokens=max_tokens,
        provenance={"accuracy": 0.5},
    )
    prompt = read_prompt(tmp_path / "x.npy")
    np.testing.assert_array_equal(prompt.array, array, strict=True)
    assert prompt.card == card
    assert (card.labels, card.template, card.max_tokens) == (labels, template, max_tokens)
    assert prompt.head is not None
    np.testing.assert_array_equal(prompt.head.weight, weight, strict=True)
    np.testing.assert_array_equal(prompt.head.bias, weight[:, 0], strict=True)


def test_a_prompt_has_three_files_of_its_name(path: Path) -> None:
    assert sorted(file.name for file in path.parent.iterdir()) == ["x.head.npz", "x.json", "x.npy"]


def test_a_prompt_knows_the_digests_of_the_files_it_was_read_from(path: Path) -> None:
    files = {file.name: sha256_of(file) for file in path.parent.iterdir()}
    assert read_prompt(path).sha256 == files


def test_a_bare_array_is_a_prompt_without_a_card(tmp_path: Path) -> None:
    write_npy(tmp_path / "x.npy", SOFT)
    prompt = read_prompt(tmp_path / "x.npy")
    np.testing.assert_array_equal(prompt.array, SOFT, strict=True)
    assert (prompt.card, prompt.head, prompt.path) == (None, None, tmp_path / "x.npy")


def test_a_missing_prompt_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"x\.npy: no such file"):
        read_prompt(tmp_path / "x.npy")


@pytest.mark.parametrize("shape", [[6, 32], [32, 5], [5, 31]])
def test_a_card_of_another_shape_is_refused(path: Path, shape: list[int]) -> None:
    edit_card(path, shape=shape)
    with pytest.raises(CardError, match=r"x\.json says shape .*x\.npy has \[5, 32\]"):
        read_prompt(path)


def test_a_card_of_a_kind_with_other_axes_is_refused(path: Path) -> None:
    edit_card(path, kind="prefix")
    with pytest.raises(CardError, match="expected the 5 lengths of a prefix prompt"):
        read_prompt(path)


def test_a_card_of_other_numbers_is_refused(path: Path) -> None:
    write_npy(path, SOFT + 1)
    with pytest.raises(CardError, match=r"x\.npy has SHA-256 .*its card x\.json says"):
        read_prompt(path)


def test_a_card_of_another_head_is_refused(path: Path) -> None:
    write_npz(path.with_name("x.head.npz"), {"weight": HEAD.weight * 2, "bias": HEAD.bias})
    with pytest.raises(CardError, match=r"x\.head\.npz has SHA-256 .*its card x\.json says"):
        read_prompt(path)


def test_a_missing_head_is_named(path: Path) -> None:
    path.with_name("x.head.npz").unlink()
    with pytest.raises(MissingFileError, match=r"x\.head\.npz: no such file"):
        read_prompt(path)


@pytest.mark.parametrize("kind", ["climbing", "absolute", "backslash", "link", "loop", "empty"])
def test_a_head_outside_the_folder_of_its_card_is_refused(path: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    for file in ("x.npy", "x.json"):
        (tmp_path / file).rename(folder / file)
    (folder / "link").symlink_to(tmp_path / "x.head.npz")
    (folder / "loop").symlink_to("loop")
    name = {
        "climbing": "../x.head.npz",
        "absolute": str(tmp_path / "x.head.npz"),
        "backslash": "..\\x.head.npz",
        "empty": "",
    }.get(kind, kind)
    edit_card(folder / "x.npy", head={"file": name, "sha256": sha256_of(tmp_path / "x.head.npz")})
    with pytest.raises(UnsafePathError):
        read_prompt(folder / "x.npy")


@pytest.mark.parametrize(
    ("weight", "bias"),
    [((3,), (3,)), ((3, 32, 1), (3,)), ((3, 32), (2,)), ((3, 32), (3, 1)), ((3, 32), (32,)), ((2, 32), (2,))],
)
def test_a_head_of_arrays_that_do_not_fit_is_refused(
    path: Path, weight: tuple[int, ...], bias: tuple[int, ...]
) -> None:
    replace_head(path, np.ones(weight, np.float32), np.ones(bias, np.float32))
    with pytest.raises(HeadError, match=r"expected weight \[num_labels, feature_size\] and bias \[num_labels\]"):
        read_prompt(path)


def test_a_head_of_another_number_of_labels_is_refused(path: Path) -> None:
    edit_card(path, labels=["red", "green"])
    with pytest.raises(HeadError, match=r"weight \[3, 32\], bias \[3\], 2 distinct labels"):
        read_prompt(path)


def test_a_dense_layer_is_written_and_removed_with_its_head(tmp_path: Path) -> None:
    dense = Dense(SOFT[:4], SOFT[0, :4], "gelu")
    card = write_prompt(
        tmp_path / "x.npy", SOFT, "soft", FINGERPRINT, head=Head(HEAD.weight[:, :4], HEAD.bias, dense), labels=LABELS
    )
    prompt = read_prompt(tmp_path / "x.npy")
    assert prompt.card == card
    assert card.head is not None
    assert card.head.activation == "gelu"
    assert prompt.head is not None
    assert prompt.head.dense is not None
    assert prompt.head.dense.activation == "gelu"
    np.testing.assert_array_equal(prompt.head.dense.weight, dense.weight, strict=True)


def test_a_dense_layer_that_the_card_does_not_name_is_refused(path: Path) -> None:
    write_head(
        path.with_name("x.head.npz"), Head(HEAD.weight, HEAD.bias, Dense(np.eye(32, dtype="f4"), SOFT[0], "tanh"))
    )
    edit_card(path, head={"file": "x.head.npz", "sha256": sha256_of(path.with_name("x.head.npz"))})
    with pytest.raises(ArrayFileError, match=r"members \['bias.npy', 'dense_bias.npy'.*exactly \['bias', 'weight'\]"):
        read_prompt(path)


def test_a_head_without_labels_is_accepted(path: Path) -> None:
    edit_card(path, labels=[])
    head = read_prompt(path).head
    assert head is not None
    assert head.weight.shape == (3, 32)


def test_a_head_of_no_class_is_refused(path: Path) -> None:
    replace_head(path, np.ones((0, 32), np.float32), np.ones(0, np.float32))
    edit_card(path, labels=[])
    with pytest.raises(ArrayFileError, match="each of at least 1"):
        read_prompt(path)


def test_a_float16_head_is_widened(path: Path) -> None:
    replace_head(path, HEAD.weight.astype(np.float16), HEAD.bias.astype(np.float16))
    head = read_prompt(path).head
    assert head is not None
    assert {head.weight.dtype, head.bias.dtype} == {np.dtype(np.float32)}


def test_a_compressed_head_is_refused(path: Path) -> None:
    np.savez_compressed(path.with_name("x.head.npz"), weight=HEAD.weight, bias=HEAD.bias)
    with pytest.raises(ArrayFileError, match="a compressed member"):
        read_prompt(path)


@pytest.mark.parametrize("file", [".x.npy.new", ".x.head.npz.new", "x.json", "x.head.npz", "x.npy"])
def test_a_failed_write_leaves_the_old_or_the_new_prompt(
    path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    replace = Path.replace

    def full(source: Path, target: Path) -> Path:
        if target.name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(source, target)

    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    old, head = read_prompt(path), Head(HEAD.weight + 1, HEAD.bias)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WriteError, match="No space left"):
        write_prompt(path, SOFT + 1, "soft", FINGERPRINT, head=head, labels=LABELS)
    monkeypatch.undo()
    found = read_prompt(path)
    assert found.head is not None
    if file in {"x.head.npz", "x.npy"}:  # the card is in place: the files it names exist under another name
        np.testing.assert_array_equal(found.array, SOFT + 1)
        np.testing.assert_array_equal(found.head.weight, head.weight)
    else:
        assert found.card == old.card
        assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before
    write_prompt(path, SOFT + 2, "soft", FINGERPRINT, labels=LABELS)
    np.testing.assert_array_equal(read_prompt(path).array, SOFT + 2)
    assert {each.name for each in path.parent.iterdir()} == before.keys()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"kind": "lora"}, PromptKindError),
        ({"kind": "deep"}, PromptShapeError),
        ({"array": np.zeros((0, 32), np.float32)}, PromptShapeError),
        ({"array": SOFT.astype(np.float64)}, ArrayFileError),
        ({"array": SOFT.astype(int)}, ArrayFileError),
        ({"array": np.full((2, 32), np.nan, np.float32)}, ArrayFileError),
        ({"labels": ("red", "red", "blue")}, HeadError),
        ({"labels": ("red", "green")}, HeadError),
        ({"head": Head(HEAD.weight, HEAD.bias[:2])}, HeadError),
        ({"head": Head(HEAD.weight, HEAD.bias, Dense(SOFT[:4], SOFT[0, :4], "tanh"))}, HeadError),
    ],
)
def test_an_unreadable_prompt_is_not_written(
    tmp_path: Path, changes: dict[str, Any], error: type[EdgePromptError]
) -> None:
    given: dict[str, Any] = {"array": SOFT, "kind": "soft", "head": HEAD, "labels": LABELS} | changes
    with pytest.raises(error):
        write_prompt(tmp_path / "x.npy", fingerprint=FINGERPRINT, **given)
    assert not list(tmp_path.iterdir())
