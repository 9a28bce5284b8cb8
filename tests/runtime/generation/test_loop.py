from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from edge_prompt.base.errors import InputError, LogitsError
from edge_prompt_runtime.generation.loop import collect, generate_pieces
from edge_prompt_runtime.generation.results import Generation, Piece
from edge_prompt_runtime.generation.row import RowRequest
from edge_prompt_runtime.generation.settings import GenerationSettings
from tests.transformers_reference import cache_argument

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

VOCAB = 400
PROMPTS = [[5, 9, 200, 31], [77], [12, 300, 8, 8, 90, 41, 5], [1, 2]]


class TorchDecoding:
    """A transformers model as a `Decoding`: each row has its own cache."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache_argument = cache_argument(model)
        self._caches: list[DynamicCache] = []
        self.calls: list[str] = []

    def start(self, rows: Sequence[Int64]) -> Float32:
        self.calls.append(f"start {len(rows)}")
        self._caches = [DynamicCache(config=self._model.config) for _ in rows]
        return self._logits(rows)

    def step(self, tokens: Int64) -> Float32:
        self.calls.append(f"step {len(tokens)}")
        assert tokens.dtype == np.int64
        assert tokens.shape == (len(self._caches),)
        return self._logits(list(tokens[:, None]))

    def keep(self, rows: Sequence[int]) -> None:
        self.calls.append(f"keep {len(rows)}")
        self._caches = [self._caches[row] for row in rows]

    def close(self) -> None:
        self.calls.append("close")
        self._caches = []

    def _logits(self, rows: Sequence[Int64]) -> Float32:
        with torch.no_grad():
            answers = [
                self._model(torch.from_numpy(row)[None], use_cache=True, **{self._cache_argument: cache}).logits[0, -1]
                for row, cache in zip(rows, self._caches, strict=True)
            ]
        return np.asarray(torch.stack(answers).numpy(), dtype=np.float32)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(3)
    if request.param == "gpt2":
        config = GPT2Config(
            vocab_size=VOCAB, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
        )
        return GPT2LMHeadModel(config).eval()
    llama = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(llama).eval()


def requests_of(settings: GenerationSettings, prompts: Sequence[Sequence[int]] = PROMPTS) -> list[RowRequest]:
    return [RowRequest(np.array(prompt, np.int64), settings) for prompt in prompts]


def generated(model: Any, requests: list[RowRequest], decoder: Tokenizer | None = None) -> list[Generation]:
    return collect(generate_pieces(TorchDecoding(model), requests, decoder), requests)


def by_transformers(model: Any, prompt: list[int], **settings: Any) -> tuple[int, ...]:
    given = torch.tensor([prompt])
    out = model.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, pad_token_id=0, use_cache=True, **settings
    )
    return tuple(out[0, len(prompt) :].tolist())


@pytest.mark.parametrize("penalty", [None, 1.4])
def test_greedy_is_transformers_token_for_token(model: Any, penalty: float | None, bytes_tokenizer: Tokenizer) -> None:
    settings = GenerationSettings(max_new_tokens=24, repetition_penalty=penalty)
    for prompt, row in zip(PROMPTS, generated(model, requests_of(settings), bytes_tokenizer), strict=True):
        extra = {} if penalty is None else {"repetition_penalty": penalty}
        assert row.tokens == by_transformers(model, prompt, max_new_tokens=24, eos_token_id=None, **extra)
        assert row.text == bytes_tokenizer.decode(list(row.tokens))
        assert (row.finish_reason, row.num_prompt_tokens, row.logprobs) == ("length", len(prompt), None)


def test_stop_tokens_end_a_row_where_transformers_ends_it(model: Any) -> None:
    settings = GenerationSettings(max_new_tokens=24)
    stop = generated(model, requests_of(settings))[0].tokens[7]
    for prompt, row in zip(
        PROMPTS, generated(model, requests_of(replace(settings, stop_token_ids=(stop,)))), strict=True
    ):
        assert row.tokens == by_transformers(model, prompt, max_new_tokens=24, eos_token_id=stop)
        assert row.finish_reason == ("stop" if stop in row.tokens else "length")


def test_a_row_of_a_batch_is_the_row_alone_whatever_its_settings(model: Any, bytes_tokenizer: Tokenizer) -> None:
    settings = [
        GenerationSettings(max_new_tokens=5, top_logprobs=2),
        GenerationSettings(max_new_tokens=20, temperature=1.5, seed=1),
        GenerationSettings(max_new_tokens=12, temperature=0.9, top_k=20, top_p=0.9, seed=1, repetition_penalty=1.2),
        GenerationSettings(max_new_tokens=1),
    ]
    requests = [RowRequest(np.array(p, np.int64), s) for p, s in zip(PROMPTS, settings, strict=True)]
    together = generated(model, requests, bytes_tokenizer)
    assert together == [generated(model, [request], bytes_tokenizer)[0] for request in requests]
    assert [len(row.tokens) for row in together] == [5, 20, 12, 1]


def test_the_same_seed_gives_the_same_text_in_every_row(model: Any) -> None:
    requests = requests_of(GenerationSettings(max_new_tokens=16, temperature=1.0, seed=11), [PROMPTS[0]] * 3)
    first, *others = [row.tokens for row in generated(model, requests)]
    assert others == [first, first]
    other_seed = requests_of(GenerationSettings(max_new_tokens=16, temperature=1.0, seed=12), [PROMPTS[0]])
    assert generated(model, other_seed)[0].tokens != first


def test_rows_that_end_are_dropped(model: Any) -> None:
    limits = [3, 1, 3, 4]
    requests = [
        RowRequest(np.array(prompt, np.int64), GenerationSettings(max_new_tokens=limit))
        for prompt, limit in zip(PROMPTS, limits, strict=True)
    ]
    decoding = TorchDecoding(model)
    list(generate_pieces(decoding, requests, None))
    assert decoding.calls == ["start 4", "keep 3", "step 3", "step 3", "keep 1", "step 1", "close"]


def test_room_ends_a_row_before_its_limit(model: Any) -> None:
    request = RowRequest(np.array([5, 6], np.int64), GenerationSettings(max_new_tokens=9), room=4)
    assert [(len(row.tokens), row.finish_reason) for row in generated(model, [request])] == [(4, "length")]


def test_a_stop_string_ends_the_text_before_it(model: Any, bytes_tokenizer: Tokenizer) -> None:
    settings = GenerationSettings(max_new_tokens=24, temperature=1.0, seed=4)
    whole = generated(model, requests_of(settings), bytes_tokenizer)
    for prompt, row in zip(PROMPTS, whole, strict=True):
        stop = row.text[len(row.text) // 2 :][:3]
        requests = requests_of(replace(settings, stop=(stop,)), [prompt])
        cut = generated(model, requests, bytes_tokenizer)[0]
        assert cut.text == row.text[: row.text.index(stop)]
        assert cut.tokens == row.tokens[: len(cut.tokens)]
        assert cut.finish_reason == "stop"


def test_pieces_come_with_each_token_and_together_are_the_text(model: Any, bytes_tokenizer: Tokenizer) -> None:
    requests = requests_of(GenerationSettings(max_new_tokens=10, temperature=1.0, seed=2, top_logprobs=3))
    pieces = list(generate_pieces(TorchDecoding(model), requests, bytes_tokenizer))
    assert len(pieces) == 4 * 10
    rows = collect(pieces, requests)
    for index, row in enumerate(rows):
        mine = [piece for piece in pieces if piece.row == index]
        assert "".join(map(str, mine)) == row.text == str(row)
        assert [piece.finish_reason for piece in mine] == [None] * 9 + ["length"]
        assert row.logprobs == tuple(piece.logprobs for piece in mine)
        assert [logprobs.token for logprobs in row.logprobs] == list(row.tokens)


def test_log_probabilities_are_those_of_the_network(model: Any) -> None:
    requests = requests_of(GenerationSettings(max_new_tokens=6, temperature=1.0, seed=3, top_logprobs=1), [PROMPTS[2]])
    row = generated(model, requests)[0]
    tokens = torch.tensor([[*PROMPTS[2], *row.tokens]])
    with torch.no_grad():
        wanted = model(tokens).logits[0].double().log_softmax(-1)
    assert row.logprobs is not None
    for place, logprobs in enumerate(row.logprobs, len(PROMPTS[2]) - 1):
        assert logprobs.logprob == pytest.approx(float(wanted[place, logprobs.token]), abs=1e-4)
        assert logprobs.top[0][1] == pytest.approx(float(wanted[place].max()), abs=1e-4)


def test_cancelling_ends_every_row_with_what_it_has(model: Any, bytes_tokenizer: Tokenizer) -> None:
    requests = requests_of(GenerationSettings(max_new_tokens=50))
    cancel = threading.Event()
    decoding = TorchDecoding(model)
    pieces: list[Piece] = []
    for piece in generate_pieces(decoding, requests, bytes_tokenizer, cancel):
        pieces.append(piece)
        if len(pieces) == 9:
            thread = threading.Thread(target=cancel.set)
            thread.start()
            thread.join()
    rows = collect(pieces, requests)
    assert {row.finish_reason for row in rows} == {"cancelled"}
    assert [row.text for row in rows] == [bytes_tokenizer.decode(list(row.tokens)) for row in rows]
    assert [len(row.tokens) for row in rows] == [3] * 4
    assert decoding.calls[-1] == "close"


def test_cancelled_before_it_began_nothing_runs(model: Any) -> None:
    cancel = threading.Event()
    cancel.set()
    requests = requests_of(GenerationSettings(top_logprobs=0))
    decoding = TorchDecoding(model)
    rows = collect(generate_pieces(decoding, requests, None, cancel), requests)
    assert rows == [Generation("", (), "cancelled", len(prompt), ()) for prompt in PROMPTS]
    assert decoding.calls == []


def test_an_iterator_closed_early_releases_the_caches(model: Any) -> None:
    decoding = TorchDecoding(model)
    pieces = generate_pieces(decoding, requests_of(GenerationSettings(max_new_tokens=9)), None)
    next(pieces)
    pieces.close()
    assert decoding.calls == ["start 4", "close"]
    assert list(pieces) == []


def test_an_iterator_never_begun_starts_nothing(model: Any) -> None:
    decoding = TorchDecoding(model)
    generate_pieces(decoding, requests_of(GenerationSettings()), None).close()
    assert decoding.calls == []


def test_a_failure_releases_the_caches(model: Any) -> None:
    class Broken(TorchDecoding):
        def step(self, tokens: Int64) -> Float32:
            return np.full_like(super().step(tokens), np.nan)

    decoding = Broken(model)
    with pytest.raises(LogitsError):
        list(generate_pieces(decoding, requests_of(GenerationSettings(max_new_tokens=9)), None))
    assert decoding.calls == ["start 4", "step 4", "close"]


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (RowRequest(np.zeros(0, np.int64)), "row 0 has tokens of shape"),
        (RowRequest(np.zeros((1, 3), np.int64)), "row 0 has tokens of shape"),
        (RowRequest(np.ones(3, np.int64), room=0), "leave no room"),
        (RowRequest(np.ones(3, np.int64), GenerationSettings(max_length=3)), "the request has 3 tokens"),
        (RowRequest(np.ones(3, np.int64), GenerationSettings(stop=("x",))), "the bundle has no tokenizer"),
    ],
)
def test_invalid_requests_are_refused_at_the_call(model: Any, request_: RowRequest, found: str) -> None:
    with pytest.raises(InputError, match=found):
        generate_pieces(TorchDecoding(model), [request_], None)


def test_no_rows_give_no_pieces(model: Any) -> None:
    decoding = TorchDecoding(model)
    assert list(generate_pieces(decoding, [], None)) == []
    assert decoding.calls == []
