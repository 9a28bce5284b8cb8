"""Mutations of files that know the structure of what they change, so that readers get far into the file.

Each takes the bytes of a file and a random generator, and returns other bytes. No mutation keeps its target valid on
purpose, but it keeps the rest of the file valid, so that the fault is found where it is and not at the first checksum.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

from tests.fuzzing.json_trees import mutate_json

Mutation = Callable[[bytes, Random], bytes]

MOST_BYTES = 1 << 16
"""A larger input tells no more and takes longer."""

_INTS = (0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1)
_WIDE_INTS = (*_INTS, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Change bits, integers and pieces of a file of unknown structure."""
    if not content:
        return random.randbytes(random.randrange(1, 16))
    start = random.randrange(len(content))
    end = min(len(content), start + random.choice((1, 2, 4, 8, 64, len(content))))
    width = random.choice((1, 2, 4, 8))
    number = (random.choice(_WIDE_INTS) % 2 ** (8 * width)).to_bytes(width, random.choice(("little", "big")))
    flipped = bytes([content[start] ^ 1 << random.randrange(8)])
    return random.choice(
        (
            content[:start] + flipped + content[start + 1 :],
            content[:start] + number + content[start + width :],
            content[:start] + number + content[start:],
            content[:start] + content[end:],
            content[:end] + content[start:end] + content[end:],
            content[:start],
            content + random.randbytes(random.choice((1, 8, 300))),
            content[:start] + random.randbytes(end - start if end - start < 65 else 4) + content[end:],
        )
    )


_NPY_TOKENS = (
    "'<f4'", "'<f2'", "'<f8'", "'>f4'", "'|O'", "'<i4'", "'<c8'", "'<U3'", "'|V4'", "('<f4', (2,))", "[('a', '<f4')]",
    "True", "False", "None", "1", "0", "-1", "2147483648", "1e3", "10**9", "(", ")", ",", "()", "(1,)", "(2, 2)",
    "99999999999999999999", "'descr'", "'shape'", "'fortran_order'", "{", "}", "\n", "\\", "'\\x00'", "((" * 90,
    "9" * 4400, "-" * 900, "b'<f4'", "'<f4' '<f4'", "#", "é",
)  # fmt: skip


def mutate_npy(content: bytes, random: Random) -> bytes:
    """Change the version, the length, the text or the data of an NPY file."""
    if len(content) < 10 or random.random() < 0.2:
        return mutate_bytes(content, random)
    length = int.from_bytes(content[8:10], "little")
    header, data = content[10 : 10 + length].decode("latin1"), content[10 + length :]
    for _ in range(random.choice((0, 1, 1, 2))):
        tokens = re.findall(r"'[^']*'|\w+|\W", header) or [""]
        tokens[random.randrange(len(tokens))] = random.choice(_NPY_TOKENS)
        header = "".join(tokens)
    if random.random() < 0.3:
        data = mutate_bytes(data, random)
    if random.random() < 0.1:
        data = random.choice((b"\x00\x00\xc0\x7f", b"\x00\x7c", b"\xff" * 8)) + data[4:]
    text = header.encode("latin1", "replace")
    said = len(text) if random.random() < 0.9 else random.choice(_INTS)
    version = (1, 0) if random.random() < 0.8 else (random.randrange(5), random.randrange(2))
    field = (said % 2**16).to_bytes(2, "little") if version[0] == 1 else (said % 2**32).to_bytes(4, "little")
    return content[:6] + bytes(version) + field + text + data


_ZIP_SIGNATURES = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)")
_MEMBER_NAMES = (
    "weight.npy",
    "bias.npy",
    "0.npy",
    "../x.npy",
    "/etc/passwd",
    "weight",
    "",
    "a/weight.npy",
    "é.npy",
    "\0",
)


def zip_mutation(member: Mutation) -> Mutation:
    """Change members of a zip archive with the mutation for their format, and fields of its headers."""

    def mutate(content: bytes, random: Random) -> bytes:
        made = _rezipped(content, random, member) if random.random() < 0.7 else content
        return _other_fields(made, random) if random.random() < 0.4 else made

    return mutate


