from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt_export.conditioning.attention import ATTENTION_NAME
from edge_prompt_export.modalities.text.network import TASK_OUTPUTS, ConditionedTextEncoder

TAKES_BOTH = (
    "albert",
    "bert",
    "bert-generation",
    "camembert",
    "data2vec-text",
    "distilbert",
    "electra",
    "ernie",
    "eurobert",
    "gte",
    "jina_embeddings_v3",
    "layoutlm",
    "llama",
    "modernbert",
    "nomic_bert",
    "qwen3",
    "roberta",
    "roberta-prelayernorm",
    "splinter",
    "t5",
    "umt5",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
DOES_NOT_DISPATCH = (
    "deberta",
    "deberta-v2",
    "luke",
    "megatron-bert",
    "mpnet",
    "rembert",
    "roformer",
    "squeezebert",
    "xlm",
    "xlnet",
)
PREFIX_REFUSALS = dict.fromkeys(DOES_NOT_DISPATCH, "does not dispatch its attention") | {
    "deepseek_v3": "has keys of 16 numbers and values of 8",
    "gemma2": "passes 'softcap' to its attention",
    "gpt_oss": "passes 's_aux' to its attention",
}
ARCHITECTURES = (*TAKES_BOTH, *PREFIX_REFUSALS)
OWN_HEADS = [
    (model_type, task)
    for model_type in ("bert", "distilbert", "roberta")
    for task in ("text-classification", "token-classification", "fill-mask")
]
TOLERANCE = 1e-4

Conditioned = Callable[..., ConditionedTextEncoder]


@dataclass(frozen=True)
class Row:
    """A request: tokens, and a prompt of each kind."""

    tokens: Tensor
    soft: Tensor
    prefix: Tensor


def row_of(module: ConditionedTextEncoder, tokens: int, soft: int = 0, prefix: int = 0, seed: int = 0) -> Row:
    inputs = module.example_inputs(1, tokens, soft, prefix, seed=seed)
    soft_prompt = inputs["soft_prompt"][0]
    return Row(inputs["input_ids"][0], soft_prompt, inputs["prefix"][:, :, 0] if "prefix" in inputs else soft_prompt)


def run(module: ConditionedTextEncoder, rows: list[Row], padding: int | None = None) -> dict[str, Tensor]:
    """The outputs for a batch of rows, padded to the longest and masked."""
    fill = (getattr(module.model.config, "pad_token_id", None) or 0) if padding is None else padding
    takes_prefix = not module.prefix_refusal
    tokens, soft = max(len(row.tokens) for row in rows), max(len(row.soft) for row in rows)
    arguments = {
        "input_ids": torch.full((len(rows), tokens), fill),
        "soft_prompt": torch.zeros(len(rows), soft, module.embedding_size),
    }
    mask = [length_mask([len(row.soft) for row in rows]), length_mask([len(row.tokens) for row in rows])]
    if takes_prefix:
        lengths = [row.prefix.shape[3] for row in rows]
        layers, pair, heads, _, head_dim = rows[0].prefix.shape
        arguments["prefix"] = torch.zeros(layers, pair, len(rows), heads, max(lengths), head_dim)
        mask.insert(0, length_mask(lengths))
    for index, row in enumerate(rows):
        arguments["input_ids"][index, : len(row.tokens)] = row.tokens
        arguments["soft_prompt"][index, : len(row.soft)] = row.soft
        if takes_prefix:
            arguments["prefix"][:, :, index, :, : row.prefix.shape[3]] = row.prefix
    with torch.no_grad():
        outputs = module(attention_mask=torch.cat(mask, 1), **arguments)
    return dict(zip(module.output_names, outputs, strict=True))


def length_mask(lengths: list[int]) -> Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def own(outputs: dict[str, Tensor], index: int, tokens: int) -> dict[str, Tensor]:
    """The part of a batch's outputs that belongs to one row."""
    return {name: out[index, :tokens] if out.dim() == 3 else out[index] for name, out in outputs.items()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], what: str = "") -> None:
    assert found.keys() == wanted.keys()
    for name, reference in wanted.items():
        gap = (found[name] - reference).abs().max() / reference.abs().max().clamp(min=1)
        assert gap <= TOLERANCE, f"{name} {what}: {gap:.1e}"


