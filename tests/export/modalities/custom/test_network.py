"""Modules of the user's own: valid and invalid descriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edge_prompt.base.errors import EdgePromptError, InputError, UnsupportedArchitectureError
from edge_prompt.formats.preprocessing import ArrayInput
from edge_prompt_export.modalities.custom.checkpoint import load_module
from edge_prompt_export.modalities.custom.network import ConditionedCustom, ModuleDescription
from tests.export.modules import PromptedLinear

X = {"x": ArrayInput("float32", (None, 16))}
SOFT: dict[str, tuple[int | None, ...]] = {"soft": (None, 16)}


class Sequences(nn.Module):
    """Takes token ids, signals and a mask, all as sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)

    def forward(self, tokens: Tensor, signal: Tensor, seen: Tensor, soft_prompt: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.embedding(tokens).sum(1) + signal.sum((1, 2), keepdim=True)[:, 0] + soft_prompt.sum(1)
        return hidden, seen.float().mean(1, keepdim=True) + hidden


def described(**changes: Any) -> ModuleDescription:
    given: dict[str, Any] = {"inputs": X, "prompts": SOFT, "outputs": ("features",)}
    return ModuleDescription(**given | changes)


def conditioned(module: nn.Module | None = None, **changes: Any) -> ConditionedCustom:
    return ConditionedCustom(module or PromptedLinear(), described(**changes))


def sequences(**changes: Any) -> ConditionedCustom:
    inputs = {
        "tokens": ArrayInput("int64", (None, None)),
        "signal": ArrayInput("float32", (None, None, 3)),
        "seen": ArrayInput("bool", (None, 6)),
    }
    given: dict[str, Any] = {"inputs": inputs, "outputs": ("features", "other"), "integers_below": 50} | changes
    return conditioned(Sequences(), **given)


def test_a_description_becomes_a_conditioned_module() -> None:
    module = conditioned()
    assert module.task == "custom"
    assert (module.input_names, module.output_names) == (("x", "soft_prompt"), ("features",))
    assert (module.kinds, module.refused_kinds) == ({"soft": (None, 16)}, {})
    assert module.feature_size == 4
    assert module.dynamic_axes() == {
        "x": {0: "batch"},
        "soft_prompt": {0: "soft_prompt_batch", 1: "num_virtual_tokens"},
    }
    assert module.preprocessing().inputs == X
    assert not module.model.training
    assert not any(parameter.requires_grad for parameter in module.model.parameters())


def test_without_features_the_width_is_1() -> None:
    assert conditioned(outputs=("logits",)).feature_size == 1


def test_only_a_prompt_changes_the_layer() -> None:
    module = conditioned()
    request = {"x": torch.randn(3, 16)}
    with torch.no_grad():
        reference = module.model.get_submodule("linear")(request["x"])
    assert torch.equal(module.prompted_outputs(request, "", None)["features"], reference)
    assert torch.equal(module.original_outputs(request)["features"], reference)
    prompt = module.example_prompt("soft", 2, seed=1)
    found = module.prompted_outputs(request, "soft", prompt)["features"]
    with torch.no_grad():
        torch.testing.assert_close(found, module.model.get_submodule("linear")(request["x"] + prompt.sum(0)))


def test_requests_have_the_dtypes_and_lengths_of_the_description() -> None:
    module = sequences()
    request, longer = module.parity_requests()
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in longer.items()} == {
        "tokens": (torch.int64, (3, 7)),
        "signal": (torch.float32, (3, 8, 3)),
        "seen": (torch.bool, (3, 6)),
    }
    assert tuple(request["tokens"].shape) == (1, 3)
    assert 1 < int(longer["tokens"].max()) < 50
    assert 0 < int(longer["seen"].sum()) < longer["seen"].numel()  # both values, whatever integers are below
    assert module.dynamic_axes()["signal"] == {0: "batch", 1: "signal_1"}


def test_axes_that_belong_together_get_one_length() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor, soft_prompt: Tensor) -> Tensor:
            return (x * mask).sum(1, keepdim=True) + soft_prompt.sum((1, 2), keepdim=True)[:, 0]

    free = ArrayInput("float32", (None, None))
    module = conditioned(Masked(), inputs={"x": free, "mask": free})
    shapes = [{tuple(tensor.shape) for tensor in request.values()} for request in module.parity_requests()]
    assert shapes == [{(1, 3)}, {(3, 7)}]


