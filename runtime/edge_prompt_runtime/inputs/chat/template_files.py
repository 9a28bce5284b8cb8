"""Reads the chat template of a bundle, and the special tokens that it uses."""

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
"""The name of the default template, if a model has several."""

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Variables of a template that come from the tokenizer's configuration."""


def read_chat_template(bundle: Bundle, name: str = DEFAULT) -> ChatTemplate | None:
    """Read the chat template of a bundle from `chat_template.jinja`, or else from `tokenizer_config.json`.

    Args:
        bundle: The bundle.
        name: Name of the template, if the configuration has several.

    Returns:
        The template; None if the bundle has none.

    Raises:
        ManifestError: A file is malformed, missing or altered.
        ChatTemplateError: No template has that name, or the template is too long or not text.
    """
    return chat_template_of(bundle.file(TEMPLATE_NAME), bundle.file(CONFIG_NAME), name)


def chat_template_of(template: Path | None, config: Path | None, name: str = DEFAULT) -> ChatTemplate | None:
    """Like `read_chat_template`, but given the two files; None for a file that does not exist."""
    fields = Fields({} if config is None else read_json(config, ManifestError), str(config), ManifestError)
    source = _configured(fields, name) if template is None else _read(template)
    return None if source is None else ChatTemplate(source, _special_tokens(fields))


def _read(path: Path) -> str:
    content, _ = read_start(path, 4 * MAX_SOURCE_CHARACTERS + 1)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ChatTemplateError(
            found=f"{path} is not UTF-8", wanted="a Jinja template", remedy="restore the file"
        ) from error


def _configured(config: Fields, name: str) -> str | None:
    """The only template, or the one called `name`."""
    found = config.value.get("chat_template")
    if found is None or isinstance(found, str):
        return found
    entries = [_entry(config, entry) for entry in config.take("chat_template", list)]
    by_name = {entry.take("name", str): entry.take("template", str) for entry in entries}
    if name not in by_name:
        raise ChatTemplateError(
            found=f"{config.where} has no chat template {name!r}",
            wanted=f"one of {', '.join(map(repr, by_name)) or 'its templates (there are none)'}",
            remedy="use the name of one of these templates",
        )
    return by_name[name]


def _entry(config: Fields, entry: Any) -> Fields:
    if not isinstance(entry, Mapping):
        config.refuse(
            "'chat_template' contains an item that is not an object", "a list of objects with 'name' and 'template'"
        )
    return Fields(entry, f"{config.where}: chat_template", config.error)


def _special_tokens(config: Fields) -> dict[str, str]:
    """The special tokens: each is a string, or an object with the string as `content`."""
    tokens = {}
    for name in SPECIAL_TOKENS:
        found = config.value.get(name)
        if found is not None:
            tokens[name] = (
                config.inside(name).take("content", str) if isinstance(found, dict) else config.take(name, str)
            )
    return tokens