def differ(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().max())


def padded_tokens(network: Any) -> dict[str, Tensor]:
    mask = length_mask([9, 5, 3])
    ids = torch.randint(3, 120, mask.shape, generator=torch.Generator().manual_seed(3))
    return {
        "input_ids": torch.where(mask > 0, ids, getattr(network.config, "pad_token_id", None) or 0),
        "attention_mask": mask,
    }


def no_prompt(module: ConditionedTextEncoder) -> dict[str, Tensor]:
    inputs = module.example_inputs(1, 2, virtual_tokens=0, prefix_length=0)
    return {name: inputs[name] for name in inputs if name in {"soft_prompt", "prefix"}}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_length_0_gives_the_unmodified_network(model_type: str, tiny_network: Callable[..., Any]) -> None:
    network = tiny_network(model_type)
    tokens = padded_tokens(network)
    with torch.no_grad():
        plain = network(**tokens).last_hidden_state
        module = ConditionedTextEncoder(network, "feature-extraction", "mean")
        features, hidden = module(**tokens, **no_prompt(module))
    untouched = module.original_outputs(tokens)
    weights = tokens["attention_mask"][..., None]
    mean = (plain * weights).sum(1) / weights.sum(1)
    for row, length in enumerate(tokens["attention_mask"].sum(1)):
        wanted = {"features": mean[row], "last_hidden_state": plain[row, :length]}
        assert_same({"features": features[row], "last_hidden_state": hidden[row, :length]}, wanted, f"row {row}")
        assert_same(own(untouched, row, int(length)), wanted, f"untouched row {row}")


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_soft_prompt_is_embeddings_before_those_of_the_tokens(
    model_type: str, tiny_network: Callable[..., Any]
) -> None:
    network = tiny_network(model_type)
    tokens = padded_tokens(network)
    embedded = network.get_input_embeddings()(tokens["input_ids"])
    soft = torch.randn(3, 4, embedded.shape[2], generator=torch.Generator().manual_seed(1))
    mask = torch.cat([torch.ones(3, 4).long(), tokens["attention_mask"]], 1)
    with torch.no_grad():
        joined = {"inputs_embeds": torch.cat([soft, embedded], 1), "attention_mask": mask}
        wanted = network(**joined).last_hidden_state[:, 4:]
        module = ConditionedTextEncoder(network, "feature-extraction", "mean")
        arguments = no_prompt(module) | {"soft_prompt": soft, "attention_mask": mask}
        _, found = module(input_ids=tokens["input_ids"], **arguments)
    for row, length in enumerate(tokens["attention_mask"].sum(1)):
        assert_same({"hidden": found[row, :length]}, {"hidden": wanted[row, :length]}, f"row {row}")


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_row_of_a_mixed_batch_is_that_row_alone(model_type: str, conditioned: Conditioned) -> None:
    module = conditioned(model_type)
    lengths = [(9, 3, 0), (5, 0, 4), (3, 5, 2), (7, 0, 0), (1, 1, 6)]
    rows = [row_of(module, *sizes, seed=seed) for seed, sizes in enumerate(lengths)]
    together = run(module, rows)
    for index, row in enumerate(rows):
        alone = own(run(module, [row]), 0, len(row.tokens))
        assert_same(own(together, index, len(row.tokens)), alone, f"row {index}")


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_soft_prompt_changes_the_feature(model_type: str, conditioned: Conditioned) -> None:
    module = conditioned(model_type)
    base, prompted = (run(module, [row_of(module, 6, soft=soft)])["features"] for soft in (0, 1))
    assert differ(base, prompted) > 1e-2