def test_lists_are_as_good_as_tuples() -> None:
    module = conditioned(inputs={"x": ArrayInput("float32", [None, 16])}, prompts={"soft": [None, 16]}, outputs=["y"])  # type: ignore[arg-type]
    assert (module.inputs, module.kinds, module.output_names) == (X, {"soft": (None, 16)}, ("y",))


def test_every_kind_that_enters_as_it_is_may_be_described() -> None:
    class All(nn.Module):
        def forward(self, x: Tensor, soft_prompt: Tensor, prefix: Tensor, pixel_prompt: Tensor) -> Tensor:
            return x.flatten(1) + soft_prompt.sum(1) + prefix.sum((0, 1, 3, 4, 5))[:, None] + pixel_prompt.flatten(1)

    kinds = {"soft": (None, 12), "prefix": (2, 2, 4, None, 8), "pixel": (3, 2, 2)}
    module = conditioned(All(), inputs={"x": ArrayInput("float32", (None, 3, 2, 2))}, prompts=kinds)
    assert module.kinds == kinds
    assert module.input_names == ("x", "soft_prompt", "prefix", "pixel_prompt")
    assert module.dynamic_axes()["prefix"] == {2: "prefix_batch", 4: "prefix_length"}
    assert module.dynamic_axes()["pixel_prompt"] == {0: "pixel_prompt_batch"}


@pytest.mark.parametrize(
    "prompts",
    [
        {},
        {"deep": (2, None, 16)},
        {"sofa": (None, 16)},
        {"soft": (None, 3, 16)},
        {"soft": (None, None)},
        {"soft": (3, 16)},
        {"soft": (None, 0)},
        {"soft": (None, 16.0)},
        {"soft": 16},
        {"prefix": (2, 3, 4, None, 8)},
        {"pixel": (3, None, 16)},
    ],
)
def test_prompts_of_other_axes_than_their_kinds_have_are_refused(prompts: Any) -> None:
    with pytest.raises(
        InputError, match=r"^prompts \{.*expected one or more of soft \(num_virtual_tokens, hidden_size\)"
    ):
        conditioned(prompts=prompts)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": ArrayInput("float32", (2, 16))},
        {"x": ArrayInput("float32", ())},
        {"x": ArrayInput("float32", (None, 0))},
        {"x": ArrayInput("float32", (None, -1))},
        {"x": ArrayInput("float32", (None, 1, 1, 1, 1, 1, 16))},
        {"x": ArrayInput("float16", (None, 16))},
        {"x": ("float32", (None, 16))},
    ],
)
def test_inputs_that_no_request_could_bring_are_refused(inputs: Any) -> None:
    with pytest.raises(InputError, match=r"^inputs \{.*expected an ArrayInput by name, of float32, int64, bool"):
        conditioned(inputs=inputs)


@pytest.mark.parametrize("outputs", ["features", (), ("features", "features"), ("x",), ("soft_prompt",)])
def test_invalid_names_of_outputs_are_refused(outputs: Any) -> None:
    with pytest.raises(InputError, match=r"^outputs .*expected a tuple of names"):
        conditioned(outputs=outputs)


