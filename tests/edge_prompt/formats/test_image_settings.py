from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.image_transforms import get_resize_output_image_size, get_size_with_aspect_ratio
from transformers.image_utils import get_image_size_for_max_height_width
from transformers.models.dpt.image_processing_pil_dpt import get_resize_output_image_size as size_of_dpt
from transformers.models.yolos.image_processing_pil_yolos import get_size_with_aspect_ratio_yolos

from edge_prompt.base.errors import EdgePromptError, InputError, ManifestError
from edge_prompt.formats.image_settings import (
    MAX_EDGE,
    MAX_PIXELS,
    PAD_LAWS,
    RESIZE_LAWS,
    ImageSettings,
    output_size,
    resized_size,
)
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.records import read_record

PLAIN: dict[str, Any] = {
    "resize": "exact",
    "size": [30, 40],
    "multiple": 1,
    "resample": 2,
    "crop_size": [],
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.25, 0],
    "image_std": [0.5, 0.5, 1],
    "pad": "none",
    "pad_size": [],
}


def read(**changes: Any) -> ImageSettings:
    return read_record(ImageSettings, Fields({**PLAIN, **changes}, "edge_prompt.json: image", ManifestError))


def with_size(shape: tuple[int, int]) -> Any:
    """An array `[3, height, width]` that takes no memory."""
    return np.broadcast_to(np.uint8(0), (3, *shape))


def dpt(keep: bool) -> Callable[..., Any]:
    def size(shape: tuple[int, int], height: int, width: int, multiple: int) -> Any:
        found = size_of_dpt(with_size(shape), (height, width), keep, multiple)
        return found["height"], found["width"]

    return size


LAWS_OF_TRANSFORMERS: dict[str, Callable[..., Any]] = {
    "none": lambda shape, _: shape,
    "exact": lambda shape, height, width, _: (height, width),
    "shortest_edge": lambda shape, edge, _: get_resize_output_image_size(
        with_size(shape), edge, default_to_square=False, input_data_format="channels_first"
    ),
    "two_edges": lambda shape, shortest, longest, _: get_size_with_aspect_ratio(shape, shortest, longest),
    "two_edges_of_16": lambda shape, shortest, longest, _: get_size_with_aspect_ratio_yolos(shape, shortest, longest),
    "within": lambda shape, height, width, _: get_image_size_for_max_height_width(shape, height, width),
    "multiples": dpt(keep=False),
    "multiples_keeping_aspect": dpt(keep=True),
}

EDGES = st.integers(1, 1500) | st.integers(1, 40)


@pytest.mark.parametrize("law", RESIZE_LAWS)
@given(data=st.data())
def test_resize_rules_equal_transformers(law: str, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(EDGES, EDGES), "height and width")
    size = data.draw(st.lists(EDGES, min_size=RESIZE_LAWS[law][0], max_size=RESIZE_LAWS[law][0]), "size")
    if data.draw(st.booleans(), "one edge is right already"):
        size[:1] = [min(shape)][: len(size)]
    multiple = data.draw(st.integers(1, 64), "multiple")
    settings = read(resize=law, size=size, multiple=multiple)
    expected = tuple(LAWS_OF_TRANSFORMERS[law](shape, *size, multiple))
    try:
        found = resized_size(settings, *shape)
    except InputError:
        assert min(expected) == 0 or expected[0] * expected[1] > MAX_PIXELS
    else:
        assert found == expected
        assert settings.fixed_size in {None, found}


@pytest.mark.parametrize(
    ("changes", "shape", "expected"),
    [
        # the longest edge limits a portrait whose shorter edge is already right, but not a landscape
        ({"resize": "two_edges_of_16", "size": [200, 319]}, (320, 160), (304, 160)),
        ({"resize": "two_edges_of_16", "size": [200, 319]}, (160, 320), (160, 320)),
        ({"resize": "two_edges", "size": [200, 319]}, (320, 160), (320, 160)),
        # if both factors are equally near to 1, the height's is used
        ({"resize": "multiples_keeping_aspect", "size": [150, 50]}, (100, 100), (150, 150)),
    ],
)
def test_edge_cases_of_resize_rules_equal_transformers(
    changes: dict[str, Any], shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    settings = read(**changes)
    assert resized_size(settings, *shape) == expected
    assert tuple(LAWS_OF_TRANSFORMERS[settings.resize](shape, *settings.size, 1)) == expected


@given(data=st.data())
def test_a_fixed_size_is_that_of_every_image(data: st.DataObject) -> None:
    resize = data.draw(st.sampled_from(["exact", "multiples", "shortest_edge"]))
    pad = data.draw(st.sampled_from(sorted(PAD_LAWS)))
    lengths = st.integers(1, 60)
    settings = read(
        resize=resize,
        size=data.draw(st.lists(lengths, min_size=RESIZE_LAWS[resize][0], max_size=RESIZE_LAWS[resize][0])),
        multiple=data.draw(st.integers(1, 20)),
        crop_size=data.draw(st.just([]) | st.lists(lengths, min_size=2, max_size=2)),
        pad=pad,
        pad_size=data.draw(st.lists(lengths, min_size=PAD_LAWS[pad][0], max_size=PAD_LAWS[pad][0])),
    )
    sizes = set()
    for _ in range(3):
        try:
            sizes.add(output_size(settings, data.draw(EDGES), data.draw(EDGES)))
        except InputError:
            continue
    if settings.fixed_size is not None:
        assert sizes <= {settings.fixed_size}


def test_the_size_of_multiples_is_not_fixed_where_the_last_bit_decides() -> None:
    settings = read(resize="multiples", size=[35, 28], multiple=14)  # 35 is 2.5 times 14
    assert settings.fixed_size is None
    assert len({output_size(settings, height, 28) for height in range(1, 4000)}) == 2
    assert read(resize="multiples", size=[36, 28], multiple=14).fixed_size == (42, 28)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (30, 40)),
        ({"crop_size": [7, 8]}, (7, 8)),
        ({"crop_size": [7, 8], "pad": "exact", "pad_size": [9, 10]}, (9, 10)),
        ({"resize": "shortest_edge", "size": [20], "pad": "exact", "pad_size": [40, 50]}, (40, 50)),
        ({"pad": "divisor", "pad_size": [32]}, (32, 64)),
        ({"pad": "batch"}, (30, 40)),
        ({"resize": "shortest_edge", "size": [20]}, None),
        ({"resize": "none", "size": [], "pad": "divisor", "pad_size": [32]}, None),
    ],
)
def test_the_size_that_every_image_gets_is_known(changes: dict[str, Any], size: tuple[int, int] | None) -> None:
    settings = read(**changes)
    assert settings.fixed_size == size
    assert size is None or output_size(settings, 11, 12) == size


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4), (9460, 9460)])
def test_an_image_without_pixels_or_with_too_many_has_no_size(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"an image of height {size[0]} and width {size[1]}; expected 1 to 89478485"):
        output_size(read(), *size)