@pytest.mark.parametrize("model_type", TAKES_BOTH)
def test_the_prefix_of_every_layer_changes_the_feature(model_type: str, conditioned: Conditioned) -> None:
    module = conditioned(model_type)
    row = row_of(module, 6, prefix=1)
    prompted = run(module, [row])["features"]
    for layer in range(len(module.layer_shapes)):
        for side in range(2):
            prefix = row.prefix.clone()
            prefix[layer, side] += 1
            changed = run(module, [Row(row.tokens, row.soft, prefix)])["features"]
            assert differ(prompted, changed) > 1e-3, f"layer {layer}, {('key', 'value')[side]}"


@pytest.mark.parametrize(("model_type", "reason"), PREFIX_REFUSALS.items())
def test_a_network_that_cannot_take_a_prefix_says_why_and_refuses_it(
    model_type: str, reason: str, conditioned: Conditioned
) -> None:
    module = conditioned(model_type)
    assert reason in module.prefix_refusal
    assert module.layer_shapes == []
    assert "prefix" not in module.input_names
    assert module.model.config._attn_implementation != ATTENTION_NAME
    inputs = module.example_inputs(1, 3, virtual_tokens=2, prefix_length=0)
    with pytest.raises(UnsupportedArchitectureError, match=reason):
        module(**inputs, prefix=torch.zeros(2, 2, 1, 4, 0, 8))


@pytest.mark.parametrize("model_type", ["bert", "modernbert", "qwen3", "mpnet"])
def test_a_leading_1_broadcasts_to_the_batch(model_type: str, conditioned: Conditioned) -> None:
    module = conditioned(model_type)
    shared = module.example_inputs(batch=3, sequence=6, virtual_tokens=4, prefix_length=5)
    repeated = shared | {"soft_prompt": shared["soft_prompt"].expand(3, -1, -1)}
    if "prefix" in shared:
        repeated["prefix"] = shared["prefix"].expand(-1, -1, 3, -1, -1, -1)
    with torch.no_grad():
        assert_same(
            dict(zip(module.output_names, module(**shared), strict=True)),
            dict(zip(module.output_names, module(**repeated), strict=True)),
        )


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_tokens_at_padding_have_no_effect(model_type: str, conditioned: Conditioned) -> None:
    module = conditioned(model_type)
    rows = [row_of(module, 8, soft=2, prefix=1), row_of(module, 3, soft=1, prefix=2, seed=1)]
    padded, other = run(module, rows), run(module, rows, padding=77)
    assert_same(own(other, 1, 3), own(padded, 1, 3))


@pytest.mark.parametrize("model_type", [*TAKES_BOTH, "mpnet", "deberta-v2"])
def test_a_row_of_padding_stays_finite_and_leaves_the_others_alone(model_type: str, conditioned: Conditioned) -> None:
    module = conditioned(model_type)
    inputs = module.example_inputs(batch=2, sequence=4, virtual_tokens=0, prefix_length=0)
    inputs["attention_mask"] = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    with torch.no_grad():
        features, hidden = module(**inputs)
    assert features.isfinite().all()
    assert hidden.isfinite().all()
    whole = run(module, [Row(inputs["input_ids"][0], torch.zeros(0, module.embedding_size), empty_prefix(module))])
    assert_same({"features": features[0], "last_hidden_state": hidden[0]}, own(whole, 0, 4))


