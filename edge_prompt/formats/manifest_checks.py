"""Checks between the parts of a manifest: that requests, prompts and graphs fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_prompt.formats.kinds import FOLD_INPUTS, FOLD_OUTPUTS, PROMPT_INPUTS, KindShape
from edge_prompt.formats.kv_cache_names import TOKEN_INPUTS, past_names, present_names, shared_form, stateful_form
from edge_prompt.formats.preprocessing import ArrayPreprocessing, EncoderPreprocessing
from edge_prompt.untrusted.json_fields import Fields

Names = Sequence[str]


def require_request_inputs(fields: Fields, inputs: Names, outputs: Names, preprocessing: EncoderPreprocessing) -> None:
    """Check that a request and a prompt provide all inputs of an encoder's graph."""
    names, known = set(inputs), {*preprocessing.input_names, *PROMPT_INPUTS.values()}
    if len(known) < len(preprocessing.input_names) + len(PROMPT_INPUTS):
        fields.refuse(
            f"requests with the arrays {list(preprocessing.input_names)[:9]}", "names that are not prompt inputs"
        )
    if not preprocessing.required_inputs <= names <= known:
        needed = ", ".join(sorted(preprocessing.required_inputs))
        fields.refuse(f"the inputs {list(inputs)[:9]}", f"{needed}, and otherwise only {', '.join(sorted(known))}")
    if not isinstance(preprocessing, ArrayPreprocessing) and "features" not in outputs:
        fields.refuse(f"the outputs {list(outputs)[:9]}", "outputs that include 'features'")


def require_prompt_inputs(fields: Fields, inputs: Names, kinds: Mapping[str, KindShape]) -> None:
    """Check that a graph has exactly one prompt input for each kind of the bundle, so that no prompt is ignored."""
    found = set(inputs) & set(PROMPT_INPUTS.values())
    wanted = {PROMPT_INPUTS[kind] for kind in kinds if kind in PROMPT_INPUTS}
    if found != wanted:
        fields.refuse(
            f"the inputs {list(inputs)[:9]} and the kinds {list(kinds)}", "an input for each kind, and no others"
        )


def require_language_graph(fields: Fields, inputs: Names, outputs: Names, num_layers: int) -> None:
    """Check that a graph is a causal language model with `num_layers` layers, with shared buffers or stateful."""
    plain_inputs = (*TOKEN_INPUTS, *past_names(num_layers))
    plain_outputs = ("logits", *present_names(num_layers))
    forms = (shared_form(plain_inputs, plain_outputs), stateful_form(plain_inputs, plain_outputs))
    if not any(set(inputs) == set(ins) and set(outputs) == set(outs) for ins, outs in forms):
        fields.refuse(
            f"a graph from {list(inputs)[:9]} to {list(outputs)[:3]}",
            f"one of a language model with {num_layers} layers",
        )


def require_language_kinds(fields: Fields, kinds: Mapping[str, KindShape], kv_cache: Sequence[tuple[int, int]]) -> None:
    """Check that all kinds enter through the embeddings or the cache of a causal language model."""
    heads, head_dim = kv_cache[0]
    wanted = {"soft": kinds.get("soft"), "prefix": (len(kv_cache), 2, heads, None, head_dim)}
    is_uniform = len(set(kv_cache)) == 1
    if (
        "soft" not in kinds
        or any(shape != wanted.get(kind) for kind, shape in kinds.items())
        or ("prefix" in kinds and not is_uniform)
    ):
        fields.refuse(
            f"the kinds {dict(kinds)} of a language model", "soft, and optionally a prefix that matches the cache"
        )


def require_fold_graph(fields: Fields, inputs: Names, outputs: Names) -> None:
    """Check that a graph folds a deep prompt into a prefix."""
    if (inputs, outputs) != (FOLD_INPUTS, FOLD_OUTPUTS):
        fields.refuse(f"a fold graph from {list(inputs)[:9]} to {list(outputs)[:9]}", "one from deep_prompt to prefix")
