from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt_export.training.schedule import SCHEDULES


@pytest.mark.parametrize("name", SCHEDULES)
@given(st.integers(1, 300))
def test_every_factor_lies_between_0_and_1(name: str, steps: int) -> None:
    factors = [SCHEDULES[name](step, steps) for step in range(steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_to_1(name: str) -> None:
    assert max(SCHEDULES[name](step, 100) for step in range(100)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("name", "last"), [("cosine", 0), ("one-cycle", 0), ("constant", 1)])
def test_the_schedule_ends_at_its_final_value(name: str, last: float) -> None:
    assert SCHEDULES[name](999, 1000) == pytest.approx(last, abs=1e-2)
