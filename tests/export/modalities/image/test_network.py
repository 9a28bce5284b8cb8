"""Properties of every image architecture, in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from edge_prompt.base.errors import BackboneError, UnsupportedArchitectureError
from edge_prompt_export.conditioning.attention import UNMASKED_ATTENTION_NAME
from edge_prompt_export.modalities.image.network import IMAGE_TASK_OUTPUTS, ConditionedVision
from edge_prompt_export.modalities.image.pooling import IMAGE_POOLINGS, PoolingInput

Vision = Callable[[str], ConditionedVision]
Network = Callable[..., Any]

KINDS = ("soft", "deep", "prefix", "pixel")


def images_for(module: ConditionedVision, batch: int = 2, seed: int = 3) -> Tensor:
    assert module.image_size is not None
    random = torch.Generator().manual_seed(seed)
    return torch.randn(batch, module.num_channels, *module.image_size, generator=random)


def assert_close(found: Tensor, reference: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == reference.shape
    assert float((found - reference).abs().max()) <= tolerance * max(1.0, float(reference.abs().max()))


def test_no_prompt_gives_the_unmodified_network_bit_for_bit(
    image_network_name: str, vision: Vision, image_network: Network
) -> None:
    module = vision(image_network_name)
    images = images_for(module)
    found = module.prompted_outputs({"pixel_values": images}, "", None)
    with torch.no_grad():
        reference = image_network(image_network_name)(images)  # never conditioned
    own = [name for name in module.output_names if hasattr(reference, name)]
    assert own == list(module.output_names[1:])
    for name in own:
        assert torch.equal(found[name], reference[name]), name
    for name, output in module.original_outputs({"pixel_values": images}).items():
        assert torch.equal(found[name], output), name


def test_the_network_answers_as_before_once_it_is_conditioned(
    image_network_name: str, vision: Vision, image_network: Network
) -> None:
    module = vision(image_network_name)
    images = images_for(module)
    name = module.output_names[-1]
    with torch.no_grad():
        assert torch.equal(
            getattr(module.model(images), name), getattr(image_network(image_network_name)(images), name)
        )


def test_the_feature_is_pooled_from_what_the_network_gives(
    image_network_name: str, vision: Vision, image_network: Network
) -> None:
    module = vision(image_network_name)
    images = images_for(module)
    network = image_network(image_network_name)
    below = getattr(network, "vision_model", network.base_model)
    with torch.no_grad():
        output = network(images) if module.task == "image-feature-extraction" else below(images)
    pooler = getattr(output, "pooler_output", None)
    reference = IMAGE_POOLINGS[module.pooling](PoolingInput(output.last_hidden_state, pooler, network))
    assert torch.equal(module.prompted_outputs({"pixel_values": images}, "", None)["features"], reference)


@pytest.mark.parametrize(
    ("name", "pooling", "head"), [("vit-classes", "cls", "classifier"), ("siglip-classes", "mean", "classifier")]
)
def test_the_feature_below_a_head_is_what_the_head_reads(
    name: str, pooling: str, head: str, conditioned_image: Callable[..., ConditionedVision]
) -> None:
    module = conditioned_image(name, pooling)
    outputs = module.prompted_outputs({"pixel_values": images_for(module)}, "", None)
    assert_close(getattr(module.model, head)(outputs["features"]), outputs["logits"])


def test_every_kind_changes_every_row_and_keeps_every_shape(image_network_name: str, vision: Vision) -> None:
    module = vision(image_network_name)
    request = {"pixel_values": images_for(module)}
    base = module.prompted_outputs(request, "", None)
    assert tuple(base) == IMAGE_TASK_OUTPUTS[module.task]
    assert all(bool(output.isfinite().all()) for output in base.values())
    for kind in module.kinds:
        outputs = module.prompted_outputs(request, kind, module.example_prompt(kind, 6, seed=1))
        for name, output in outputs.items():
            assert output.shape == base[name].shape
            assert float((output - base[name]).abs().flatten(1).max(1).values.min()) > 1e-2, (kind, name)


def test_two_prompts_of_a_kind_give_two_answers(image_network_name: str, vision: Vision) -> None:
    module = vision(image_network_name)
    request = {"pixel_values": images_for(module)}
    for kind in module.kinds:
        one, other = (module.prompted_outputs(request, kind, module.example_prompt(kind, 3, seed)) for seed in (1, 2))
        assert float((one["features"] - other["features"]).abs().max()) > 1e-2, kind


def test_a_batch_of_tasks_equals_its_rows_alone(image_network_name: str, vision: Vision) -> None:
    module = vision(image_network_name)
    images = images_for(module, batch=3)
    batch_axes = {"soft_prompt": 0, "prefix": 2, "pixel_prompt": 0}
    for kind in module.kinds:
        alone = [module.as_input(kind, module.example_prompt(kind, 4, seed)) for seed in (1, 2, 3)]
        together = {name: torch.cat([one[name] for one in alone], batch_axes[name]) for name in alone[0]}
        with torch.no_grad():
            batch = module(**module.graph_inputs({"pixel_values": images}, together))
            for row, prompts in enumerate(alone):
                own = module(**module.graph_inputs({"pixel_values": images[row : row + 1]}, prompts))
                for found, reference in zip(batch, own, strict=True):
                    assert_close(found[row : row + 1], reference)


def test_one_prompt_is_for_all_rows(image_network_name: str, vision: Vision) -> None:
    module = vision(image_network_name)
    request = {"pixel_values": images_for(module, batch=3)}
    for kind in module.kinds:
        array = module.example_prompt(kind, 4, seed=1)
        together = module.prompted_outputs(request, kind, array)
        for row in range(3):
            alone = module.prompted_outputs(module.single_row(request, row), kind, array)
            for name, output in alone.items():
                assert_close(together[name][row : row + 1], output)


def test_folding_equals_a_deep_prompt_as_published(transformer_name: str, vision: Vision) -> None:
    module = vision(transformer_name)
    images = images_for(module)
    for length in (1, 6):
        deep = module.example_prompt("deep", length, seed=length)
        folded = module.prompted_outputs({"pixel_values": images}, "deep", deep)
        with torch.no_grad():
            naive = module.naive_deep(images, deep)
        for output, reference in zip(folded.values(), naive, strict=True):
            assert_close(output, reference)


def test_folding_gives_a_prefix_that_a_file_may_hold(transformer_name: str, vision: Vision) -> None:
    module = vision(transformer_name)
    prefix = module.fold(module.example_prompt("deep", 5, seed=1))
    layers, _, heads, _, head_dim = module.kinds["prefix"]
    assert prefix.shape == (layers, 2, 1, heads, 5, head_dim)


def test_kinds_and_their_shapes(transformer_name: str, vision: Vision) -> None:
    module = vision(transformer_name)
    layers = 4 if transformer_name.endswith("segments") else 3
    assert module.image_size is not None
    assert module.kinds == {
        "soft": (None, 32),
        "deep": (layers, None, 32),
        "prefix": (layers, 2, 4, None, 8),
        "pixel": (3, *module.image_size),
    }
    assert module.refused_kinds == {}
    assert module.input_names == ("pixel_values", "soft_prompt", "prefix", "pixel_prompt")
    assert module.feature_size == 32


def test_networks_without_layers_of_one_kind_of_tokens_take_pixel_prompts_only(
    vision: Vision, image_reasons: Mapping[str, str]
) -> None:
    for name, reason in image_reasons.items():
        module = vision(name)
        assert module.image_size is not None
        assert module.kinds == {"pixel": (3, *module.image_size)}
        assert module.input_names == ("pixel_values", "pixel_prompt")
        assert module.refused_kinds.keys() == {"soft", "deep", "prefix"}
        assert module.model.config._attn_implementation != UNMASKED_ATTENTION_NAME
        assert set(module.refused_kinds.values()) == {f"{type(module.model).__name__} {reason}"}


def test_a_pixel_prompt_is_added_to_every_image(image_network_name: str, vision: Vision) -> None:
    module = vision(image_network_name)
    images, prompt = images_for(module), module.example_prompt("pixel", 0, seed=1)
    found = module.prompted_outputs({"pixel_values": images}, "pixel", prompt)
    reference = module.prompted_outputs({"pixel_values": images + prompt}, "", None)
    for name, output in found.items():
        assert torch.equal(output, reference[name])


def test_prompts_of_several_kinds_all_have_an_effect(vision: Vision) -> None:
    module = vision("vit")
    images = images_for(module)
    given: dict[str, Tensor] = {}
    answers = [module.prompted_outputs({"pixel_values": images}, "", None)["features"]]
    for kind in ("soft", "prefix", "pixel"):
        given |= module.as_input(kind, module.example_prompt(kind, 3, seed=1))
        with torch.no_grad():
            answers.append(module(**module.graph_inputs({"pixel_values": images}, given))[0])
    for one, other in pairwise(answers):
        assert float((one - other).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_a_prompt_and_nothing_else(kind: str, vision: Vision) -> None:
    module = vision("vit")
    array = module.example_prompt(kind, 4, seed=1).requires_grad_()
    request = {"pixel_values": images_for(module)}
    module(**module.graph_inputs(request, module.as_input(kind, array)))[0].square().sum().backward()
    assert array.grad is not None
    assert float(array.grad.abs().flatten(1).max(1).values.min()) > 0
    assert all(parameter.grad is None for parameter in module.parameters())


def test_images_of_any_size_take_every_kind_but_pixel(image_network: Network) -> None:
    module = ConditionedVision(image_network("yolos"), "object-detection", None, None).eval()
    assert tuple(module.kinds) == ("soft", "deep", "prefix")
    assert module.refused_kinds == {"pixel": "its images vary in size"}
    assert module.dynamic_axes()["pixel_values"] == {0: "batch", 2: "height", 3: "width"}
    sizes = [tuple(request["pixel_values"].shape) for request in module.parity_requests()]
    assert sizes == [(1, 3, 32, 48), (2, 3, 40, 40)]
    for request in module.parity_requests():
        base = module.prompted_outputs(request, "", None)
        for name, output in module.original_outputs(request).items():
            assert torch.equal(base[name], output)
        for kind in module.kinds:
            outputs = module.prompted_outputs(request, kind, module.example_prompt(kind, 2, seed=1))
            assert float((outputs["pred_boxes"] - base["pred_boxes"]).abs().max()) > 1e-3


def test_images_of_one_size_have_that_size_in_the_graph(vision: Vision) -> None:
    module = vision("vit")
    assert module.dynamic_axes() == {
        "pixel_values": {0: "batch"},
        "soft_prompt": {0: "soft_prompt_batch", 1: "num_virtual_tokens"},
        "prefix": {2: "prefix_batch", 4: "prefix_length"},
        "pixel_prompt": {0: "pixel_prompt_batch"},
    }
    assert [tuple(r["pixel_values"].shape) for r in module.parity_requests()] == [(1, 3, 32, 32), (2, 3, 32, 32)]
    assert {name: tuple(tensor.shape) for name, tensor in module.trace_inputs().items()} == {
        "pixel_values": (2, 3, 32, 32),
        "soft_prompt": (1, 3, 32),
        "prefix": (3, 2, 1, 4, 4, 8),
        "pixel_prompt": (1, 3, 32, 32),
    }


def test_convolutions_on_images_of_any_size_take_no_prompt(image_network: Network) -> None:
    stages = {"hidden_sizes": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "num_stages": 4}
    with pytest.raises(UnsupportedArchitectureError, match="does not dispatch its attention; its images vary in size"):
        ConditionedVision(image_network("convnext", **stages), "image-feature-extraction", None, None)


def test_images_of_a_size_that_the_network_refuses_are_refused(image_network: Network) -> None:
    with pytest.raises(ValueError, match="doesn't match model"):
        ConditionedVision(image_network("vit"), "image-feature-extraction", None, (48, 48))


@pytest.mark.parametrize(
    ("name", "pooling", "message"),
    [
        (
            "siglip",
            "cls",
            "by 'cls' of SiglipVisionModel, which has no class token; expected one of mean, pooler",
        ),
        ("vit-classes", "pooler", "which has no pooler; expected one of cls, mean"),
        ("segformer", "cls", "which has no class token; expected one of mean"),
    ],
)
def test_an_unsupported_pooling_is_refused(
    name: str, pooling: str, message: str, conditioned_image: Callable[..., ConditionedVision]
) -> None:
    with pytest.raises(BackboneError, match=message):
        conditioned_image(name, pooling)


def test_the_states_of_layers_are_those_that_transformers_records(vision: Vision) -> None:
    module = vision("vit")
    images = images_for(module)
    hidden, keys_and_values = module.layer_states(images)
    with torch.no_grad():
        recorded = module.model(images, output_hidden_states=True).hidden_states
    assert len(hidden) == len(keys_and_values) == 3
    for found, reference in zip(hidden, recorded, strict=False):
        assert torch.equal(found, reference)
    layer = module.model.layers[0]
    keys = layer.attention.k_proj(layer.layernorm_before(hidden[0])).unflatten(-1, (4, 8)).transpose(1, 2)
    assert_close(keys_and_values[0][0], keys)
