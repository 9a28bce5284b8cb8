"""What the logits of a classifier mean, as `problem_type` of transformers' configurations says."""

from __future__ import annotations

from typing import Annotated

from edge_prompt.untrusted.records import one_of

REGRESSION = "regression"
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"

PROBLEM_TYPES = (REGRESSION, SINGLE_LABEL, MULTI_LABEL)
"""The values of `problem_type`. Without one, a single logit is one sigmoid, and several are one softmax."""

ProblemType = Annotated[str, one_of(PROBLEM_TYPES, "install a newer edge-prompt")]
"""A `problem_type` in a file."""