def test_an_image_that_padding_makes_too_large_is_refused() -> None:
    with pytest.raises(InputError, match="padded to 8192 and 16384"):
        output_size(read(resize="none", size=[], pad="divisor", pad_size=[8192]), 8000, 8193)


def test_settings_are_hashable_and_typed() -> None:
    settings = read()
    assert hash(settings) == hash(read())
    assert settings.image_mean == (0.5, 0.25, 0.0)
    assert all(type(number) is float for number in (*settings.image_mean, *settings.image_std))
    assert json.loads(json.dumps(asdict(settings))) == PLAIN


@pytest.mark.parametrize("name", PLAIN)
def test_every_field_must_be_there(name: str) -> None:
    value = {key: value for key, value in PLAIN.items() if key != name}
    with pytest.raises(ManifestError, match=f"edge_prompt.json: image: no field '{name}'"):
        read_record(ImageSettings, Fields(value, "edge_prompt.json: image", ManifestError))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"resize": "largest"}, "'resize' is 'largest'; expected one of none, exact"),
        ({"pad": "mirror"}, "'pad' is 'mirror'; expected one of none, batch"),
        ({"size": [30]}, r"'size' is \[30\]; expected a list of 2 integers"),
        ({"size": [30, 40.0]}, r"'size\[1\]' is float"),
        ({"size": [30, True]}, r"'size\[1\]' is bool"),
        ({"size": [30, 0]}, "a size among .* expected sizes from 1 to 8192"),
        ({"size": [30, MAX_EDGE + 1]}, "a size among .*8193"),
        ({"crop_size": [30]}, r"'crop_size' is \[30\]"),
        ({"crop_size": [30, -1]}, "a size among .*-1"),
        ({"pad_size": [3]}, r"'pad_size' is \[3\]; expected a list of 0 integers"),
        ({"pad": "divisor", "pad_size": [0]}, "a size among"),
        ({"multiple": 0}, "a size among"),
        ({"multiple": 10**400}, "a size among"),
        ({"resample": 6}, "the filter 6; expected Pillow's number of a filter, 0 to 5"),
        ({"resample": -1}, "the filter -1"),
        ({"rescale_factor": 0}, "'rescale_factor' 0.0"),
        ({"rescale_factor": -1.0}, "'rescale_factor' -1.0"),
        ({"rescale_factor": float("nan")}, "'rescale_factor' nan"),
        ({"rescale_factor": 10**400}, "'rescale_factor' is an integer of 401 digits"),
        ({"rescale_factor": True}, "'rescale_factor' is bool"),
        ({"image_std": [0, 1, 1]}, r".* and 'image_std' \(0\.0, 1\.0, 1\.0\)"),
        ({"image_std": [-1, 1, 1]}, r".* and 'image_std' \(-1\.0"),
        ({"image_mean": [0, 0]}, "'image_mean' has 2 items; expected 3"),
        ({"image_mean": [0, 0, None]}, r"'image_mean\[2\]' is NoneType"),
        ({"image_mean": [0, 0, False]}, r"'image_mean\[2\]' is bool"),
        ({"image_mean": [0, 0, 1e7]}, r"'image_mean\[2\]' is 10000000\.0; expected a number from -1e\+06 to 1e\+06"),
        ({"image_mean": [0, 0, float("inf")]}, r"'image_mean\[2\]' is inf"),
        ({"image_mean": [0, 0, 10**400]}, r"'image_mean\[2\]' is an integer of 401 digits"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(ManifestError, match=f"^edge_prompt.json: image: {found}"):
        read(**changes)


WORDS = st.sampled_from([*RESIZE_LAWS, *PAD_LAWS, "", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PLAIN, "height"]), inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(list(PLAIN)), JSON, max_size=4))
def test_any_object_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        settings = read(**changes)
    except EdgePromptError as error:
        assert isinstance(error, ManifestError)  # noqa: PT017
    else:
        assert (
            read_record(ImageSettings, Fields(json.loads(json.dumps(asdict(settings))), "", ManifestError)) == settings
        )
