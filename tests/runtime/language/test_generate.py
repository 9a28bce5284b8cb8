from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edge_prompt.base.errors import InputError, UnknownTaskError
from edge_prompt.formats.prompt import read_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.results import Generation
from tests.conftest import MakePrompt
from tests.tiny.language import CHAT_TEMPLATE, POSITIONS

TEXTS = ["the oil price", "states", "ministers of the meeting rose", "é 試 the"]
NAMES = ["soft", None, "prefix", "soft"]


@pytest.fixture(scope="module")
def network(tiny_language: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_language)


@pytest.fixture(scope="module")
def tokenizer(tiny_language: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_language)


def generated(answers: object) -> Generation:
    assert isinstance(answers, Generation)
    return answers


@pytest.mark.parametrize("text", TEXTS)
def test_without_a_prompt_it_is_the_base_model_token_for_token(
    text: str, language: Runtime, network: Any, tokenizer: Any
) -> None:
    ids = tokenizer(text, return_tensors="pt")
    reference = network.generate(**ids, max_new_tokens=20, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    found = generated(language.generate(text, max_new_tokens=20))
    assert list(found.tokens) == reference
    assert found.num_prompt_tokens == ids["input_ids"].shape[1]
    assert found.text == tokenizer.decode(reference, skip_special_tokens=True)


def test_a_soft_prompt_acts_as_preceding_embeddings(
    tasks: Runtime, prompts: dict[str, Path], network: Any, tokenizer: Any
) -> None:
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    soft = torch.from_numpy(np.array(read_prompt(prompts["soft"]).array, np.float32))[None]
    embeddings = torch.cat([soft, network.get_input_embeddings()(ids)], 1)
    with torch.no_grad():
        for token in generated(tasks.generate(TEXTS[0], "soft", max_new_tokens=12)).tokens:
            assert token == int(network(inputs_embeds=embeddings).logits[0, -1].argmax())
            embeddings = torch.cat([embeddings, network.get_input_embeddings()(torch.tensor([[token]]))], 1)


def test_rows_of_different_tasks_and_lengths_are_each_what_they_are_alone(tasks: Runtime) -> None:
    together = tasks.generate(TEXTS, NAMES, max_new_tokens=15, top_logprobs=2)
    alone = [
        generated(tasks.generate(text, name, max_new_tokens=15, top_logprobs=2))
        for text, name in zip(TEXTS, NAMES, strict=True)
    ]
    assert isinstance(together, list)
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.tokens, one.finish_reason) == (other.text, other.tokens, other.finish_reason)
        assert one.logprobs is not None
        assert other.logprobs is not None
        np.testing.assert_allclose(
            [a.logprob for a in one.logprobs], [b.logprob for b in other.logprobs], rtol=0, atol=1e-4
        )
    assert len({answer.tokens for answer in alone}) == len(alone)


def test_a_seed_makes_sampling_repeatable_in_a_batch_too(tasks: Runtime) -> None:
    settings: dict[str, Any] = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 7, "max_new_tokens": 15}
    together = tasks.generate(TEXTS, NAMES, **settings)
    assert together == [tasks.generate(text, name, **settings) for text, name in zip(TEXTS, NAMES, strict=True)]
    assert together != tasks.generate(TEXTS, NAMES, **settings | {"seed": 8})


def test_pieces_of_a_stream_are_the_text(tasks: Runtime) -> None:
    pieces = list(tasks.generate(TEXTS[0], "soft", stream=True, max_new_tokens=20))
    whole = generated(tasks.generate(TEXTS[0], "soft", max_new_tokens=20))
    assert "".join(map(str, pieces)) == whole.text
    assert tuple(piece.token for piece in pieces) == whole.tokens


def test_a_stream_that_is_closed_leaves_the_next_request_unharmed(tasks: Runtime) -> None:
    reference = tasks.generate(TEXTS[1], "prefix", max_new_tokens=10)
    stream = tasks.generate(TEXTS[0], "soft", stream=True, max_new_tokens=20)
    next(iter(stream))
    stream.close()
    assert tasks.generate(TEXTS[1], "prefix", max_new_tokens=10) == reference