class Returning(PromptedLinear):
    """Returns the answer after a given change."""

    def __init__(self, made: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.made = made

    def forward(self, x: Tensor, soft_prompt: Tensor) -> Any:
        return self.made(self.linear(x + soft_prompt.sum(1)))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda answer: {"features": answer}, "Returning returns dict; expected a tensor, or several in a tuple"),
        (lambda answer: (answer, None), "Returning returns Tensor, NoneType; expected a tensor"),
        (lambda answer: (answer, answer), "2 outputs of Returning and 1 names; expected one name per output"),
        (
            lambda answer: answer.sum(),
            r"returns features of shape \[\] for a batch of 2; expected floats \[batch, feature",
        ),
        (lambda answer: answer[:1], r"returns features of shape \[1, 4\] for a batch of 2"),
        (lambda answer: answer[:, None], r"returns features of shape \[2, 1, 4\] for a batch of 2"),
        (lambda answer: answer.argmax(1, keepdim=True), r"returns features of shape \[2, 1\] .* expected floats"),
    ],
)
def test_other_return_values_are_refused(made: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        conditioned(Returning(made))


def test_other_outputs_than_features_may_have_any_shape_after_the_batch() -> None:
    module = conditioned(Returning(lambda answer: (answer[:, None], answer.argmax(1))), outputs=("map", "best"))
    assert module.output_names == ("map", "best")
    with pytest.raises(InputError, match=r"returns map of shape \[4, 2\] .* expected the batch as its first axis"):
        conditioned(Returning(lambda answer: answer.T), outputs=("map",))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"inputs": {"y": X["x"]}},
            UnsupportedArchitectureError,
            "the forward of PromptedLinear takes no y; expected a forward with the arguments y, soft_prompt",
        ),
        (
            {"prompts": SOFT | {"pixel": (3, 2, 2)}},
            UnsupportedArchitectureError,
            "takes no pixel_prompt; expected a forward with the arguments x, soft_prompt, pixel_prompt",
        ),
        (
            {"inputs": X | {"soft_prompt": X["x"]}},
            InputError,
            "an input named soft_prompt; expected another name",
        ),
        ({"integers_below": 0}, InputError, "integers_below=0; expected at least 1"),
        (
            {"inputs": {"x": ArrayInput("float32", (None, 15))}},
            UnsupportedArchitectureError,
            r"PromptedLinear does not run \(RuntimeError: The size of tensor",
        ),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    changes: dict[str, Any], error: type[EdgePromptError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        load_module(PromptedLinear(), described(**changes))
    assert "\n" not in str(caught.value)


def test_a_module_need_not_broadcast_a_prompt_for_all_rows() -> None:
    class Joined(PromptedLinear):
        def forward(self, x: Tensor, soft_prompt: Tensor) -> Any:
            assert len(soft_prompt) == len(x)
            return self.linear(torch.cat([soft_prompt, x[:, None]], 1).sum(1))

    module, plain = conditioned(Joined()), conditioned()
    for request in module.parity_requests():
        for array in (None, module.example_prompt("soft", 3, seed=1)):
            found, reference = (one.prompted_outputs(request, "soft", array)["features"] for one in (module, plain))
            torch.testing.assert_close(found, reference)


def test_a_module_that_has_no_answer_without_a_prompt_is_refused() -> None:
    class Mean(PromptedLinear):
        def forward(self, x: Tensor, soft_prompt: Tensor) -> Any:
            return self.linear(x + soft_prompt.mean(1))

    with pytest.raises(UnsupportedArchitectureError, match="Mean returns NaN or infinity without a prompt; expected"):
        conditioned(Mean())


def test_a_forward_of_any_arguments_takes_all() -> None:
    class Whatever(PromptedLinear):
        def forward(self, **arrays: Tensor) -> Any:  # type: ignore[override]
            return self.linear(arrays["x"] + arrays["soft_prompt"].sum(1))

    assert conditioned(Whatever()).feature_size == 4


def test_every_weight_counts_for_the_fingerprint() -> None:
    class Hidden(PromptedLinear):
        """Hides its layer from autograd, like some frozen networks."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(1), persistent=False)

        def forward(self, x: Tensor, soft_prompt: Tensor) -> Any:
            with torch.no_grad():
                return self.linear(x + soft_prompt.sum(1)) * self.scale

    def fingerprint(change: Callable[[Hidden], object]) -> str:
        module = Hidden()
        with torch.no_grad():
            change(module)
        loaded = load_module(module, described())
        assert loaded.num_parameters == 16 * 4 + 4 + 1
        return loaded.fingerprint

    changes: tuple[Callable[[Hidden], object], ...] = (
        lambda module: None,
        lambda module: module.linear.weight[0, 0].add_(1),
        lambda module: module.linear.bias.add_(1),
        lambda module: module.get_buffer("scale").add_(1),
    )
    assert len({fingerprint(change) for change in changes}) == 4
    assert fingerprint(changes[0]) == fingerprint(changes[0])


def test_a_module_has_a_name_and_nothing_of_transformers() -> None:
    loaded = load_module(PromptedLinear(), described())
    assert (loaded.source_name, loaded.config, loaded.tokenizer, loaded.labels) == ("PromptedLinear", None, None, ())
    assert load_module(PromptedLinear(), described(name="mine")).source_name == "mine"
