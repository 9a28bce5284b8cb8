from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_prompt.base.errors import BackboneError
from edge_prompt_export.backbone.backbone import LoadOptions
from edge_prompt_export.modalities.text import sentence_transformers
from edge_prompt_export.modalities.text.sentence_transformers import SentenceSettings, read_sentence_settings

ARGUMENTS = LoadOptions().arguments()


def write(folder: Path, name: str, value: Any) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def settings_of(folder: Path) -> SentenceSettings:
    return read_sentence_settings(str(folder), ARGUMENTS)


def test_a_plain_checkpoint_is_pooled_by_the_mean(tmp_path: Path) -> None:
    assert settings_of(tmp_path) == SentenceSettings(pooling="mean", max_tokens=None, normalize=False)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "cls_token"}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "cls_token+max_tokens"),
        ({"word_embedding_dimension": 384}, "mean"),
    ],
)
def test_pooling_is_what_its_file_says(tmp_path: Path, config: dict[str, Any], pooling: str) -> None:
    write(tmp_path, "1_Pooling/config.json", config)
    assert settings_of(tmp_path).pooling == pooling


@pytest.mark.parametrize(("config", "length"), [({"max_seq_length": 256}, 256), ({"max_seq_length": None}, None)])
def test_the_length_is_what_its_file_says(tmp_path: Path, config: dict[str, Any], length: int | None) -> None:
    write(tmp_path, "sentence_bert_config.json", config)
    assert settings_of(tmp_path).max_tokens == length


@pytest.mark.parametrize(
    ("types", "normalize"),
    [
        (["sentence_transformers.models.Transformer", "sentence_transformers.models.Normalize"], True),
        (["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"], False),
    ],
)
def test_embeddings_are_normalized_if_a_module_does_so(tmp_path: Path, types: list[str], normalize: bool) -> None:
    write(tmp_path, "modules.json", [{"idx": index, "type": name} for index, name in enumerate(types)])
    assert settings_of(tmp_path).normalize is normalize


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"])
def test_a_broken_file_is_refused_and_not_taken_for_absent(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, '{"pooling_mode_cls_token": tr')
    with pytest.raises(BackboneError, match=f"{name} is not JSON"):
        settings_of(tmp_path)


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"])
def test_json_of_another_form_says_nothing(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "[1, 2]")
    assert settings_of(tmp_path) == SentenceSettings(pooling="mean", max_tokens=None, normalize=False)


def test_files_of_the_working_folder_are_not_those_of_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode": "cls"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sentence_transformers, "cached_file", lambda *_args, **_others: None)
    assert read_sentence_settings("someone/encoder", ARGUMENTS).pooling == "mean"
