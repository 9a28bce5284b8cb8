"""Learning-rate schedules: the factor on the learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable

WARM_UP_SHARE = 0.1
"""Share of the steps in which the learning rate rises from 0."""

Schedule = Callable[[int, int], float]
"""Maps the step, counted from 0, and the number of steps to the factor."""


def cosine(step: int, steps: int) -> float:
    """A linear rise, then half a cosine down to 0 (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983)."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def one_cycle(step: int, steps: int) -> float:
    """A cosine rise over 30 % of the steps, then a cosine fall (Smith & Topin 2018, https://arxiv.org/abs/1708.07120)."""
    rise = max(1, round(0.3 * steps))
    if step < rise:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / rise))
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def constant(step: int, steps: int) -> float:
    """A linear rise, then 1."""
    return min(1.0, (step + 1) / max(1, round(WARM_UP_SHARE * steps)))


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "one-cycle": one_cycle, "constant": constant}