def _rezipped(content: bytes, random: Random, member: Mutation) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()[:20] if info.file_size < 1e6]
    except Exception:  # noqa: BLE001 - an earlier mutation broke it
        return mutate_bytes(content, random)
    if members:
        place = random.randrange(len(members))
        name, inside = members[place]
        members[place] = random.choice(
            ((name, member(inside, random)), (name, member(inside, random)), (random.choice(_MEMBER_NAMES), inside))
        )
        members += random.choice(([], [], [], [members[place]], [(f"{index}.npy", b"") for index in range(50)]))
        if random.random() < 0.05:
            members[place] = (name, inside[:200] + bytes(100_000))
    buffer = io.BytesIO()
    packed = random.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", packed) as archive:
        warnings.simplefilter("ignore")  # a repeated name
        for name, inside in members:
            archive.writestr(zipfile.ZipInfo(name), inside, packed)
    return buffer.getvalue()


def _other_fields(content: bytes, random: Random) -> bytes:
    starts = [found.start() for found in _ZIP_SIGNATURES.finditer(content)]
    if not starts:
        return mutate_bytes(content, random)
    changed = bytearray(content)
    for _ in range(random.randrange(1, 3)):
        place = random.choice(starts) + random.randrange(4, 46, 2)
        width = random.choice((2, 4))
        value = random.choice((*_INTS, *starts)) % 2 ** (8 * width)
        changed[place : place + width] = value.to_bytes(width, "little")
    return bytes(changed)


