from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_prompt.base.errors import (
    CardError,
    EdgePromptError,
    InputError,
    ManifestError,
    MissingFileError,
    ReadError,
    UnsafePathError,
    WriteError,
)
from edge_prompt.formats.prompt import read_prompt
from edge_prompt.storage.files import (
    MAX_JSON_BYTES,
    MAX_NAME_LENGTH,
    folder_written_atomically,
    open_regular_file,
    read_json,
    read_start,
    require_file,
    resolve_inside,
    sha256_of,
    stat_inside,
    stat_of,
    write_json,
    written_atomically,
)
from edge_prompt.untrusted.npy import read_npy

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def failing_with(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def fill_and_raise(stream: BinaryIO, error: type[BaseException]) -> None:
    stream.write(b"new")
    stream.flush()
    raise error


def touch_and_raise(path: Path, error: type[BaseException]) -> None:
    path.touch()
    raise error


def opened_and_read(path: Path) -> bytes:
    with open_regular_file(path) as stream:
        return stream.read()


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, Any]]:
    def read(content: bytes) -> dict[str, Any]:
        (tmp_path / "x.json").write_bytes(content)
        return read_json(tmp_path / "x.json", CardError)

    return read


Read = Callable[[bytes], dict[str, Any]]


def test_a_written_file_is_complete_and_leaves_no_temporary(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "new" / "x.bin") as stream:
        stream.write(b"content")
    assert (tmp_path / "new" / "x.bin").read_bytes() == b"content"
    assert names_in(tmp_path / "new") == ["x.bin"]


def test_a_written_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "x.bin"):
        pass
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_is_not_there_before_the_block_ends(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "x.bin") as stream:
        stream.write(b"content")
        stream.flush()
        assert not (tmp_path / "x.bin").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    with pytest.raises(error), written_atomically(tmp_path / "x.bin") as stream:
        fill_and_raise(stream, error)
    assert (tmp_path / "x.bin").read_bytes() == b"old"
    assert names_in(tmp_path) == ["x.bin"]


def test_our_own_error_in_the_block_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError), written_atomically(tmp_path / "x.bin"):
        require_file(tmp_path / "missing")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(("owner", "function"), [(os, "fsync"), (Path, "replace"), (Path, "chmod")])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    monkeypatch.setattr(owner, function, failing_with(code))
    with pytest.raises(WriteError, match=os.strerror(code)), written_atomically(tmp_path / "x.bin") as stream:
        stream.write(b"new")
    assert (tmp_path / "x.bin").read_bytes() == b"old"
    assert names_in(tmp_path) == ["x.bin"]


def test_a_file_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(WriteError, match="cannot be written"), written_atomically(tmp_path / "x" / "y"):
        raise AssertionError
    assert names_in(tmp_path) == ["x"]


def test_a_file_in_place_of_a_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(WriteError, match="cannot be written"), written_atomically(tmp_path / "x"):
        pass
    assert names_in(tmp_path) == ["x"]


def test_a_written_folder_appears_whole(tmp_path: Path) -> None:
    with folder_written_atomically(tmp_path / "out" / "bundle") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("content")
        assert not (tmp_path / "out" / "bundle").exists()
    assert (tmp_path / "out" / "bundle" / "sub" / "x").read_text() == "content"
    assert names_in(tmp_path / "out") == ["bundle", "bundle/sub", "bundle/sub/x"]


def test_a_written_folder_takes_the_place_of_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with folder_written_atomically(tmp_path / "bundle") as folder:
        (folder / "x").touch()
    assert names_in(tmp_path) == ["bundle", "bundle/x"]


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").touch()
    with pytest.raises(WriteError, match="already exists"), folder_written_atomically(tmp_path / "bundle"):
        raise AssertionError
    assert names_in(tmp_path) == ["bundle", "bundle/mine"]


