from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edge_prompt.base.errors import BackboneError
from edge_prompt_export.modalities.image.pooling import (
    IMAGE_POOLINGS,
    PoolingInput,
    default_pooling,
    has_class_token,
    mean_pooling,
    require_pooling,
)

Network = Callable[..., Any]

HIDDEN = torch.arange(120.0).reshape(2, 12, 5)
MAP = torch.arange(120.0).reshape(2, 5, 3, 4)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("vit", 1, 12),
        ("siglip", 0, 12),
        ("ijepa", 0, 12),
        ("dpt", 1, 12),
        ("deit", 2, 12),  # a class token and a distillation token
        ("dinov2-registers", 4, 12),
        ("dinov3", 3, 12),
        ("yolos", 1, 7),  # detection tokens are at the end
        ("clip", 1, 12),
    ],
)
def test_the_mean_is_of_patches_alone(name: str, first: int, last: int, image_network: Network) -> None:
    pooled = PoolingInput(HIDDEN, None, image_network(name))
    torch.testing.assert_close(mean_pooling(pooled), HIDDEN[:, first:last].mean(1))


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2-registers", "dinov3", "siglip", "yolos", "beit"])
def test_the_mean_of_a_network_is_of_as_many_tokens_as_it_has_patches(name: str, image_network: Network) -> None:
    network = image_network(name)
    size = (32, 48) if name == "yolos" else (32, 32)
    with torch.no_grad():
        network_below = network if hasattr(network, "norm") else network.base_model  # DINOv3's base is its encoder
        hidden = network_below(torch.zeros(1, 3, *size)).last_hidden_state
    marked = torch.zeros_like(hidden)
    patches = size[0] // 8 * size[1] // 8
    others = hidden.shape[1] - patches
    start = others - 5 if name == "yolos" else others
    marked[:, start : start + patches] = 1
    assert torch.equal(mean_pooling(PoolingInput(marked, None, network)), torch.ones(1, hidden.shape[2]))


def test_a_map_of_convolutions_is_averaged_over_its_places(image_network: Network) -> None:
    pooled = PoolingInput(MAP, None, image_network("convnext"))
    torch.testing.assert_close(IMAGE_POOLINGS["mean"](pooled), MAP.mean((2, 3)))


def test_the_class_token_is_the_first(image_network: Network) -> None:
    assert torch.equal(IMAGE_POOLINGS["cls"](PoolingInput(HIDDEN, None, image_network("vit"))), HIDDEN[:, 0])


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 1, 1)])
def test_the_pooler_is_taken_as_a_vector(shape: tuple[int, ...], image_network: Network) -> None:
    pooler = torch.arange(10.0).reshape(shape)
    assert torch.equal(
        IMAGE_POOLINGS["pooler"](PoolingInput(MAP, pooler, image_network("convnext"))), pooler.reshape(2, 5)
    )


@pytest.mark.parametrize(
    ("name", "with_pooler", "without"),
    [
        ("vit", "cls", "cls"),
        ("dinov2", "cls", "cls"),
        ("dinov3", "cls", "cls"),
        ("clip", "pooler", "mean"),
        ("clip-classes", "pooler", "mean"),
        ("beit", "pooler", "mean"),
        ("data2vec", "pooler", "mean"),
        ("siglip", "pooler", "mean"),
        ("swin", "pooler", "mean"),
        ("ijepa", "pooler", "mean"),
    ],
)
def test_the_default_pooling_suits_the_network(
    name: str, with_pooler: str, without: str, image_network: Network
) -> None:
    network = image_network(name)
    assert default_pooling(PoolingInput(HIDDEN, HIDDEN[:, 0], network)) == with_pooler
    assert default_pooling(PoolingInput(HIDDEN, None, network)) == without


def test_a_class_token_beside_a_map_is_not_in_it(image_network: Network) -> None:
    network = image_network("vit")
    assert has_class_token(PoolingInput(HIDDEN, None, network))
    assert not has_class_token(PoolingInput(MAP, None, network))
    assert default_pooling(PoolingInput(MAP, None, network)) == "mean"


@pytest.mark.parametrize(
    ("name", "pooler", "allowed"),
    [("vit", False, ["cls", "mean"]), ("vit", True, ["cls", "mean", "pooler"]), ("siglip", True, ["mean", "pooler"])],
)
def test_a_pooling_needs_what_it_pools(name: str, pooler: bool, allowed: list[str], image_network: Network) -> None:
    pooled = PoolingInput(HIDDEN, HIDDEN[:, 0] if pooler else None, image_network(name))
    for pooling in IMAGE_POOLINGS:
        if pooling in allowed:
            require_pooling(pooling, pooled)
        else:
            with pytest.raises(BackboneError, match=rf"'{pooling}' .* expected one of {', '.join(allowed)}\."):
                require_pooling(pooling, pooled)
