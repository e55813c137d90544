"""A visit that asks about every scene by its image, by its text and by both, and reads every layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from probes.answer_statistics import answer_statistics
from runs.errors import CheckpointError
from runs.loaded import LoadedModel
from runs.products.base import Arrays, ArraySpec, Spec, layer_coordinates
from runs.tables import CaptureTable
from runs.vision.asking import (
    answers_of,
    batches,
    case_columns,
    open_adapter,
    questions,
    scenes_of,
)
from runs.vision.base import CONDITIONS, VisionAdapter
from runs.visits.base import VisitRow

NAME = "answers"


def _ask(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    scenes = scenes_of(spec, NAME)
    cases = scenes.cases
    answers = answers_of(spec, cases)
    adapter = open_adapter(loaded, spec, cases, answers)
    layout = _layout(spec)
    found = {name: np.full(a.shape, a.fill, a.dtype) for name, a in layout.items()}
    for number, condition in enumerate(CONDITIONS):
        asked = questions(cases, condition)
        token = np.empty((len(asked.texts), answers.token.shape[1]), np.int32)
        token[asked.row] = answers.token  # cases of one input have one question
        read: list[Arrays] = []
        for part, texts, images in batches(spec, scenes, asked):
            with torch.inference_mode():
                states = adapter.final_states(adapter.inputs(texts, images))
                read.append(read_layers(adapter, states, token[part], spec.vocabulary))
        for name, array in found.items():
            distinct = np.concatenate([part[name] for part in read], axis=1)
            array[number] = distinct[:, asked.row]
    return xr.Dataset({name: (layout[name].dims, value) for name, value in found.items()})


def read_layers(
    adapter: VisionAdapter, states: torch.Tensor, token: NDArray[np.int32], vocabulary: int
) -> Arrays:
    """Answers at every layer, one layer's logits at a time.

    Parameters
    ----------
    adapter
        The checkpoint's.
    states : tensor (layer, sample, feature)
        At the last position; the last layer is after the final norm.
    token : int32 array (sample, candidate)
        −1 for no candidate.
    vocabulary
        Entries of the unembedding that are tokens.

    Returns
    -------
    dict of array (layer, sample, …)
    """
    layers = []
    chosen = torch.as_tensor(token, dtype=torch.long, device=states.device)
    for layer, state in enumerate(states):
        final = layer == len(states) - 1
        logits = adapter.final_logits(state) if final else adapter.lens_logits(state)
        if final and not bool(torch.isfinite(logits).all()):
            raise CheckpointError("the answers' logits hold NaN or Inf")
        found = answer_statistics(logits, vocabulary=vocabulary)
        picked = logits.gather(-1, chosen.clamp_min(0)).masked_fill(chosen < 0, torch.nan)
        layers.append({"candidate_logits": picked, **found})
    return {name: np.stack([layer[name].cpu().numpy() for layer in layers]) for name in layers[0]}


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    cases = scenes_of(spec, NAME).cases
    candidates = answers_of(spec, cases).token.shape[1]
    dims = ("condition", "layer", "sample")
    shape = (len(CONDITIONS), spec.shape.layers, len(cases))
    nan, chunk = float("nan"), (1, *shape[1:])

    def plain(dtype: str, fill: float, units: str) -> ArraySpec:
        return ArraySpec(dims, shape, dtype, fill, chunk, {"units": units})

    return {
        "candidate_logits": ArraySpec(
            (*dims, "candidate"),
            (*shape, candidates),
            "float32",
            nan,
            (*chunk, candidates),
            {"units": "1"},
        ),
        "entropy": plain("float32", nan, "nats"),
        "log_partition": plain("float32", nan, "nats"),
        "top1": plain("int32", -1, "token id"),
        "top1_probability": plain("float32", nan, "1"),
        "margin": plain("float32", nan, "1"),
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    cases = scenes_of(spec, NAME).cases
    return {
        "condition": (("condition",), np.array(CONDITIONS)),
        **layer_coordinates(spec.shape),
        **case_columns(cases, answers_of(spec, cases)),
    }


def _options(capture: CaptureTable) -> dict[str, object]:
    return dict(capture.answers.model_dump())


ROW = VisitRow(
    NAME,
    _ask,
    _layout,
    _options,
    version=1,
    source="unimodal and multimodal answers, token entropy and logit lens, arXiv 2511.02243 §3–5",
    coordinates=_coordinates,
)
