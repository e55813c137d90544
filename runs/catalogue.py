"""What the suite can compute: one pure function in a kernel folder and one row of `runs/rows/`.

Three kinds of row: `Reduce` turns captured variables into numbers, `Pair` two checkpoints into numbers;
a `visit` (runs/visits/) runs while a checkpoint's weights are loaded and is a product of its own.
"""

from __future__ import annotations

from runs.rows import (
    answers,
    attention,
    attention_bands,
    attention_weights,
    bands,
    dimension,
    dispersion,
    downstream,
    induction,
    ledger,
    memorisation,
    modality,
    modality_cause,
    predictive,
    reach,
    samples,
    similarity,
    sinks,
    spectra,
    tokens,
    trajectory,
    views,
    word_baselines,
    word_class_map,
    word_classes,
)
from runs.rows.base import ESTIMATE, LEVEL, Pair, Read, Reduce, Row

# One family a line: a new one is a file in runs/rows/ and its name here.
_FAMILIES = (
    spectra,
    bands,
    dispersion,
    dimension,
    attention,
    attention_bands,
    attention_weights,
    tokens,
    answers,
    similarity,
    ledger,
    predictive,
    trajectory,
    views,
    memorisation,
    downstream,
    samples,
    sinks,
    reach,
    induction,
    word_classes,
    word_baselines,
    word_class_map,
    modality_cause,
    modality,
)

MEASURES: dict[tuple[str, str], Row] = {
    (row.name, row.convention): row for family in _FAMILIES for row in family.ROWS
}

__all__ = ["ESTIMATE", "LEVEL", "MEASURES", "Pair", "Read", "Reduce", "Row"]