def empty_prefix(module: ConditionedTextEncoder) -> Tensor:
    return row_of(module, 1).prefix


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_gradient_reaches_every_number_of_every_prompt(model_type: str, conditioned: Conditioned) -> None:
    module = conditioned(model_type)
    inputs = module.example_inputs(batch=2, sequence=5, virtual_tokens=2, prefix_length=3)
    prompts = [inputs[name].requires_grad_() for name in inputs if name in {"soft_prompt", "prefix"}]
    module(**inputs)[0].square().sum().backward()
    assert len(prompts) == (2 if model_type in TAKES_BOTH else 1)
    for prompt in prompts:
        assert prompt.grad is not None
        assert (prompt.grad != 0).float().mean() > 0.99
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_layers_of_albert_share_a_module_and_have_a_prefix_each(conditioned: Conditioned) -> None:
    module = conditioned("albert", num_hidden_layers=3)
    assert module.layer_shapes == [(4, 8)] * 3
    assert module.embedding_size == 16
    assert module.feature_size == 32


def test_grouped_queries_have_a_prefix_of_few_heads(conditioned: Conditioned) -> None:
    assert conditioned("qwen3").layer_shapes == [(2, 8)] * 2


def test_modernbert_attends_within_a_window_shorter_than_the_sequence(conditioned: Conditioned) -> None:
    module = conditioned("modernbert", num_hidden_layers=2, global_attn_every_n_layers=2)
    window = conditioned("modernbert", num_hidden_layers=2, global_attn_every_n_layers=2, local_attention=64)
    row = row_of(module, 30, soft=2, prefix=2)
    assert differ(run(module, [row])["features"], run(window, [row])["features"]) > 1e-3


def test_positions_of_roberta_start_after_its_padding_index_and_after_the_prefix(conditioned: Conditioned) -> None:
    module = conditioned("roberta", max_position_embeddings=20)
    assert (module.position_offset, module.num_positions) == (2, 18)
    seen: list[list[list[int]]] = []
    module.model.embeddings.position_embeddings.register_forward_pre_hook(
        lambda _module, args: seen.append(args[0].tolist())
    )
    run(module, [row_of(module, 3, soft=2, prefix=4), row_of(module, 4, soft=0, prefix=1)])
    assert [positions[:5] for positions in seen[0]] == [[6, 7, 8, 9, 10], [3, 4, 5, 6, 7]]


def test_a_batch_wider_than_the_positions_works_if_its_rows_fit(conditioned: Conditioned) -> None:
    module = conditioned("roberta", max_position_embeddings=12)
    rows = [row_of(module, 2, soft=8), row_of(module, 9, seed=1), row_of(module, 1, prefix=9, seed=2)]
    together = run(module, rows)
    for index, row in enumerate(rows):
        assert_same(own(together, index, len(row.tokens)), own(run(module, [row]), 0, len(row.tokens)), f"row {index}")


@pytest.mark.parametrize(("model_type", "positions"), [("bert", 512), ("modernbert", None), ("t5", None)])
def test_positions_are_counted_where_they_were_learned(
    model_type: str, positions: int | None, conditioned: Conditioned
) -> None:
    module = conditioned(model_type)
    assert (module.position_offset, module.num_positions) == (0, positions)


def test_types_move_with_their_tokens_and_virtual_tokens_have_type_0(tiny_network: Callable[..., Any]) -> None:
    network = tiny_network("bert")
    ids, types = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]]), torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0]])
    mask = length_mask([6, 4])
    soft = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network(
            inputs_embeds=torch.cat([soft.expand(2, -1, -1), network.get_input_embeddings()(ids)], 1),
            attention_mask=mask,
            token_type_ids=torch.cat([torch.zeros(2, 2).long(), types], 1),
        ).last_hidden_state[:, 2:]
        module = ConditionedTextEncoder(network, "feature-extraction", "mean")
        arguments = no_prompt(module) | {"soft_prompt": soft, "attention_mask": mask, "input_ids": ids}
        _, found = module(**arguments, token_type_ids=types)
        _, without = module(**arguments)
    assert_same({"hidden": found[0]}, {"hidden": wanted[0]})
    assert_same({"hidden": found[1, :2]}, {"hidden": wanted[1, :2]})
    assert differ(without[0], found[0]) > 1e-2


