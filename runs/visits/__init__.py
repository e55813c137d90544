"""Visits: things done to a checkpoint while its weights are loaded, one a file."""

from runs.visits import (
    answers,
    eigen_ablation,
    entropy_scaled,
    head_ablation,
    head_importance,
    induction_ablation,
    last_row,
    lm_eval,
    modality_patching,
    modality_steering,
    ngrams,
    ov_copying,
    pass_at_k,
    qk_norms,
    repeated_heads,
    sinks,
)
from runs.visits.base import VisitFunction, VisitRow

# One visit a line: a new one is a file with its `ROW`, and its name here.
_MODULES = (
    head_ablation,
    pass_at_k,
    ngrams,
    lm_eval,
    eigen_ablation,
    qk_norms,
    sinks,
    entropy_scaled,
    last_row,
    repeated_heads,
    ov_copying,
    head_importance,
    induction_ablation,
    answers,
    modality_patching,
    modality_steering,
)

VISITS: dict[str, VisitRow] = {module.ROW.name: module.ROW for module in _MODULES}

__all__ = ["VISITS", "VisitFunction", "VisitRow"]
