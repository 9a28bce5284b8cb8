"""The chat template that a bundle brings, and the special tokens that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import ChatTemplateError, ManifestError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.storage.files import read_json, read_start
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt_runtime.inputs.chat.template import MAX_SOURCE_CHARACTERS, ChatTemplate

TEMPLATE_NAME = "chat_template.jinja"
CONFIG_NAME = "tokenizer_config.json"

DEFAULT = "default"
"""The one that is meant where a model has several templates by name."""

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The variables of a template that the tokenizer's configuration gives."""


def read_chat_template(bundle: Bundle, name: str = DEFAULT) -> ChatTemplate | None:
    """The chat template of a bundle: `chat_template.jinja`, or else what `tokenizer_config.json` has.

    Args:
        bundle: The bundle.
        name: Which one, where the configuration has several by name.

    Returns:
        The template; None if the bundle has none.

    Raises:
        ManifestError: A file is malformed, missing or altered.
        ChatTemplateError: There are templates, and none of that name, or one is too long or no text.
    """
    return chat_template_of(bundle.file(TEMPLATE_NAME), bundle.file(CONFIG_NAME), name)


def chat_template_of(template: Path | None, config: Path | None, name: str = DEFAULT) -> ChatTemplate | None:
    """The same, of the files by themselves; None for one that is not there."""
    fields = Fields({} if config is None else read_json(config, ManifestError), str(config), ManifestError)
    source = _configured(fields, name) if template is None else _read(template)
    return None if source is None else ChatTemplate(source, _special_tokens(fields))


def _read(path: Path) -> str:
    content, _ = read_start(path, 4 * MAX_SOURCE_CHARACTERS + 1)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ChatTemplateError(
            found=f"{path} is no UTF-8", wanted="a Jinja template", remedy="restore the file"
        ) from error


def _configured(config: Fields, name: str) -> str | None:
    """One template, or the one of that name."""
    found = config.value.get("chat_template")
    if found is None or isinstance(found, str):
        return found
    entries = [_entry(config, entry) for entry in config.take("chat_template", list)]
    by_name = {entry.take("name", str): entry.take("template", str) for entry in entries}
    if name not in by_name:
        raise ChatTemplateError(
            found=f"{config.where} has no chat template {name!r}",
            wanted=f"one of {', '.join(map(repr, by_name)) or 'those there (there are none)'}",
            remedy="ask for one of them by name",
        )
    return by_name[name]


def _entry(config: Fields, entry: Any) -> Fields:
    if not isinstance(entry, Mapping):
        config.refuse("'chat_template' holds more than objects", "a list of objects with 'name' and 'template'")
    return Fields(entry, f"{config.where}: chat_template", config.error)


def _special_tokens(config: Fields) -> dict[str, str]:
    """Each is a string, or an object with its `content`."""
    tokens = {}
    for name in SPECIAL_TOKENS:
        found = config.value.get(name)
        if found is not None:
            tokens[name] = (
                config.inside(name).take("content", str) if isinstance(found, dict) else config.take(name, str)
            )
    return tokens
