from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_prompt.base.errors import InputError
from edge_prompt.formats.kinds import fits
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.image.examples import ImageExamples
from edge_prompt_export.modalities.image.initialise import IMAGE_INITS, prompt_of_images
from edge_prompt_export.modalities.image.network import ConditionedVision

Pictures = Callable[[int], ImageExamples]
Start = Callable[..., Tensor]

SLOTS = 17
"""Of an image of 32 x 32: patches of 8 x 8, and the class token."""


@pytest.fixture
def pictures(loaded_vision: LoadedBackbone) -> Pictures:
    """Random training images; a seed makes them always the same."""
    preprocessing = loaded_vision.preprocessing
    assert isinstance(preprocessing, ImagePreprocessing)
    assert preprocessing.settings is not None
    settings = preprocessing.settings
    images = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3), np.uint8)
    return lambda count: ImageExamples(list(images[:count]), [0] * count, settings, "none", seed=0)


@pytest.fixture
def prompt_for(trained_vision: ConditionedVision, pictures: Pictures) -> Start:
    """The initial prompt: `prompt_for("soft", images=5)`."""

    def start(kind: str, init: str = "training-image", *, images: int = 5, tokens: int = 6, seed: int = 0) -> Tensor:
        return prompt_of_images(kind, init, trained_vision, pictures(images), tokens, seed)

    return start


def pixel_values_of(images: ImageExamples) -> Tensor:
    """All images, `[count, 3, 32, 32]`."""
    return next(images.ordered(len(images))).request["pixel_values"]


def rows_among(rows: Tensor, states: Tensor) -> bool:
    """Whether each of `rows [count, size]` is one of `states [..., size]`."""
    distances = (rows[:, None] - states.reshape(1, -1, states.shape[-1])).abs().amax(2)
    return bool((distances.amin(1) < 1e-5).all())


@pytest.mark.parametrize("init", IMAGE_INITS)
@pytest.mark.parametrize("kind", ["soft", "deep", "prefix", "pixel"])
@pytest.mark.parametrize("tokens", [1, 6, 2 * SLOTS + 1])
def test_a_prompt_has_the_shape_of_its_kind(
    trained_vision: ConditionedVision, prompt_for: Start, kind: str, init: str, tokens: int
) -> None:
    prompt = prompt_for(kind, init, images=1, tokens=tokens)
    assert fits(prompt.shape, trained_vision.kinds[kind])
    assert kind == "pixel" or prompt.shape[trained_vision.kinds[kind].index(None)] == tokens
    assert prompt.dtype == torch.float32
    assert prompt.isfinite().all()
    assert not prompt.requires_grad


def test_virtual_tokens_start_as_hidden_states_of_training_images(
    trained_vision: ConditionedVision, prompt_for: Start, pictures: Pictures
) -> None:
    hidden, _ = trained_vision.layer_states(pixel_values_of(pictures(5)))
    assert rows_among(prompt_for("soft"), hidden[0])
    deep = prompt_for("deep")
    assert all(rows_among(tokens, states) for tokens, states in zip(deep, hidden, strict=True))
    assert not rows_among(deep[1], hidden[0])


def test_a_prefix_starts_as_keys_and_values_of_training_images(
    trained_vision: ConditionedVision, prompt_for: Start, pictures: Pictures
) -> None:
    _, keys_and_values = trained_vision.layer_states(pixel_values_of(pictures(5)))
    prefix = prompt_for("prefix")
    for layer, states in zip(prefix, keys_and_values, strict=True):
        for part in (0, 1):
            for head in range(prefix.shape[2]):
                assert rows_among(layer[part, head], states[part, :, head])


@pytest.mark.parametrize("kind", ["soft", "deep", "prefix"])
def test_a_prompt_of_an_images_own_keys_and_values_has_no_effect_on_it(
    trained_vision: ConditionedVision, prompt_for: Start, pictures: Pictures, kind: str
) -> None:
    """Attention to everything twice is attention to it once, so keys and values, heads and layers are all in place."""
    prompt = prompt_for(kind, images=1, tokens=SLOTS)
    one, other = pixel_values_of(pictures(1)), pixel_values_of(pictures(2))[1:]
    for images, same in ((one, True), (other, False)):
        request = {"pixel_values": images}
        found, wanted = trained_vision.prompted_outputs(request, kind, prompt), trained_vision.original_outputs(request)
        for name in trained_vision.output_names:
            assert torch.allclose(found[name], wanted[name], atol=1e-4) is same


@pytest.mark.parametrize("init", IMAGE_INITS)
@pytest.mark.parametrize("kind", ["soft", "deep", "prefix"])
def test_a_seed_gives_the_same_start(prompt_for: Start, kind: str, init: str) -> None:
    first, second, other = (prompt_for(kind, init, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["soft", "deep", "prefix"])
def test_at_random_it_is_uniform_within_the_published_bound(prompt_for: Start, kind: str) -> None:
    prompt = prompt_for(kind, "random", tokens=50)
    bound = math.sqrt(6 / (3 * 16 * 16 + 32))
    assert 0.95 * bound < prompt.abs().max() <= bound
    assert prompt.mean().abs() < 0.1 * bound


@pytest.mark.parametrize("init", IMAGE_INITS)
def test_a_pixel_prompt_starts_at_zeros(prompt_for: Start, init: str) -> None:
    assert torch.equal(prompt_for("pixel", init), torch.zeros(3, 32, 32))


@pytest.mark.parametrize("init", ["training-text", "vocabulary", "text", ""])
def test_a_start_for_texts_is_refused(prompt_for: Start, init: str) -> None:
    with pytest.raises(InputError, match="for images; expected one of training-image, random"):
        prompt_for("soft", init)


def test_a_prefix_needs_no_list_of_layers(
    trained_vision: ConditionedVision, prompt_for: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that keeps its attention elsewhere has keys and values, and no hidden states before layers."""
    wanted = prompt_for("prefix")
    layer_states = trained_vision.layer_states
    monkeypatch.setattr(trained_vision, "layer_states", lambda images: ([], layer_states(images)[1]))
    assert torch.equal(prompt_for("prefix"), wanted)
