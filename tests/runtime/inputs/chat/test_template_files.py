from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_prompt.base.errors import ChatTemplateError, ManifestError
from edge_prompt_runtime.inputs.chat import ChatTemplate
from edge_prompt_runtime.inputs.chat.template_files import CONFIG_NAME, DEFAULT, TEMPLATE_NAME, chat_template_of

MESSAGES = [{"role": "user", "content": "x"}]


def read(folder: Path, config: dict[str, Any] | None, template: str | bytes | None = None, name: str = DEFAULT) -> Any:
    template_file, config_file = folder / TEMPLATE_NAME, folder / CONFIG_NAME
    if template is not None:
        template_file.write_bytes(template if isinstance(template, bytes) else template.encode())
    if config is not None:
        config_file.write_text(json.dumps(config), encoding="utf-8")
    given = [path if path.exists() else None for path in (template_file, config_file)]
    return chat_template_of(given[0], given[1], name)


def test_a_bundle_without_one_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, None) is None
    assert read(tmp_path, {"bos_token": "<s>"}) is None


def test_a_template_is_read_from_the_configuration(tmp_path: Path) -> None:
    template = read(tmp_path, {"chat_template": "a{{ bos_token }}"})
    assert isinstance(template, ChatTemplate)
    assert template.render(MESSAGES) == "a"


def test_a_file_of_its_own_goes_before_the_configuration(tmp_path: Path) -> None:
    template = read(tmp_path, {"chat_template": "old", "bos_token": "<s>"}, "é{{ bos_token }}\n")
    assert template.render(MESSAGES) == "é<s>"
    assert read(tmp_path, None, "alone").render(MESSAGES) == "alone"


def test_special_tokens_are_strings_or_objects_with_a_content(tmp_path: Path) -> None:
    config = {
        "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False},
        "eos_token": "</s>",
        "pad_token": None,
        "additional_special_tokens": ["<x>"],
    }
    template = read(tmp_path, config, "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}")
    assert template.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert template.render(MESSAGES) == "<s></s>False"


def test_one_of_several_templates_is_taken_by_name(tmp_path: Path) -> None:
    config = {"chat_template": [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]}
    assert read(tmp_path, config).source == "one"
    assert read(tmp_path, config, name="tool_use").source == "two"
    with pytest.raises(ChatTemplateError, match="no chat template 'rag'; expected one of 'default', 'tool_use'"):
        read(tmp_path, config, name="rag")


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": 3},
        {"chat_template": ["x"]},
        {"chat_template": [{"name": "default"}]},
        {"chat_template": "x", "bos_token": 3},
        {"chat_template": "x", "bos_token": {"content": 3}},
    ],
)
def test_a_malformed_configuration_is_refused_by_its_name(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=CONFIG_NAME):
        read(tmp_path, config)


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChatTemplateError, match="not UTF-8"):
        read(tmp_path, None, b"\xff\xfe")


def test_a_template_of_megabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ChatTemplateError, match="at most"):
        read(tmp_path, None, b"x" * (8 << 20))
