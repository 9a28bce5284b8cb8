from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.text.examples import TextExamples, TokenizedText, tokenise
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.examples import Batch

ROWS = st.lists(
    st.builds(TokenizedText, st.lists(st.integers(1, 99), min_size=1, max_size=9), st.integers(0, 3)), min_size=1
)


def text_rows(rows: list[TokenizedText], pad_token_id: int = 0, *, takes_types: bool = False) -> TextExamples:
    return TextExamples(rows, pad_token_id, takes_types=takes_types)


def rows_of(batches: Iterable[Batch]) -> Counter[tuple[tuple[int, ...], int]]:
    return Counter(
        (tuple(ids[mask > 0].tolist()), int(label))
        for batch in batches
        for ids, mask, label in zip(
            batch.request["input_ids"], batch.request["attention_mask"], batch.labels, strict=True
        )
    )


@given(ROWS, st.integers(1, 7), st.integers(0, 99))
def test_an_epoch_sees_every_row_once(rows: list[TokenizedText], batch_size: int, seed: int) -> None:
    wanted = Counter((tuple(row.input_ids), row.label) for row in rows)
    examples = text_rows(rows)
    assert len(examples) == len(rows)
    assert rows_of(examples.shuffled(batch_size, random.Random(seed))) == wanted
    assert rows_of(examples.ordered(batch_size)) == wanted


def test_rows_of_like_length_are_together() -> None:
    rows = [TokenizedText([1] * length, 0) for length in (1, 9) for _ in range(8)]
    batches = text_rows(rows).shuffled(4, random.Random(0))
    assert sorted(batch.request["input_ids"].shape[1] for batch in batches) == [1, 1, 9, 9]


def test_without_an_order_of_chance_the_shortest_come_first() -> None:
    rows = [TokenizedText([1] * length, 0) for length in (5, 2, 9, 3)]
    assert [batch.request["input_ids"].shape for batch in text_rows(rows).ordered(2)] == [(2, 3), (2, 9)]


def test_epochs_differ_in_order() -> None:
    examples = text_rows([TokenizedText([number + 1], 0) for number in range(64)])
    rng = random.Random(0)
    first, second = ([batch.request["input_ids"].tolist() for batch in examples.shuffled(8, rng)] for _ in range(2))
    assert first != second


def test_short_rows_are_filled_up_and_masked() -> None:
    (batch,) = text_rows([TokenizedText([5, 6, 7], 1), TokenizedText([8], 0)], pad_token_id=3).ordered(2)
    assert batch.request["input_ids"].tolist() == [[8, 3, 3], [5, 6, 7]]
    assert batch.request["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.labels.tolist() == [0, 1]


def test_token_types_are_zeros_for_the_networks_that_take_them() -> None:
    rows = [TokenizedText([5, 6, 7], 1), TokenizedText([8], 0)]
    (batch,) = text_rows(rows, takes_types=True).ordered(2)
    assert batch.request["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]
    (batch,) = text_rows(rows).ordered(2)
    assert set(batch.request) == {"input_ids", "attention_mask"}


def test_texts_are_truncated_and_put_into_the_template(loaded: LoadedBackbone) -> None:
    assert loaded.tokenizer is not None
    examples = [Example("w1 w2 w3 w4 w5", "b"), Example("w9", "a")]
    rows = tokenise(examples, ("a", "b"), loaded.tokenizer, "w7 {text}", max_tokens=5)
    wanted = [loaded.tokenizer(text)["input_ids"] for text in ("w7 w1 w2", "w7 w9")]
    assert rows == [TokenizedText(wanted[0], 1), TokenizedText(wanted[1], 0)]
