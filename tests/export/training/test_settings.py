from __future__ import annotations

import pytest

from edge_prompt.base.errors import InputError
from edge_prompt_export.modalities.image.initialise import IMAGE_INITS
from edge_prompt_export.modalities.text.initialise import INITS as TEXT_INITS
from edge_prompt_export.training.settings import BATCH_SIZES, INITS, KINDS, LEARNING_RATES, VIRTUAL_TOKENS, TuneSettings


@pytest.mark.parametrize("modality", ["text", "language", "image"])
def test_defaults_come_from_modality_and_kind(modality: str) -> None:
    for kind, rate in LEARNING_RATES[modality].items():
        settings = TuneSettings(kind=kind).complete(modality)
        assert settings.learning_rate == rate
        assert settings.virtual_tokens == VIRTUAL_TOKENS[modality][kind]
        assert settings.init == INITS[modality]
        assert settings.batch_size == BATCH_SIZES[modality]
        assert settings.complete(modality) == settings


def test_given_settings_are_kept() -> None:
    asked = TuneSettings(kind="deep", virtual_tokens=3, learning_rate=0.5, init="random", head="own", batch_size=3)
    assert asked.complete("image") == asked


def test_starts_exist() -> None:
    assert INITS["text"] in TEXT_INITS
    assert INITS["language"] in TEXT_INITS
    assert INITS["image"] in IMAGE_INITS


def test_every_kind_has_its_defaults() -> None:
    for table in (LEARNING_RATES, VIRTUAL_TOKENS):
        assert set(table["image"]) == set(KINDS)
        assert set(table["text"]) == set(table["language"]) == {"soft", "prefix"}


@pytest.mark.parametrize(
    ("modality", "settings"),
    [
        ("text", TuneSettings(augment="move")),
        ("text", TuneSettings(pixel_form="patch")),
        ("text", TuneSettings(chat=True)),
        ("language", TuneSettings(head="linear")),
        ("language", TuneSettings(max_tokens=9)),
        ("image", TuneSettings(system="Be kind.")),
        ("image", TuneSettings(template="a photo of {text}")),
        ("image", TuneSettings(max_tokens=8)),
        ("image", TuneSettings(init_text="a")),
        ("image", TuneSettings(kind="pixel", virtual_tokens=4)),
    ],
)
def test_meaningless_settings_are_refused(modality: str, settings: TuneSettings) -> None:
    with pytest.raises(InputError, match="Leave these out"):
        settings.complete(modality)