def test_the_feature_is_that_of_the_first_token_under_cls_pooling(tiny_network: Callable[..., Any]) -> None:
    module = ConditionedTextEncoder(tiny_network("bert"), "feature-extraction", "cls")
    outputs = run(module, [row_of(module, 5, soft=3), row_of(module, 4, seed=1)])
    assert torch.equal(outputs["features"], outputs["last_hidden_state"][:, 0])


@pytest.mark.parametrize("kind", ["soft", "prefix"])
@pytest.mark.parametrize(
    ("model_type", "pooling", "layers"),
    [
        ("bert", "pooler", ("classifier",)),
        ("albert", "pooler", ("classifier",)),
        ("roberta", "first", ("classifier.dense", "tanh", "classifier.out_proj")),
        ("electra", "first", ("classifier.dense", "gelu", "classifier.out_proj")),
        ("distilbert", "first", ("pre_classifier", "relu", "classifier")),
    ],
)
def test_these_poolings_give_what_the_networks_own_head_reads(
    model_type: str, pooling: str, layers: tuple[str, ...], kind: str, tiny_network: Callable[..., Any]
) -> None:
    network = tiny_network(model_type, "text-classification", num_labels=3)
    module = ConditionedTextEncoder(network, "text-classification", pooling).eval()
    outputs = run(module, [row_of(module, 5, **{kind: 3}), row_of(module, 4, seed=1)])
    found = outputs["features"]
    functions = {"tanh": nn.Tanh(), "gelu": nn.GELU(), "relu": nn.ReLU()}
    for layer in layers:
        found = functions[layer](found) if layer in functions else network.get_submodule(layer)(found)
    assert_same({"logits": found}, {"logits": outputs["logits"]})


def test_a_network_without_a_pooler_says_so(tiny_network: Callable[..., Any]) -> None:
    module = ConditionedTextEncoder(tiny_network("distilbert"), "feature-extraction", "pooler")
    with pytest.raises(UnsupportedArchitectureError, match="DistilBertModel has no pooler; expected one of the"):
        _ = module.feature_size


