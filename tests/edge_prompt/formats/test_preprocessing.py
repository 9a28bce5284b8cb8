from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.image_settings import MAX_EDGE, PAD_LAWS, RESAMPLES, RESIZE_LAWS, ImageSettings
from edge_prompt.formats.preprocessing import (
    ARRAY_DTYPES,
    LEAST_TOKENS,
    MODALITIES,
    ArrayInput,
    ArrayPreprocessing,
    ImagePreprocessing,
    LanguagePreprocessing,
    Preprocessing,
    TextPreprocessing,
    modality_of,
    preprocessing_as_json,
    read_preprocessing,
)
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.npy import MAX_RANK

HALF = (0.5, 0.5, 0.5)
SETTINGS = ImageSettings("shortest_edge", (256,), 1, 2, (224, 192), 1 / 255, HALF, HALF, "none", ())
TEXT = TextPreprocessing(48, 64, 200, 2, 0, "mean", normalize=True)
IMAGE = ImagePreprocessing(3, 224, 192, SETTINGS, "cls", normalize=False)
ARRAYS = ArrayPreprocessing({"a": ArrayInput("float32", (None, 3)), "b": ArrayInput("int64", (None,))})
LANGUAGE = LanguagePreprocessing(128, 200)
VALID: dict[str, Preprocessing] = {"text": TEXT, "language": LANGUAGE, "image": IMAGE, "arrays": ARRAYS}

texts = st.text(max_size=8)
counts = st.integers(0, 2**31 - 1)
some = st.integers(1, 2**31 - 1)
edges = st.integers(1, MAX_EDGE)
factors = st.floats(1e-6, 1e6)
colours = st.tuples(*[st.floats(-1e6, 1e6)] * 3)
deviations = st.tuples(*[factors] * 3)


@st.composite
def image_settings(draw: st.DrawFn) -> ImageSettings:
    resize, pad = draw(st.sampled_from(sorted(RESIZE_LAWS))), draw(st.sampled_from(sorted(PAD_LAWS)))
    return ImageSettings(
        resize=resize,
        size=tuple(draw(edges) for _ in range(RESIZE_LAWS[resize][0])),
        multiple=draw(st.integers(1, 64)),
        resample=draw(st.sampled_from(RESAMPLES)),
        crop_size=draw(st.just(()) | st.tuples(edges, edges)),
        rescale_factor=draw(factors),
        image_mean=draw(colours),
        image_std=draw(deviations),
        pad=pad,
        pad_size=tuple(draw(edges) for _ in range(PAD_LAWS[pad][0])),
    )


def produces_pixels(settings: ImageSettings) -> bool:
    """A size far below its multiple rounds to 0, which reading refuses."""
    return settings.fixed_size is None or min(settings.fixed_size) > 0


@st.composite
def image_preprocessings(draw: st.DrawFn) -> ImagePreprocessing:
    settings = draw(st.none() | image_settings().filter(produces_pixels))
    if settings is None:
        size: tuple[int | None, int | None] = draw(st.tuples(some, some) | st.just((None, None)))
        return ImagePreprocessing(draw(some), *size, None, draw(texts), draw(st.booleans()))
    height, width = settings.fixed_size or (None, None)
    return ImagePreprocessing(3, height, width, settings, draw(texts), draw(st.booleans()))


text_preprocessings = st.builds(
    TextPreprocessing,
    st.integers(LEAST_TOKENS, 2**31 - 1),
    st.none() | counts,
    some,
    some,
    counts,
    texts,
    st.booleans(),
)
shapes = st.lists(st.none() | some, max_size=MAX_RANK - 1).map(lambda lengths: (None, *lengths))
language_preprocessings = st.builds(LanguagePreprocessing, st.integers(LEAST_TOKENS, 2**31 - 1), some)
array_preprocessings = st.builds(
    ArrayPreprocessing,
    st.dictionaries(texts, st.builds(ArrayInput, st.sampled_from(ARRAY_DTYPES), shapes), min_size=1, max_size=3),
)


def read(value: Any) -> Preprocessing:
    return read_preprocessing(Fields({"preprocessing": value}, "x.json", ManifestError), "preprocessing")


@given(preprocessing=text_preprocessings | language_preprocessings | image_preprocessings() | array_preprocessings)
def test_written_preprocessing_is_read_again(preprocessing: Preprocessing) -> None:
    assert read(json.loads(json.dumps(preprocessing_as_json(preprocessing)))) == preprocessing


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_modality_follows_from_its_name(modality: str) -> None:
    assert modality_of(VALID[modality]) == modality
    assert preprocessing_as_json(VALID[modality])["modality"] == modality


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_input_has_a_dtype_and_those_needed_are_among_them(modality: str) -> None:
    preprocessing = VALID[modality]
    assert preprocessing.required_inputs <= set(preprocessing.input_names)
    assert {preprocessing.dtype_of(name) for name in preprocessing.input_names} <= set(ARRAY_DTYPES)


def edited(modality: str, edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(preprocessing_as_json(VALID[modality])))
    edit(value)
    return value


NEEDED = [
    *((modality, "modality") for modality in MODALITIES),
    *(("text", name) for name in TextPreprocessing.__dataclass_fields__ if name != "max_positions"),
    *(("image", name) for name in ("channels", "pooling", "normalize")),
    ("arrays", "inputs"),
]


@pytest.mark.parametrize(("modality", "name"), NEEDED)
def test_a_missing_field_is_named(modality: str, name: str) -> None:
    with pytest.raises(ManifestError, match=f"no field '{name}'"):
        read(edited(modality, lambda value: value.pop(name)))


