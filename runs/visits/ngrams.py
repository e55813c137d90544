"""A visit that holds the model's next-token distribution beside n-grams of its training text."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from probes.infinigram import compare_next
from runs.errors import CheckpointError, InputError
from runs.inputs import InputSet
from runs.loaded import LoadedModel
from runs.ngrams.source import NgramSource
from runs.products.base import ArraySpec, Spec
from runs.visits.base import VisitRow

_FORWARD = 16  # samples a forward pass
_ROWS = 64  # contexts whose logits are held at a time


class Contexts(NamedTuple):
    """Where n-grams are compared; each (context,), in order of samples."""

    sample: NDArray[np.int64]
    position: NDArray[np.int64]


class Followers(NamedTuple):
    """What followed one context in the training text, for one order."""

    tokens: NDArray[np.int64]
    counts: NDArray[np.int64]
    order: int  # of the prompt that was found: lower than asked for where that never occurred


def choose_contexts(inputs: InputSet, count: int, orders: int) -> Contexts:
    """Contexts spread over the samples, the same for every checkpoint.

    Samples take turns; within one, positions are drawn without replacement among those that have a
    following token and, where the sample is long enough, a full prompt of the highest order.

    Returns
    -------
    Contexts
        At most `count`, and no more than there are such positions.
    """
    rng = np.random.default_rng(0)
    queues = []
    for length in inputs.length.tolist():
        queues.append(rng.permutation(np.arange(max(min(orders, length) - 2, 0), length - 1)))
    turn = rng.permutation(inputs.samples)
    found: list[tuple[int, int]] = []
    for depth in range(max(map(len, queues), default=0)):
        for sample in turn.tolist():
            if len(found) < count and depth < len(queues[sample]):
                found.append((sample, int(queues[sample][depth])))
    chosen = np.array(sorted(found), np.int64).reshape(-1, 2)
    return Contexts(chosen[:, 0], chosen[:, 1])


def followers(
    source: NgramSource, inputs: InputSet, contexts: Contexts, orders: int
) -> list[list[Followers]]:
    """Exact n-gram counts at every context, by order 1…`orders`; backs off to the next lower order.

    An order-n prompt is the last n − 1 tokens. Where the corpus does not hold it, or never goes on after
    it, one token less is asked for: the longest that is known decides alone, nothing is mixed.
    """
    index = source.open()
    known: dict[tuple[int, ...], dict[int, int]] = {}
    found = []
    for sample, position in zip(*contexts, strict=True):
        tokens = inputs.tokens[sample, : position + 1].tolist()
        row = []
        for order in range(1, orders + 1):
            for used in range(min(order, len(tokens) + 1), 0, -1):
                prompt = tuple(tokens[len(tokens) - (used - 1) :])
                if prompt not in known:
                    known[prompt] = index.following(prompt)
                if known[prompt]:
                    break
            counts = known[prompt]
            row.append(
                Followers(
                    np.array(list(counts), np.int64),
                    np.array(list(counts.values()), np.int64),
                    used,
                )
            )
        found.append(row)
    return found


_prepared: dict[str, tuple[Contexts, list[list[Followers]]]] = {}


def _prepare(spec: Spec, source: NgramSource) -> tuple[Contexts, list[list[Followers]]]:
    """Contexts and counts of one set, once a process: they are the same for every checkpoint."""
    options = spec.capture.ngrams
    key = f"{spec.inputs.digest} {source.digest} {options.contexts} {options.orders}"
    if key not in _prepared:
        contexts = choose_contexts(spec.inputs, options.contexts, options.orders)
        _prepared[key] = contexts, followers(source, spec.inputs, contexts, options.orders)
    return _prepared[key]


def _compare(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    if spec.ngrams is None:
        raise InputError("the visit `ngrams` reads an index; add a table `[memorisation]`")
    options = spec.capture.ngrams
    contexts, counted = _prepare(spec, spec.ngrams)
    size = len(contexts.sample)
    divergence = np.full((options.orders, size), np.nan)
    agrees = np.full((options.orders, size), np.nan)
    used = np.full((options.orders, size), -1, np.int16)
    for start in range(0, size, _ROWS):
        rows = slice(start, min(start + _ROWS, size))
        logs = _log_probabilities(loaded, spec, contexts, rows)
        for i, log_probability in zip(range(*rows.indices(size)), logs, strict=True):
            for n, follower in enumerate(counted[i]):
                inside = follower.tokens < len(log_probability)
                used[n, i] = follower.order
                if not inside.any():
                    continue
                found = compare_next(
                    follower.tokens[inside], follower.counts[inside], log_probability
                )
                divergence[n, i], agrees[n, i] = found.divergence, float(found.agrees)
    return xr.Dataset(
        {
            "divergence": (("order", "ngram_context"), divergence),
            "agrees": (("order", "ngram_context"), agrees),
            "order_used": (("order", "ngram_context"), used),
        }
    )


def _log_probabilities(
    loaded: LoadedModel, spec: Spec, contexts: Contexts, rows: slice
) -> NDArray[np.float64]:
    """Natural logs of p of every token at some contexts (context, vocabulary)."""
    samples, positions = contexts.sample[rows], contexts.position[rows]
    wanted = np.unique(samples)
    states = []
    with torch.inference_mode():
        for start in range(0, len(wanted), _FORWARD):
            part = wanted[start : start + _FORWARD]
            longest = int(spec.inputs.length[part].max())
            ids = torch.as_tensor(
                spec.inputs.tokens[part, :longest], dtype=torch.long, device=loaded.device
            )
            state = loaded.forward(ids)  # padding is on the right: no real token sees it
            here = np.isin(samples, part)
            at = np.searchsorted(part, samples[here])
            states.append(state[at, positions[here]])
        state = torch.cat(states)
        head = loaded.unembedding.on(state.device)
        logits = head.logits(state)[:, : spec.vocabulary]
        if not bool(torch.isfinite(logits).all()):
            raise CheckpointError("the logits hold NaN or Inf")
        found: NDArray[np.float64] = (
            torch.log_softmax(logits.cpu().double(), dim=-1).numpy().astype(np.float64)
        )
    return found


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    options = spec.capture.ngrams
    size = len(choose_contexts(spec.inputs, options.contexts, options.orders).sample)
    shape = (options.orders, size)
    dims, nan = ("order", "ngram_context"), float("nan")
    return {
        "divergence": ArraySpec(dims, shape, "float64", nan, shape, {"units": "nats"}),
        "agrees": ArraySpec(dims, shape, "float64", nan, shape, {"units": "1"}),
        "order_used": ArraySpec(dims, shape, "int16", -1, shape),
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    options = spec.capture.ngrams
    contexts = choose_contexts(spec.inputs, options.contexts, options.orders)
    return {
        "order": (("order",), np.arange(1, options.orders + 1)),
        "context_sample": (("ngram_context",), contexts.sample),
        "context_position": (("ngram_context",), contexts.position),
        "context_group": (("ngram_context",), spec.inputs.group[contexts.sample]),
    }


ROW = VisitRow(
    "ngrams",
    _compare,
    _layout,
    lambda capture: capture.ngrams.model_dump(),
    version=1,
    source="n-grams of the training text beside the model's predictions, arXiv 2407.12034",
    coordinates=_coordinates,
)
