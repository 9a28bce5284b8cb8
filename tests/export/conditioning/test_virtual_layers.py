"""Virtual tokens in the layers of a network, compared with a hand-written implementation for a ViT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edge_prompt_export.conditioning.virtual_layers import LayersPass, condition_layers, fold, layers_of, layers_pass
from edge_prompt_export.modalities.image.network import ConditionedVision

Vision = Callable[[str], ConditionedVision]
Network = Callable[..., Any]

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def vpt_shallow(network: Any, images: Tensor, prompt: Tensor) -> list[Tensor]:
    """VPT-shallow as published: tokens are inserted once, after the class token, and pass through all layers.

    Returns:
        The output of each layer, and the normalised last output; all include the virtual tokens.
    """
    hidden = network.embeddings(images)
    states = [torch.cat([hidden[:, :1], prompt.expand(len(images), -1, -1), hidden[:, 1:]], 1)]
    for layer in network.layers:
        states.append(layer(states[-1]))
    return [*states[1:], network.layernorm(states[-1])]


def vpt_deep(network: Any, images: Tensor, deep_prompt: Tensor) -> list[Tensor]:
    """VPT-deep as published: before every layer, the tokens after the class token are replaced."""
    states = [network.embeddings(images)]
    for layer, prompt in zip(network.layers, deep_prompt, strict=True):
        hidden = states[-1]
        joined = torch.cat([hidden[:, :1], prompt.expand(len(images), -1, -1), hidden[:, 1:]], 1)
        states.append(without(layer(joined), len(prompt)))
    return [*states[1:], network.layernorm(states[-1])]


def without(hidden: Tensor, count: int) -> Tensor:
    """The sequence without the tokens after the class token."""
    return torch.cat([hidden[:, :1], hidden[:, 1 + count :]], 1)


def assert_close(found: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(found, reference, rtol=0, atol=1e-5 * max(1.0, float(reference.abs().max())))


@pytest.mark.parametrize("length", [1, 6])
def test_a_soft_prompt_is_tokens_after_the_class_token(length: int, vision: Vision, image_network: Network) -> None:
    module = vision("vit")
    prompt = module.example_prompt("soft", length, seed=1)
    found = module.prompted_outputs({"pixel_values": IMAGES}, "soft", prompt)
    with torch.no_grad():
        reference = vpt_shallow(image_network("vit"), IMAGES, prompt)[-1]
    assert_close(found["last_hidden_state"], without(reference, length))
    assert_close(found["features"], reference[:, 0])


@pytest.mark.parametrize("length", [1, 6])
def test_a_deep_prompt_is_new_tokens_before_every_layer(length: int, vision: Vision, image_network: Network) -> None:
    module = vision("vit")
    deep = module.example_prompt("deep", length, seed=1)
    folded = module.prompted_outputs({"pixel_values": IMAGES}, "deep", deep)
    with torch.no_grad():
        features, hidden = module.naive_deep(IMAGES, deep)
        reference = vpt_deep(image_network("vit"), IMAGES, deep)[-1]
    for found in (folded["last_hidden_state"], hidden):
        assert_close(found, reference)
    assert_close(features, reference[:, 0])


def test_hidden_states_that_others_record_are_without_virtual_tokens(vision: Vision, image_network: Network) -> None:
    module = vision("vit")
    prompt = module.example_prompt("soft", 4, seed=1)
    with torch.no_grad():
        with layers_pass(prompt[None]):
            found = module.model(IMAGES, output_hidden_states=True).hidden_states
        reference = vpt_shallow(image_network("vit"), IMAGES, prompt)
    assert len(found) == 4
    for state, expected in zip(found[1:], reference, strict=False):
        assert_close(state, without(expected, 4))


@pytest.mark.parametrize("name", ["dpt-segments", "beit-segments"])
@pytest.mark.parametrize("kind", ["soft", "deep", "prefix"])
def test_feature_maps_between_layers_keep_their_grid(name: str, kind: str, vision: Vision) -> None:
    module = vision(name)
    seen: list[Sequence[Tensor]] = []
    part = module.model.neck if name.startswith("dpt") else module.model.fpn
    hook = part.register_forward_pre_hook(
        lambda _part, args, kwargs: seen.append([*args, *kwargs.values()][0]), with_kwargs=True
    )
    request = {"pixel_values": IMAGES}
    try:
        base = module.prompted_outputs(request, "", None)
        prompted = module.prompted_outputs(request, kind, module.example_prompt(kind, 6, seed=1))
    finally:
        hook.remove()
    assert [state.shape for state in seen[0]] == [state.shape for state in seen[1]]
    changes = [float((one - other).abs().max()) for one, other in zip(*seen, strict=True)]
    assert len(changes) == 4
    assert min(changes[1:]) > 1e-3  # the first is taken before or after the first layer
    assert prompted["logits"].shape == base["logits"].shape


class Layer(nn.Module):
    """Adds the mean of all tokens to each."""

    def __init__(self, *, in_tuple: bool = False) -> None:
        super().__init__()
        self.attention = nn.Identity()
        self.in_tuple = in_tuple

    def forward(self, hidden_states: Tensor, scale: float = 1.0) -> Any:
        hidden = hidden_states + scale * hidden_states.mean(1, keepdim=True)
        return (hidden, "weights") if self.in_tuple else hidden


def stack(count: int = 3, *, in_tuple: bool = False) -> nn.ModuleList:
    return nn.ModuleList(Layer(in_tuple=in_tuple) for _ in range(count))


def run(layers: nn.ModuleList, hidden: Tensor) -> Tensor:
    for layer in layers:
        output = layer(hidden, scale=0.5)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


HIDDEN = torch.arange(24.0).reshape(2, 4, 3)
TOKENS = torch.full((1, 2, 3), 7.0)


@pytest.mark.parametrize("in_tuple", [False, True])
def test_virtual_tokens_are_removed_from_outputs(*, in_tuple: bool) -> None:
    layers = stack(in_tuple=in_tuple)
    reference = run(layers, torch.cat([TOKENS.expand(2, -1, -1), HIDDEN], 1))
    condition_layers(list(layers))
    with layers_pass(TOKENS):
        found = run(layers, HIDDEN)
    torch.testing.assert_close(found, reference[:, 2:])


def test_modules_between_layers_see_the_own_tokens_only() -> None:
    layers = stack(2)
    first = layers[0](torch.cat([TOKENS.expand(2, -1, -1), HIDDEN], 1))
    reference = layers[1](torch.cat([first[:, :2], first[:, 2:] + 1], 1))[:, 2:]
    condition_layers(list(layers))
    with layers_pass(TOKENS):
        found = layers[1](layers[0](HIDDEN) + 1)
    torch.testing.assert_close(found, reference)


def test_layers_are_unchanged_outside_of_a_pass() -> None:
    layers = stack()
    reference = run(layers, HIDDEN)
    originals = condition_layers(list(layers))
    assert len(originals) == 3
    assert torch.equal(run(layers, HIDDEN), reference)
    with layers_pass(TOKENS):
        pass
    assert torch.equal(run(layers, HIDDEN), reference)


def test_other_outputs_of_layers_are_passed_on() -> None:
    layers = stack(1, in_tuple=True)
    condition_layers(list(layers))
    with layers_pass(TOKENS) as passed:
        assert layers[0](HIDDEN, scale=2.0)[1] == "weights"
    assert passed.calls == [((), {"scale": 2.0})]
    assert passed.hidden_size == 3


def test_a_pass_keeps_hidden_states_only_if_asked() -> None:
    layers = stack(2)
    condition_layers(list(layers))
    with layers_pass(TOKENS) as forgetful, layers_pass(TOKENS, keeps=True) as keeping:
        run(layers, HIDDEN)
    assert (forgetful.kept, forgetful.calls) == ([], [])  # the inner pass is the one that counts
    assert [tuple(state.shape) for state in keeping.kept] == [(2, 4, 3)] * 2
    assert torch.equal(keeping.kept[0], HIDDEN)


def test_a_pass_of_no_tokens_leaves_the_sequence_as_it_is() -> None:
    passed = LayersPass()
    assert passed.enter(HIDDEN) is HIDDEN
    assert passed.leave(HIDDEN) is HIDDEN


def test_passes_of_two_threads_are_independent() -> None:
    layers = stack()
    condition_layers(list(layers))

    def under(number: int) -> Tensor:
        with layers_pass(torch.full((1, 2, 3), float(number))):
            return run(layers, HIDDEN)

    alone = [under(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(under, [0, 1, 2, 3] * 8)):
            assert torch.equal(found, alone[number % 4])


def test_layers_are_found_in_the_order_of_their_calls() -> None:
    model = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": stack()})})
    layers = model.get_submodule("encoder.layers")
    assert isinstance(layers, nn.ModuleList)
    attentions = [layer.get_submodule("attention") for layer in layers]
    assert layers_of(model, attentions) == list(layers)
    assert layers_of(model, attentions[::-1]) == list(layers)[::-1]


def test_there_are_no_layers_where_attention_is_not_one_a_member_of_a_list() -> None:
    lone = nn.ModuleDict({"attention": nn.Identity()})
    assert layers_of(lone, [lone.get_submodule("attention")]) == []
    stages = nn.ModuleDict({"stages": nn.ModuleList([nn.ModuleDict({"blocks": stack(2)})])})
    attentions = [stages.get_submodule(f"stages.0.blocks.{index}.attention") for index in (0, 1)]
    assert layers_of(stages, attentions) == []  # two attentions in one member of the outer list
    shared = stack(1)
    assert layers_of(shared, [shared.get_submodule("0.attention")] * 2) == []


def test_a_fold_does_not_depend_on_images_and_folds_every_layer_by_itself(vision: Vision) -> None:
    module = vision("vit")
    deep = module.example_prompt("deep", 4, seed=1)
    whole = module.fold(deep)
    other = deep.clone()
    other[1] = other[1].roll(1, -1)
    changed = (module.fold(other) - whole).abs().flatten(1).max(1).values
    assert [bool(change > 1e-3) for change in changed] == [False, True, False]
    with layers_pass(TOKENS):  # the outer pass must not matter
        torch.testing.assert_close(module.fold(deep), whole)
    with torch.no_grad():
        layer = module.model.layers[2]
        values = layer.attention.v_proj(layer.layernorm_before(deep[2]))
    torch.testing.assert_close(whole[2, 1, 0], values.unflatten(-1, (4, 8)).transpose(0, 1))


def test_a_fold_needs_a_prompt_for_every_layer(vision: Vision) -> None:
    module = vision("vit")
    with pytest.raises(ValueError, match="argument"):
        fold(module._layer_forwards, module._layer_calls, module.example_prompt("deep", 4, seed=1)[:2])