@pytest.mark.parametrize(("modality", "name"), NEEDED)
@pytest.mark.parametrize("wrong", [None, 1.5])
def test_a_field_of_another_type_is_named(modality: str, name: str, wrong: object) -> None:
    with pytest.raises(ManifestError, match=f"'{name}' is {type(wrong).__name__}"):
        read(edited(modality, lambda value: value.update({name: wrong})))


@pytest.mark.parametrize("name", ImageSettings.__dataclass_fields__)
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(ManifestError, match=rf"x\.json: preprocessing: settings: no field '{name}'"):
        read(edited("image", lambda value: value["settings"].pop(name)))


def test_missing_optional_fields_are_none() -> None:
    text = read(edited("text", lambda value: value.pop("max_positions")))
    assert isinstance(text, TextPreprocessing)
    assert text.max_positions is None

    def strip(value: dict[str, Any]) -> None:
        for name in ("height", "width", "settings"):
            del value[name]

    assert read(edited("image", strip)) == ImagePreprocessing(3, None, None, None, "cls", normalize=False)


@pytest.mark.parametrize(
    ("modality", "edit", "found"),
    [
        (
            "text",
            {"modality": "sound"},
            "modality 'sound'; expected one of text, language, image, arrays. Install a newer",
        ),
        ("text", {"max_tokens": 2}, "'max_tokens' is 2"),
        ("text", {"max_tokens": True}, "'max_tokens' is bool"),
        ("text", {"max_positions": -1}, "'max_positions' is -1"),
        ("text", {"max_positions": "64"}, "'max_positions' is str"),
        ("text", {"vocab_size": 0}, "'vocab_size' is 0"),
        ("text", {"vocab_size": 2**31}, "'vocab_size' is 2147483648"),
        ("text", {"num_token_types": 0}, "'num_token_types' is 0"),
        ("text", {"pad_token_id": -1}, "'pad_token_id' is -1"),
        ("text", {"normalize": 1}, "'normalize' is int"),
        ("image", {"channels": 0}, "'channels' is 0"),
        ("image", {"height": 0}, "'height' is 0"),
        ("image", {"width": "192"}, "'width' is str"),
        ("image", {"height": None}, "only one of height and width"),
        ("image", {"width": None}, "only one of height and width"),
        ("image", {"settings": []}, "'settings' is list"),
        ("image", {"settings": {}}, "settings: no field"),
        ("image", {"normalize": 0}, "'normalize' is int"),
        (
            "image",
            {"channels": 1},
            r"settings that produce \[3, 224, 192\]; expected the declared channels, height and width \[1, 224, 192\]",
        ),
        ("image", {"height": 192, "width": 224}, r"settings that produce \[3, 224, 192\]"),
        ("image", {"height": None, "width": None}, r"height and width \[3, None, None\]"),
        ("arrays", {"inputs": {}}, "'inputs' is {}; expected at least one array"),
        ("arrays", {"inputs": []}, "'inputs' is list"),
        ("arrays", {"inputs": {"a": 3}}, "'a' is int"),
        ("arrays", {"inputs": {"a": {}}}, "inputs: a: no field"),
    ],
)
def test_malformed_preprocessing_is_refused(modality: str, edit: dict[str, Any], found: str) -> None:
    with pytest.raises(ManifestError, match=found):
        read(edited(modality, lambda value: value.update(edit)))


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        ({"resize": "stretch"}, "'resize' is 'stretch'"),
        ({"pad": "mirror"}, "'pad' is 'mirror'"),
        ({"size": [256, 256]}, r"'size' is \[256, 256\]; expected a list of 1 integers"),
        ({"size": [True]}, r"'size\[0\]' is bool"),
        ({"size": [0]}, "a size among"),
        ({"size": [MAX_EDGE + 1]}, "a size among"),
        ({"crop_size": [224]}, "'crop_size' is"),
        ({"pad_size": [1, 1]}, "'pad_size' is"),
        ({"multiple": 0}, "a size among"),
        ({"resample": 6}, "the filter 6"),
        ({"rescale_factor": 0}, "'rescale_factor' 0"),
        ({"rescale_factor": 10**400}, "'rescale_factor' is an integer of 401 digits"),
        ({"image_mean": [0, 0]}, "'image_mean' has 2 items; expected 3"),
        ({"image_std": [1, 1, 0]}, "'image_std'"),
        ({"image_std": ["1", 1, 1]}, r"'image_std\[0\]' is str"),
    ],
)
def test_malformed_settings_are_refused(edit: dict[str, Any], found: str) -> None:
    with pytest.raises(ManifestError, match=found):
        read(edited("image", lambda value: value["settings"].update(edit)))


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        ({"dtype": "float64"}, "'dtype' is 'float64'; expected one of float32, int64, bool"),
        ({"dtype": 1}, "'dtype' is int"),
        ({"shape": None}, "'shape' is NoneType"),
        ({"shape": []}, r"shape \[\]"),
        ({"shape": [2, 3]}, r"shape \[2, 3\]"),
        ({"shape": [None, 0]}, r"'shape\[1\]' is 0; expected a count from 1"),
        ({"shape": [None, -1]}, "shape"),
        ({"shape": [None, 2**31]}, "shape"),
        ({"shape": [None, True]}, "shape"),
        ({"shape": [None, 1.0]}, "shape"),
        ({"shape": [None, "free"]}, "shape"),
        ({"shape": [None] * (MAX_RANK + 1)}, f"expected 1 to {MAX_RANK} lengths"),
    ],
)
def test_a_malformed_array_is_refused(edit: dict[str, Any], found: str) -> None:
    with pytest.raises(ManifestError, match=rf"x\.json: preprocessing: inputs: a: .*{found}"):
        read(edited("arrays", lambda value: value["inputs"]["a"].update(edit)))