def test_a_file_in_the_place_of_a_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("mine")
    with pytest.raises(WriteError, match="already exists"), folder_written_atomically(tmp_path / "bundle"):
        raise AssertionError
    assert (tmp_path / "bundle").read_text() == "mine"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), folder_written_atomically(tmp_path / "bundle") as folder:
        touch_and_raise(folder / "x", error)
    assert names_in(tmp_path) == []


def test_our_own_error_while_filling_a_folder_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(InputError), folder_written_atomically(tmp_path / "bundle"):
        raise InputError(found="a", wanted="b", remedy="c")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(("owner", "function"), [(os, "fsync"), (Path, "replace"), (Path, "chmod")])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
) -> None:
    monkeypatch.setattr(owner, function, failing_with(code))
    with pytest.raises(WriteError, match=os.strerror(code)), folder_written_atomically(tmp_path / "bundle") as folder:
        (folder / "x").touch()
    assert names_in(tmp_path) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(WriteError, match="cannot be written"), folder_written_atomically(tmp_path / "x" / "y"):
        raise AssertionError
    assert names_in(tmp_path) == ["x"]


@in_one_folder
@given(value=st.dictionaries(st.text(), json_values, max_size=5))
def test_written_json_is_read_again(tmp_path: Path, value: dict[str, Any]) -> None:
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json", CardError) == value


def test_written_json_is_indented(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"größe": [1]})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "größe": [\n    1\n  ]\n}\n'


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[]", "a JSON list"),
        (b"1", "a JSON int"),
        (b"null", "a JSON NoneType"),
        (b'{"a": 1, "a": 1}', "the key 'a' occurs twice"),
        (b'{"x": [{"a": 1, "b": 2, "a": 3}]}', "the key 'a' occurs twice"),
        (b'{"a": NaN}', "the number NaN"),
        (b'{"a": Infinity}', "the number Infinity"),
        (b'{"a": -Infinity}', "the number -Infinity"),
        (b'{"a": 1e999}', "the number 1e999"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' * 200_000, "nested too deeply"),
        (b'{"a": "\xff"}', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
    ],
)
def test_anything_but_a_plain_json_object_is_refused(read: Read, content: bytes, found: str) -> None:
    with pytest.raises(CardError, match=f"x\\.json: {found}.*expected one JSON object in UTF-8"):
        read(content)


def test_an_oversize_json_file_is_refused(read: Read) -> None:
    with pytest.raises(CardError, match=f"more than {MAX_JSON_BYTES} bytes"):
        read(b"{}" + b" " * (MAX_JSON_BYTES - 1))


def test_the_largest_json_file_is_read(read: Read) -> None:
    assert read(b"{}" + b" " * (MAX_JSON_BYTES - 2)) == {}


@pytest.mark.parametrize("error", [CardError, ManifestError])
def test_the_caller_says_what_a_bad_json_file_raises(tmp_path: Path, error: type[CardError | ManifestError]) -> None:
    (tmp_path / "x.json").touch()
    with pytest.raises(error):
        read_json(tmp_path / "x.json", error)


@in_one_folder
@given(content=st.binary(max_size=40) | st.text('{}[]",:\\u0d8ef19-.NaIty\n ', max_size=40).map(str.encode))
def test_arbitrary_bytes_are_a_json_object_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    try:
        value = read_json(tmp_path / "x.json", CardError)
    except EdgePromptError:
        return
    assert value == json.loads(content)


@pytest.mark.parametrize("use", [opened_and_read, require_file, sha256_of, lambda path: read_json(path, CardError)])
@pytest.mark.parametrize("name", ["missing", "missing/x", "n" * 300, "file/x", ".", "folder"])
def test_a_path_that_is_not_a_file_is_named(tmp_path: Path, use: Callable[[Path], Any], name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingFileError, match="expected a file"):
        use(tmp_path / name)


@pytest.mark.parametrize(
    ("use", "module", "function"),
    [
        (sha256_of, Path, "open"),
        (lambda path: read_json(path, CardError), os, "open"),
        (lambda path: read_json(path, CardError), os, "read"),
    ],
)
def test_a_file_that_the_system_fails_to_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], Any], module: object, function: str
) -> None:
    (tmp_path / "x").touch()
    monkeypatch.setattr(module, function, failing_with(errno.EACCES))
    with pytest.raises(ReadError, match=r"x cannot be read \(Permission denied\)"):
        use(tmp_path / "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes in folders")
