"""Read training data of language models, prompts or chats with completions, from JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO

from edge_prompt.base.errors import TrainingDataError
from edge_prompt.storage.files import require_file
from edge_prompt_export.training.data import json_rows

ROLES = ("system", "user", "assistant", "tool")
"""The roles of chat messages; the last message is the assistant's."""


class Pair(NamedTuple):
    """A prompt, which is put into the template, and its completion."""

    prompt: str
    completion: str


class Chat(NamedTuple):
    """The messages of a chat, and the assistant's next message as the completion."""

    messages: tuple[Mapping[str, str], ...]
    completion: str


def is_of_language(path: Path) -> bool:
    """Whether the first row of `path` has a form that only language models read."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        first = next((line for line in stream if line.strip()), "")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and not {"text", "label"} & row.keys() and _form_of(row) != ""


def read_language(path: Path) -> list[Pair | Chat]:
    """Read the rows of a `.jsonl` file: all with `prompt` and `completion`, or all with `messages`.

    Raises:
        MissingFileError: The file does not exist.
        TrainingDataError: A row is malformed or differs in form from the first one (the message contains its line
            number), or there are no rows.
    """
    require_file(path)
    try:
        with path.open(encoding="utf-8-sig") as stream:
            rows = list(_rows(stream, path))
    except UnicodeDecodeError as error:
        raise TrainingDataError(
            found=f"{path} is not UTF-8 ({error})", wanted="UTF-8 text", remedy="convert the file"
        ) from error
    if not rows:
        raise TrainingDataError(found=f"{path} has no examples", wanted="at least one example", remedy="add examples")
    return rows


def _rows(stream: TextIO, path: Path) -> Iterator[Pair | Chat]:
    form = ""
    for number, row in json_rows(stream, path, _refuse_line):
        found = _form_of(row)
        form = form or found
        if not found or found != form:
            _refuse_line(path, number, f"the fields {', '.join(row) or 'none'} in a file of {form or 'no known'} rows")
        yield FORMS[form](row, path, number)


def _form_of(row: Mapping[str, Any]) -> str:
    """The key of `FORMS` whose fields a row has; empty if it has fields of no form or of two forms."""
    found = [form for form, fields in _FIELDS.items() if fields & row.keys()]
    return found[0] if len(found) == 1 else ""


def _pair(row: Mapping[str, Any], path: Path, number: int) -> Pair:
    return Pair(_text(row, "prompt", path, number), _text(row, "completion", path, number))


def _chat(row: Mapping[str, Any], path: Path, number: int) -> Chat:
    messages = row["messages"]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        _refuse_line(path, number, "'messages' is not a list of messages")
    for message in messages:
        if message.get("role") not in ROLES:
            _refuse_line(path, number, f"a message of the role {str(message.get('role'))[:40]!r}")
        _text(message, "content", path, number)
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        _refuse_line(path, number, "no completion, since the last of several messages is not the assistant's")
    cleaned = tuple({"role": message["role"], "content": message["content"]} for message in messages)
    return Chat(cleaned[:-1], cleaned[-1]["content"])


def _text(row: Mapping[str, Any], name: str, path: Path, number: int) -> str:
    value = row.get(name)
    if value is None:
        _refuse_line(path, number, f"no {name}")
    if not isinstance(value, str) or not value.strip():
        _refuse_line(path, number, f"{name!r} is {'empty' if isinstance(value, str) else type(value).__name__}")
    return value


FORMS: dict[str, Callable[[Mapping[str, Any], Path, int], Pair | Chat]] = {"prompt": _pair, "messages": _chat}
"""The readers of each form of rows; all rows of a file have the same form."""

_FIELDS = {"prompt": {"prompt", "completion"}, "messages": {"messages"}}


def _refuse_line(path: Path, number: int, found: str) -> NoReturn:
    raise TrainingDataError(
        found=f"{path}, line {number}: {found}",
        wanted="either the texts 'prompt' and 'completion' in every row, or in every row 'messages' whose last one is "
        "the assistant's",
        remedy="correct or remove that line",
    )