def test_untouched_runs_the_networks_own_attention_and_puts_ours_back(
    conditioned: Conditioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = conditioned("bert")
    row = row_of(module, 4, prefix=2)
    before = run(module, [row])
    with monkeypatch.context() as patched:
        patched.setitem(
            AttentionInterface._global_mapping, ATTENTION_NAME, lambda *_args, **_others: pytest.fail("ours was called")
        )
        module.original_outputs({"input_ids": row.tokens[None], "attention_mask": torch.ones(1, 4).long()})
    assert_same(run(module, [row]), before)


def test_untouched_puts_ours_back_even_after_an_error(conditioned: Conditioned) -> None:
    module = conditioned("bert")
    row = row_of(module, 4, prefix=2)
    before = run(module, [row])
    with pytest.raises(IndexError):
        module.original_outputs({"input_ids": torch.full((1, 2), 100_000), "attention_mask": torch.ones(1, 2).long()})
    assert_same(run(module, [row]), before)


@pytest.mark.parametrize(("model_type", "task"), OWN_HEADS)
def test_the_own_head_without_a_prompt_is_the_untouched_one(
    model_type: str, task: str, tiny_network: Callable[..., Any]
) -> None:
    network = tiny_network(model_type, task, num_labels=3)
    tokens = padded_tokens(network)
    with torch.no_grad():
        plain = network(**tokens).logits
        module = ConditionedTextEncoder(network, task, "mean")
        _, logits = module(**tokens, **no_prompt(module))
    untouched = module.original_outputs(tokens)["logits"]
    for row, length in enumerate(tokens["attention_mask"].sum(1)):
        valid = slice(int(length)) if plain.dim() == 3 else slice(None)
        assert_same({"logits": logits[row, valid]}, {"logits": plain[row, valid]})
        assert_same({"logits": untouched[row, valid]}, {"logits": plain[row, valid]})


@pytest.mark.parametrize(("model_type", "task"), OWN_HEADS)
def test_the_own_head_reads_a_row_of_a_mixed_batch_as_that_row_alone(
    model_type: str, task: str, conditioned: Conditioned
) -> None:
    module = conditioned(model_type, task)
    rows = [row_of(module, *sizes, seed=seed) for seed, sizes in enumerate([(6, 3, 0), (4, 0, 4), (2, 1, 2)])]
    together, base = run(module, rows), run(module, [row_of(module, 6)])
    for index, row in enumerate(rows):
        alone = own(run(module, [row]), 0, len(row.tokens))
        assert_same(own(together, index, len(row.tokens)), alone, f"row {index}")
    assert together["logits"].shape[1:] == base["logits"].shape[1:]
    assert differ(together["logits"][0], base["logits"][0]) > 1e-2


@pytest.mark.parametrize("task", TASK_OUTPUTS)
def test_inputs_and_outputs_are_named_by_the_task(task: str, conditioned: Conditioned) -> None:
    module = conditioned("bert", task)
    assert module.input_names == ("input_ids", "attention_mask", "token_type_ids", "soft_prompt", "prefix")
    assert module.output_names == ("features", "last_hidden_state" if task == "feature-extraction" else "logits")
    assert tuple(module.dynamic_axes()) == module.input_names
    inputs = module.example_inputs(batch=2, sequence=5, virtual_tokens=3, prefix_length=4)
    assert tuple(inputs) == module.input_names
    for name, axes in module.dynamic_axes().items():
        other = module.example_inputs(batch=3, sequence=6, virtual_tokens=5, prefix_length=7)[name]
        changed = {axis for axis, length in enumerate(inputs[name].shape) if other.shape[axis] != length}
        assert changed <= set(axes)


@pytest.mark.parametrize(
    ("model_type", "slots"),
    [("bert", "prefix_length + num_virtual_tokens + sequence"), ("mpnet", "num_virtual_tokens + sequence")],
)
def test_the_mask_covers_the_kinds_that_the_network_takes(
    model_type: str, slots: str, conditioned: Conditioned
) -> None:
    assert conditioned(model_type).dynamic_axes()["attention_mask"] == {0: "batch", 1: slots}


@pytest.mark.parametrize("model_type", ["distilbert", "modernbert", "t5"])
def test_types_are_no_input_of_a_network_without_types(model_type: str, conditioned: Conditioned) -> None:
    assert "token_type_ids" not in conditioned(model_type).input_names


def test_example_tokens_never_are_padding_and_use_the_rest_of_the_vocabulary(conditioned: Conditioned) -> None:
    module = conditioned("roberta", vocab_size=8)
    ids = module.example_inputs(batch=2, sequence=200, virtual_tokens=0, prefix_length=0)["input_ids"]
    assert set(ids.flatten().tolist()) == set(range(8)) - {module.model.config.pad_token_id}


@pytest.mark.parametrize(("model_type", "argument"), [("clip_text_model", "inputs_embeds"), ("fnet", "attention_mask")])
def test_a_network_without_embeddings_or_mask_as_arguments_is_refused(
    model_type: str, argument: str, tiny_network: Callable[..., Any]
) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=f"takes no '{argument}'"):
        ConditionedTextEncoder(tiny_network(model_type), "feature-extraction", "mean")


def test_layers_of_different_sizes_take_no_prefix(tiny_network: Callable[..., Any]) -> None:
    network = tiny_network("llama")
    narrow = network.layers[1].self_attn
    narrow.k_proj, narrow.v_proj = (nn.Linear(32, 8, bias=False) for _ in range(2))
    narrow.num_key_value_groups = 4
    module = ConditionedTextEncoder(network, "feature-extraction", "mean")
    assert module.prefix_refusal == "LlamaModel has layers of different key and value sizes"
    assert network.config._attn_implementation != ATTENTION_NAME
