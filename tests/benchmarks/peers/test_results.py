from __future__ import annotations

import pytest

from benchmarks.peers.results import Sample, differing, first_ms, tokens_per_second


def test_the_first_token_is_no_part_of_decoding() -> None:
    sample = Sample((1, 2, 3), first_ms=500.0, all_ms=600.0)
    assert sample.tokens_per_second == pytest.approx(20.0)


def test_medians_over_rounds() -> None:
    samples = [Sample((1, 2), first, first + rest) for first, rest in ((1.0, 10.0), (3.0, 1000.0), (2.0, 20.0))]
    assert first_ms(samples) == 2.0
    assert tokens_per_second(samples) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"ours": [[1, 2], [3, 4]], "theirs": [[1, 2], [3, 4]]}, None),
        ({"alone": [[1, 2]]}, None),
        ({"ours": [[1, 2], [3, 4]], "theirs": [[1, 2], [3, 5]]}, "request 1 from token 1 on"),
        ({"ours": [[1, 2]], "same": [[1, 2]], "theirs": [[1]]}, "theirs and ours differ in request 0 from token 1 on"),
    ],
)
def test_differing_variants_are_reported(said: dict[str, list[list[int]]], place: str | None) -> None:
    found = differing(said)
    assert len(found) == (place is not None)
    assert all(str(place) in sentence for sentence in found)
