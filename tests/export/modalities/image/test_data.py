from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt.base.errors import MissingFileError, TrainingDataError
from edge_prompt_export.modalities.image.data import LabelledImage, read_labelled_images

Written = Callable[[str, str], Path]


@pytest.fixture
def touched(tmp_path: Path) -> Callable[[str], Path]:
    """Create an empty file in a temporary folder: `touched("cat/a.png")` returns its path; no test decodes it."""

    def touch(name: str) -> Path:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    return touch


def test_a_folder_has_one_subfolder_per_class(touched: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = [LabelledImage(touched(f"{name}"), name.split("/")[0]) for name in ("cat/a.png", "cat/b.jpg", "dog/a.png")]
    assert read_labelled_images(tmp_path / "data") == wanted


def test_a_suffix_may_be_in_capitals(touched: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = [touched("cat/A.JPG"), touched("cat/B.Png"), touched("cat/c.jpeg")]
    assert [image.path for image in read_labelled_images(tmp_path / "data")] == wanted


@pytest.mark.parametrize(
    "name", [".git/a.png", "cat/notes.txt", "cat/._a.png", "cat/.a.png", "a.png", "cat/deeper/a.png", "cat/b.png/x"]
)
def test_what_is_no_image_of_a_class_is_left_out(name: str, touched: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = touched("cat/a.png")
    touched(name)
    assert read_labelled_images(tmp_path / "data") == [LabelledImage(wanted, "cat")]


@pytest.mark.parametrize("name", ["cat/notes.txt", "a.png", ".hidden/a.png"])
def test_a_folder_without_an_image_is_refused(name: str, touched: Callable[[str], Path], tmp_path: Path) -> None:
    touched(name)
    with pytest.raises(TrainingDataError, match="no image; expected images in one subfolder per class"):
        read_labelled_images(tmp_path / "data")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv"])
def test_a_missing_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file or folder"):
        read_labelled_images(tmp_path / name)


def test_a_table_names_paths_from_its_own_folder(
    touched: Callable[[str], Path], written: Written, tmp_path: Path
) -> None:
    first, second, third = touched("a.png"), touched("deeper/b, c.png"), touched("z.bin")
    rows = ["path,label,more", "data/a.png, cat ,1", '"data/deeper/b, c.png","dog, small",2', f"{third},cat,3"]
    found = read_labelled_images(written("train.csv", "\ufeff" + "\r\n".join(rows)))
    assert found == [LabelledImage(first, "cat"), LabelledImage(second, "dog, small"), LabelledImage(third, "cat")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",cat", "no path"),
        ("data/a.png,", "no label"),
        ("data/a.png", "no label"),
        ("data/a.png,cat,small", "more columns"),
        ('data/a.png,"cat', "a malformed row"),
        ('data/a.png,"cat"s', "a malformed row"),
    ],
)
def test_a_broken_line_is_named_by_its_number(
    row: str, reason: str, touched: Callable[[str], Path], written: Written
) -> None:
    touched("a.png")
    path = written("train.csv", f"path,label\ndata/a.png,cat\n\ndata/a.png,dog\n{row}\n")
    with pytest.raises(TrainingDataError, match=rf"train\.csv, line 5: {reason}"):
        read_labelled_images(path)


def test_an_image_that_is_not_there_is_named_by_its_line(touched: Callable[[str], Path], written: Written) -> None:
    touched("a.png")
    path = written("train.csv", "path,label\ndata/a.png,cat\n\ndata/b.png,dog\n")
    with pytest.raises(MissingFileError, match=r"train\.csv, line 4: .*b\.png: no such file"):
        read_labelled_images(path)


def test_a_path_too_long_for_the_disk_gives_one_message(written: Written) -> None:
    with pytest.raises(MissingFileError, match="line 2"):
        read_labelled_images(written("train.csv", f"path,label\n{'a' * 5000}.png,cat\n"))


@pytest.mark.parametrize("header", ["path", "label", "text,label", "Path,Label", "path;label", ""])
def test_other_fields_are_refused(header: str, written: Written) -> None:
    with pytest.raises(TrainingDataError, match="expected the fields path and label"):
        read_labelled_images(written("train.csv", f"{header}\na.png,cat\n"))


def test_a_table_without_a_line_is_refused(written: Written) -> None:
    with pytest.raises(TrainingDataError, match="no image; expected one line per image"):
        read_labelled_images(written("train.csv", "path,label\n"))


def test_a_table_must_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes("path,label\nä.png,cat\n".encode("latin-1"))
    with pytest.raises(TrainingDataError, match="not UTF-8"):
        read_labelled_images(path)
