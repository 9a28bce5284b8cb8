from __future__ import annotations

import pytest

from benchmarks.measure import Samples


def test_median_and_quartiles() -> None:
    samples = Samples(tuple(map(float, range(1, 102))))
    assert samples.median_us == 51
    assert samples.spread_us == pytest.approx((25.5, 76.5))
