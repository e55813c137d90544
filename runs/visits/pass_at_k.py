"""A visit that draws answers to the set's questions and counts the right ones."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.visits.base import VisitRow

_AT_ONCE = 512  # sequences a forward pass


def _draw(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    table, count = spec.capture.pass_at_k, _count(spec)
    starts = _starts(spec)[:count]
    right = np.zeros((count, table.draws), bool)
    # Every draw has its own number, so that nothing depends on what shares its forward pass.
    longest = int((spec.inputs.length[:count] - starts).max())
    chances = np.random.default_rng(table.seed).random((count, table.draws, longest))
    each = max(1, _AT_ONCE // table.draws)
    for first in range(0, count, each):
        rows = slice(first, min(first + each, count))
        right[rows] = draw_answers(
            loaded,
            spec.inputs.tokens[rows],
            starts[rows],
            spec.inputs.length[rows],
            chances[rows],
            temperature=table.temperature,
            vocabulary=spec.vocabulary,
        )
    return xr.Dataset(
        {
            "correct": ("problem", right.sum(axis=1)),
            "draws": ("problem", np.full(count, table.draws)),
        }
    )


def draw_answers(
    loaded: LoadedModel,
    tokens: NDArray[np.int32],
    start: NDArray[np.int32],
    length: NDArray[np.int32],
    chances: NDArray[np.float64],
    *,
    temperature: float,
    vocabulary: int,
) -> NDArray[np.bool_]:
    """Which of several continuations of each prompt are the answer that stands behind it.

    Parameters
    ----------
    loaded
        The model.
    tokens : int32 array (problem, position)
        Prompt and right answer.
    start, length : int32 array (problem,)
        Where the answer begins, and where it ends.
    chances : float64 array (problem, draw, step)
        Uniform in [0, 1): what is drawn, by the inverse of the cumulative distribution.
    temperature
        Logits are divided by it.
    vocabulary
        Entries of the unembedding that are tokens.

    Returns
    -------
    bool array (problem, draw)

    Notes
    -----
    A draw ends where it leaves the answer: the rest could not make it right. Costs one forward pass an
    answer token over the draws that are still right; no cache of keys is kept.
    """
    problems, draws, _ = chances.shape
    width = int(length.max())
    right = np.ones((problems, draws), bool)
    for step in range(int((length - start).max())):
        place = start + step
        open_ = right & (place < length)[:, None]
        which = np.flatnonzero(open_.any(axis=1))
        if not len(which):
            break
        # Draws that are still right share their prefix: one row a problem tells what comes next.
        upto = torch.as_tensor(tokens[which, :width], dtype=torch.long, device=loaded.device)
        with torch.inference_mode():
            state = loaded.forward(upto)
            at = torch.as_tensor(place[which] - 1, dtype=torch.long, device=state.device)
            last = state[torch.arange(len(which), device=state.device), at]
            logits = loaded.unembedding.on(state.device).logits(last)[:, :vocabulary]
        chance = torch.softmax(logits.double() / temperature, dim=-1).cpu().numpy()
        ends = chance.cumsum(axis=-1)
        for row, problem in enumerate(which):
            picked = np.searchsorted(ends[row], chances[problem, :, step] * ends[row, -1], "right")
            hit = np.minimum(picked, vocabulary - 1) == tokens[problem, place[problem]]
            right[problem] &= hit | ~open_[problem]
    return right


def _starts(spec: Spec) -> NDArray[np.int32]:
    if spec.inputs.answer is None:
        raise InputError(
            f"key `inputs.{spec.inputs.name}.answer`: the visit `pass_at_k` needs to know which column "
            "holds the right answers"
        )
    return spec.inputs.answer


def _count(spec: Spec) -> int:
    return min(spec.capture.pass_at_k.problems, spec.inputs.samples)


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    _starts(spec)
    count = _count(spec)
    return {
        name: ArraySpec(("problem",), (count,), "int32", -1, (count,))
        for name in ("correct", "draws")
    }


ROW = VisitRow(
    "pass_at_k",
    _draw,
    _layout,
    lambda capture: capture.pass_at_k.model_dump(),
    version=1,
    source="draws of the model's own answers, arXiv 2107.03374 §2; arXiv 2509.23024 §5",
)
