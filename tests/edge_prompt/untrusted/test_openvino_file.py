from __future__ import annotations

from pathlib import Path

import pytest

from edge_prompt.base.errors import ManifestError
from edge_prompt.untrusted.openvino_file import MAX_DEPTH, require_known_ir, require_known_net
from tests.fuzzing.seeds import openvino_nets

PLAIN, NESTED, OTHER = openvino_nets()


def check(content: bytes) -> None:
    require_known_net(content, "x.xml", 16)


@pytest.mark.parametrize("content", [PLAIN, NESTED, OTHER], ids=["plain", "nested", "in other words"])
def test_an_ir_as_export_writes_it_is_taken(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_bytes(content)
    require_known_ir(tmp_path / "x.xml", 16)  # raises nothing


@pytest.mark.parametrize(
    "version", [b"extension", b"opset", b"opset0", b"opset100", b"Opset1", b"", b"opset1 ", b"&#111;pset1"]
)
@pytest.mark.parametrize("content", [PLAIN, NESTED, OTHER], ids=["plain", "nested", "in other words"])
def test_an_operator_of_no_opset_is_refused(content: bytes, version: bytes) -> None:
    changed = content.replace(b'type="Const" version="opset1"', b'type="Const" version="%b"' % version)
    changed = changed.replace(b"version='opset1' id='1'", b"version='%b' id='1'" % version)
    assert changed != content
    with pytest.raises(ManifestError, match="the operator 'Const' of"):
        check(changed)


def test_an_operator_without_a_version_is_refused() -> None:
    with pytest.raises(ManifestError, match="the operator 'Const' of ''"):
        check(PLAIN.replace(b'type="Const" version="opset1"', b'type="Const"'))


def test_a_version_within_another_attribute_does_not_count() -> None:
    hiding = b"""name=' type="Const" version="opset1" ' type="Const" version="extension\""""
    with pytest.raises(ManifestError, match="'extension'"):
        check(PLAIN.replace(b'name="w" type="Const" version="opset1"', hiding))


@pytest.mark.parametrize(
    "place",
    [
        b'offset="1" size="16"',
        b'offset="17" size="0"',
        b'offset="-1" size="1"',
        b"offset='9' size='8'",
        b'offset="18446744073709551608" size="16"',
        b'size="17" offset="0"',
        b'offset="" size=""',
        b'offset="0x1" size="1"',
    ],
)
@pytest.mark.parametrize("content", [PLAIN, NESTED, OTHER], ids=["plain", "nested", "in other words"])
def test_weights_beyond_the_end_of_their_file_are_refused(content: bytes, place: bytes) -> None:
    with pytest.raises(ManifestError, match="weights"):
        check(content.replace(b'offset="0" size="16"', place))


HOSTILE: dict[str, bytes] = {
    "a declaration": PLAIN.replace(b"<net", b'<!DOCTYPE net [<!ENTITY a "b">]><net', 1),
    "an entity from elsewhere": PLAIN.replace(
        b"<net", b'<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]><net', 1
    ),
    "a comment": PLAIN.replace(b"<layers>", b"<layers><!-- -->"),
    "characters": PLAIN.replace(b"<layers>", b"<layers><![CDATA[]]>"),
    "an instruction": PLAIN.replace(b"<layers>", b"<layers><?x y?>"),
    "an unknown entity": PLAIN.replace(b"?,4", b"&x;"),
    "another encoding": PLAIN.decode().encode("utf-16"),
    "no UTF-8": PLAIN.replace(b"?,4", b"\xff"),
    "half a file": PLAIN[: len(PLAIN) // 2],
    "two roots": PLAIN + PLAIN[PLAIN.index(b"<net") :],
    "an attribute twice": PLAIN.replace(b'type="Const"', b'type="Const" type="Const"'),
    "less than in a text": PLAIN.replace(b"?,4", b"<a>"),
    "another root": PLAIN.replace(b"<net", b"<nets").replace(b"</net>", b"</nets>"),
    "nothing": b"",
    "NUL": PLAIN.replace(b"?,4", b"\0"),
    "a file of weights": PLAIN.replace(b"<edge_prompt>", b'<__weights_path value="/etc/passwd"/><edge_prompt>'),
    "elements without end": b"<net>" + b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"</net>",
    "the same, with > in texts": b"<net>" + b"<a b='>'>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"</net>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_plain_ir_is_refused(name: str) -> None:
    with pytest.raises(ManifestError):
        check(HOSTILE[name])


@pytest.mark.parametrize("element", [b"<a/>", b"<a></a>", b"<a b='>'/>", b"<a b='/>'/>"])
def test_many_siblings_are_not_deep(element: bytes) -> None:
    check(b"<net>" + element * 30_000 + b"</net>")


def test_depth_is_counted_across_blocks() -> None:
    beside = b"<b/>" * 5000
    check(b"<net>" + (b"<a>" + beside) * 60 + b"</a>" * 60 + b"</net>")
    with pytest.raises(ManifestError, match="elements nested more than"):
        check(b"<net>" + (b"<a>" + beside) * 65 + b"</a>" * 65 + b"</net>")


def test_a_file_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_prompt.untrusted.openvino_file.MAX_IR_BYTES", len(PLAIN))
    check(PLAIN)
    with pytest.raises(ManifestError, match="more than"):
        check(PLAIN + b" ")