def test_it_is_cancelled_from_another_thread(tasks: Runtime) -> None:
    cancel = threading.Event()
    seen = []
    for piece in tasks.generate(TEXTS[0], "soft", stream=True, cancel=cancel, max_new_tokens=50):
        seen.append(piece)
        if len(seen) == 3:
            thread = threading.Thread(target=cancel.set)
            thread.start()
            thread.join()
    assert seen[-1].finish_reason == "cancelled"
    assert len(seen) == 4


def test_threads_never_see_each_others_texts(tasks: Runtime) -> None:
    alone = {name: tasks.generate(TEXTS[0], name, max_new_tokens=12) for name in ("soft", "prefix", None)}
    with ThreadPoolExecutor(4) as pool:
        names = ["soft", "prefix", None] * 6
        for name, answer in zip(
            names, pool.map(lambda name: tasks.generate(TEXTS[0], name, max_new_tokens=12), names), strict=True
        ):
            assert answer == alone[name]


def test_token_ids_and_arrays_are_what_their_text_is(tasks: Runtime, tokenizer: Any) -> None:
    ids = tokenizer(TEXTS[0])["input_ids"]
    reference = tasks.generate(TEXTS[0], "soft", max_new_tokens=8)
    assert tasks.generate(ids, "soft", max_new_tokens=8) == reference
    assert tasks.generate(np.array(ids), "soft", max_new_tokens=8) == reference
    assert tasks.generate({"input_ids": np.array([ids])}, "soft", max_new_tokens=8) == [reference]


def test_the_messages_of_a_chat_are_put_into_the_models_own_template(tasks: Runtime, tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the oil price"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tasks.generate(messages, "soft", max_new_tokens=8) == tasks.generate(ids, "soft", max_new_tokens=8)
    assert isinstance(tasks.generate([messages, messages], ["soft", None], max_new_tokens=8), list)


def test_a_text_is_put_into_the_template_of_its_task(
    language: Runtime, make_prompt: MakePrompt, tiny_language_bundle: Path, prompts: dict[str, Path]
) -> None:
    language.load("plain", prompts["soft"])
    wrapped = make_prompt("soft", bundle=tiny_language_bundle, length=7, template="<|user|>{text}<|end|><|assistant|>")
    language.load("wrapped", wrapped)
    text = "<|user|>the price<|end|><|assistant|>"
    found = generated(language.generate("the price", "wrapped", max_new_tokens=8))
    reference = generated(language.generate(text, "plain", max_new_tokens=8))
    assert (found.tokens, found.num_prompt_tokens) == (reference.tokens, reference.num_prompt_tokens)


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        (TEXTS[0], {"max_new_tokens": 999}, r"plus 999 to generate for task 'soft'; expected at most \d+ new tokens"),
        ([5] * 121, {}, r"has 121 tokens plus 1 to generate for task 'soft'; expected a row of at most 120 tokens"),
        ([5] * 999, {}, r"row 0 has 999 tokens for task 'soft'; expected at most 121"),
        ("", {}, "text 0 is empty"),
        ([[]], {}, "row 0"),
        ("\ud800", {}, "text 0 is not valid Unicode"),
        ([5, -1], {}, "the token ids range from -1 to 5; expected ids from 0 to 319"),
        ([5, 320], {}, "the token ids range from 5 to 320"),
        ([[5.5]], {}, "row 0"),
        (3, {}, "the request is of type int"),
        (TEXTS[0], {"temperature": -1}, "temperature"),
        (TEXTS[0], {"top_p": 1.5}, "top_p"),
        (TEXTS[0], {"stop": ""}, "stop"),
        (TEXTS[0], {"tempreature": 1}, "tempreature"),
        ([], {}, "the request has no rows"),
    ],
)
def test_bad_requests_are_one_sentence(tasks: Runtime, inputs: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tasks.generate(inputs, "soft", **settings)


def test_an_unknown_task_is_named(tasks: Runtime) -> None:
    with pytest.raises(UnknownTaskError, match="no task 'sof' is loaded; expected one of soft, prefix"):
        tasks.generate(TEXTS[0], "sof")


def test_networks_that_cannot_generate_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="this bundle is for feature-extraction; expected one for text-generation"):
        Runtime(tiny_bundle).generate("w1")


def test_generation_ends_where_positions_do(tasks: Runtime) -> None:
    found = generated(tasks.generate([5] * 110, "soft", stop_token_ids=()))
    assert found.finish_reason in {"length", "stop"}
    assert len(found.tokens) <= POSITIONS - 7 - 110