def mutate_safetensors(content: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file as JSON, its length, or the data."""
    length = int.from_bytes(content[:8], "little")
    if length > len(content) or random.random() < 0.1:
        return mutate_bytes(content, random)
    header, data = content[8 : 8 + length], content[8 + length :]
    if random.random() < 0.8:
        header = mutate_json(header, random)
    else:
        data = mutate_bytes(data, random)
    said = len(header) if random.random() < 0.9 else random.choice(_WIDE_INTS) % 2**64
    return said.to_bytes(8, "little") + header + data


def mutate_png(content: bytes, random: Random) -> bytes:
    """Change chunks of a PNG and correct the checksums; other images byte by byte."""
    if content[:4] != b"\x89PNG" or random.random() < 0.1:
        return mutate_bytes(content, random)
    chunks, place = [], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return mutate_bytes(content, random)
    chosen = random.randrange(len(chunks))
    kind, data = chunks[chosen]
    if kind == b"IDAT" and random.random() < 0.5:
        data = zlib.compress(mutate_bytes(_inflated(data), random))
    elif kind == b"IHDR" and random.random() < 0.7:
        size = [random.choice((1, 3, 9, 40)) for _ in range(2)]
        data = struct.pack(
            ">II5B", *size, random.choice((1, 2, 4, 8, 16)), random.randrange(8), 0, 0, random.randrange(2)
        )
    else:
        data = mutate_bytes(data, random)
    kind = random.choice(
        (kind, kind, kind, kind, b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fdAT")
    )
    chunks[chosen : chosen + random.randrange(2)] = [(kind, data)]
    return content[:8] + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    )


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MOST_BYTES)
    except zlib.error:
        return data


def mutate_text(words: Sequence[str]) -> Mutation:
    """Return a mutation of texts with words of their language."""

    def mutate(content: bytes, random: Random) -> bytes:
        if random.random() < 0.2:
            return mutate_bytes(content, random)
        tokens = re.findall(rb"\w+|\s+|[^\w\s]", content) or [b""]
        place, other = random.randrange(len(tokens)), random.randrange(len(tokens))
        word = random.choice(words).encode()
        chosen = random.randrange(5)
        if chosen == 0:
            tokens[place] = word
        elif chosen == 1:
            tokens.insert(place, word)
        elif chosen == 2:
            del tokens[place : place + random.randrange(1, 9)]
        elif chosen == 3:
            tokens[place:place] = tokens[other : other + random.randrange(1, 30)]
        else:
            tokens[place], tokens[other] = tokens[other], tokens[place]
        return b"".join(tokens)

    return mutate


mutate_xml = mutate_text(
    (
        "<!DOCTYPE net [<!ENTITY a 'b'>]>", "&a;", "&#65;", "&lt;", "<!-- -->", "<![CDATA[", "]]>",
        "<?x y?>", "<layers>",
        "</layers>", '<layer id="9" type="Const" version="opset1">', "</layer>", "<layer/>", "<data", 'offset="99999"',
        'size="-1"', "<body>", "</body>", "opset1", "extension", "opset99", "opset", "version", 'version="x"', "type",
        '"', "'", ">", "<", "/>", "=", "\0", "<a>" * 600, "weights_path", "path", "</net>", "<net>", "é", "\ufeff",
    )
)  # fmt: skip
"""Of an OpenVINO IR."""

mutate_template = mutate_text(
    (
        "{% for m in messages %}", "{% endfor %}", "{{ m.content }}", "{{ '' * 99999999 }}",
        "{% set x = x + x %}", "|join",
        "|replace('', 'aa')", "|tojson", "|string", "range(999999999)", "**", "9 ** 9 ** 9",
        "'%999999999d' % 1", ".__class__",
        "|attr('x')", ".format(1)", "{% macro a() %}", "{% endmacro %}", "{{ a() }}", "{% if", "{% else %}",
        "{% endif %}",
        "loop", "messages", "raise_exception('x')", "strftime_now('%Y')", "|list", "|batch(2)", "[0]",
        "[::-1]", "namespace()",
        "{%", "%}", "{{", "}}", "{#", "'", "|sort", "|map('upper')", "|indent(9999999)",
        "|center(999999999)", "caller()",
        ".split('')", "|wordwrap(1)", "|urlize", "|truncate(9)", "|xmlattr", "{% filter upper %}", "|sum",
        "~", "*", "9999999999",
        "in", "is", "not", "(", ")", "|groupby('role')", "|random", "|pprint", ".append(messages)",
        "lipsum(n=99999)", "cycler",
    )
)  # fmt: skip
"""Of a chat template."""


def mutate_wire(content: bytes, random: Random, depth: int = 0) -> bytes:
    """Change fields of a protobuf message and of those within it; lengths are corrected."""
    fields = _wire_fields(content)
    if not fields or depth > 12 or random.random() < 0.1:
        return mutate_bytes(content, random)
    place = random.randrange(len(fields))
    number, wire, value = fields[place]
    chosen = random.random()
    if chosen < 0.6 and wire == 2:
        texts = (
            b"custom.ops",
            b"com.microsoft",
            b"ai.onnx",
            b"",
            b"../x",
            b"/etc/passwd",
            b"a.bin",
            b"location",
            b"\xff",
        )
        value = random.choice(texts) if chosen < 0.2 else mutate_wire(value, random, depth + 1)
    elif chosen < 0.7:
        number = random.randrange(32)
    elif chosen < 0.8:
        fields.insert(random.randrange(len(fields) + 1), random.choice(fields))
    elif chosen < 0.85:
        value = _wrapped(value if wire == 2 else b"", random)
        wire = 2
    elif chosen < 0.9 and wire == 0:
        value = _varint(random.choice(_WIDE_INTS))
    else:
        del fields[place]
        return b"".join(_wire_bytes(*field) for field in fields)
    fields[place] = (number, wire, value)
    return b"".join(_wire_bytes(*field) for field in fields)


def _wrapped(value: bytes, random: Random) -> bytes:
    """Nest a message: a node with an attribute with a graph with a node, and so on."""
    for _ in range(random.choice((1, 2, 20, 60))):
        value = _wire_bytes(1, 2, _wire_bytes(5, 2, _wire_bytes(6, 2, value)))
    return value


def _wire_fields(content: bytes) -> list[tuple[int, int, bytes]]:
    """Return the fields of a message; none if it is not a message."""
    fields, place = [], 0
    while place < len(content):
        tag, place = _read_varint(content, place)
        start, wire = place, tag & 7
        if wire == 0:
            _, place = _read_varint(content, place)
        elif wire == 2:
            length, start = _read_varint(content, place)
            place = start + length
        else:
            place += {1: 8, 5: 4}.get(wire, len(content) + 1)
        if place > len(content) or not tag >> 3:
            return []
        fields.append((tag >> 3, wire, content[start:place]))
    return fields


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            return 2**64, len(content) + 1
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value, place


def _wire_bytes(number: int, wire: int, value: bytes) -> bytes:
    return _varint(number << 3 | wire) + (_varint(len(value)) if wire == 2 else b"") + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def folder_mutation(*mutations: Mutation) -> Mutation:
    """Change one of several files that are packed into one input, with the mutation for each."""

    def mutate(content: bytes, random: Random) -> bytes:
        parts = unpack(content, len(mutations))
        place = random.randrange(len(parts))
        parts[place] = mutations[place](parts[place], random)
        return pack(parts)

    return mutate


def pack(parts: Sequence[bytes]) -> bytes:
    """Pack several files into one input."""
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def unpack(content: bytes, count: int) -> list[bytes]:
    """Return as many files of an input as needed, whatever it contains."""
    parts, place = [], 0
    for _ in range(count):
        length = int.from_bytes(content[place : place + 4], "little")
        parts.append(content[place + 4 : place + 4 + length])
        place += 4 + length
    return parts
