from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edge_prompt_export.loading import LoadedBackbone
from edge_prompt_export.tuning.batches import Batch, Row, collate, shuffled_batches, sorted_batches, tokenise
from edge_prompt_export.tuning.data import Example

ROWS = st.lists(st.builds(Row, st.lists(st.integers(1, 99), min_size=1, max_size=9), st.integers(0, 3)), min_size=1)


def rows_of(batches: list[Batch]) -> Counter[tuple[tuple[int, ...], int]]:
    return Counter(
        (tuple(ids[mask > 0].tolist()), int(label))
        for batch in batches
        for ids, mask, label in zip(batch.input_ids, batch.attention_mask, batch.labels, strict=True)
    )


@given(ROWS, st.integers(1, 7), st.integers(0, 99))
def test_an_epoch_sees_every_row_once(rows: list[Row], batch_size: int, seed: int) -> None:
    wanted = Counter((tuple(row.input_ids), row.label) for row in rows)
    assert rows_of(shuffled_batches(rows, batch_size, 0, random.Random(seed))) == wanted
    assert rows_of(list(sorted_batches(rows, batch_size, 0))) == wanted


def test_rows_of_like_length_are_together() -> None:
    rows = [Row([1] * length, 0) for length in (1, 9) for _ in range(8)]
    batches = shuffled_batches(rows, 4, 0, random.Random(0))
    assert sorted(batch.input_ids.shape[1] for batch in batches) == [1, 1, 9, 9]


def test_epochs_differ_in_order() -> None:
    rows = [Row([number + 1], 0) for number in range(64)]
    rng = random.Random(0)
    first, second = (shuffled_batches(rows, 8, 0, rng) for _ in range(2))
    assert [batch.input_ids.tolist() for batch in first] != [batch.input_ids.tolist() for batch in second]


def test_short_rows_are_filled_up_and_masked() -> None:
    batch = collate([Row([5, 6, 7], 1), Row([8], 0)], pad_token_id=3)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 3, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [1, 0]


def test_texts_are_cut_and_put_into_the_template(loaded: LoadedBackbone) -> None:
    assert loaded.tokenizer is not None
    examples = [Example("w1 w2 w3 w4 w5", "b"), Example("w9", "a")]
    rows = tokenise(examples, ("a", "b"), loaded.tokenizer, "w7 {text}", max_tokens=5)
    wanted = [loaded.tokenizer(text)["input_ids"] for text in ("w7 w1 w2", "w7 w9")]
    assert rows == [Row(wanted[0], 1), Row(wanted[1], 0)]