@pytest.mark.parametrize("use", [sha256_of, lambda path: read_json(path, CardError)])
def test_a_pipe_is_refused_without_waiting(tmp_path: Path, use: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(MissingFileError, match="not a regular file"):
        use(tmp_path / "x")


@pytest.mark.parametrize("read", [lambda path: read_json(path, CardError), read_npy, read_prompt])
def test_a_path_with_a_nul_is_no_file(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read(tmp_path / "a\0b.npy")


def test_a_short_read_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(1000)
    (tmp_path / "x").write_bytes(content)
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, count: read(descriptor, min(count, 300)))
    assert read_start(tmp_path / "x", 2000) == (content, 1000)
    assert read_start(tmp_path / "x", 700) == (content[:700], 1000)


def test_a_link_counts_as_a_file_only_inside_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    (tmp_path / "outside").touch()
    (folder / "inner").symlink_to("file")
    (folder / "outer").symlink_to(tmp_path / "outside")
    (folder / "inside").mkdir()
    here = stat_of(folder / "file")
    assert here is not None
    assert [stat_inside(folder / name) for name in ("file", "inner", "inside", "none")] == [here, here, None, None]
    with pytest.raises(UnsafePathError):
        stat_inside(folder / "outer")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["x", "model.onnx", "model.onnx_data", "prompts/a.npy", "A-b_c.1", "two words.npy"])
def test_a_plain_name_is_resolved(tmp_path: Path, name: str) -> None:
    assert resolve_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "/etc/passwd",
        "//host/share",
        "/",
        "..\\x",
        "a\\b",
        "C:\\x",
        "C:x",
        "~/x",
        ".hidden",
        "a/.hidden",
        "a\0b",
        "a\nb",
        "x\n",
        "http://host/x",
        "é",
        "a" * 128,
        "/".join(["a"] * 1000),
        "a/" * (MAX_NAME_LENGTH // 2) + "bb",
    ],
)
def test_a_path_that_is_not_plain_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePathError, match="expected a plain relative path"):
        resolve_inside(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x").touch()
    (folder / "file").symlink_to(tmp_path / "secret" / "x")
    (folder / "folder").symlink_to(tmp_path / "secret")
    for name in ("file", "folder", "folder/x", "folder/missing"):
        with pytest.raises(UnsafePathError):
            resolve_inside(folder, name)


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UnsafePathError):
        resolve_inside(tmp_path, "loop")


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "link").symlink_to("x")
    assert resolve_inside(tmp_path, "link") == tmp_path / "link"


def test_a_folder_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert resolve_inside(tmp_path / "link", "x") == tmp_path / "link" / "x"


@in_one_folder
@given(name=st.text() | st.lists(st.sampled_from(["..", ".", "a", "", "b.c", "~", "\\", "C:"])).map("/".join))
def test_no_name_ever_leaves_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir(exist_ok=True)
    try:
        path = resolve_inside(folder, name)
    except UnsafePathError:
        return
    resolved = Path(os.path.realpath(path))
    assert resolved != folder
    assert resolved.is_relative_to(folder)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than 1,000 bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(WriteError, match="File too large"), written_atomically(tmp_path / "x") as stream:
        stream.write(bytes(2000))
    assert (tmp_path / "x").read_text() == "old"
    assert names_in(tmp_path) == ["x"]


@pytest.mark.usefixtures("small_files")
def test_a_librarys_error_on_a_full_disk_becomes_the_systems(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=r"x cannot be written \(File too large"),
        folder_written_atomically(tmp_path / "x"),
    ):
        raise RuntimeError
    assert names_in(tmp_path) == []


def test_a_librarys_error_with_free_space_stays_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_written_atomically(tmp_path / "x"):
        raise ZeroDivisionError
    assert names_in(tmp_path) == []
