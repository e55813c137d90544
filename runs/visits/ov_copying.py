"""A visit that says which heads copy, from their weights alone."""

from __future__ import annotations

import numpy as np
import xarray as xr

from attention.copying import copying_eigenvalues, copying_score
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.value_output import token_overlap, value_output
from runs.visits.base import VisitRow


def _visit(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    overlap = token_overlap(loaded, spec.vocabulary)
    scores = np.empty((spec.shape.blocks, spec.shape.heads))
    for block in range(1, spec.shape.blocks + 1):
        matrices = value_output(loaded, block)
        found = copying_eigenvalues(matrices.value, matrices.output, overlap)
        scores[block - 1] = copying_score(found).numpy()
    return xr.Dataset({"score": (("block", "head"), scores)})


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    shape = (spec.shape.blocks, spec.shape.heads)
    attrs = {"units": "1"}
    return {"score": ArraySpec(("block", "head"), shape, "float64", float("nan"), shape, attrs)}


ROW = VisitRow(
    "ov_copying",
    _visit,
    _layout,
    lambda _: {},
    version=1,
    source="Σ λ / Σ |λ| of W_E W_V W_O W_U over the whole vocabulary (Elhage et al. 2021); gains and "
    "centring of norms folded in, biases and the positive factor 1/rms of each token left out, logits "
    "centred over the vocabulary",
)
