"""A visit that looks where attention collects, and which heads put out little."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from attention.columns import column_sums
from attention.sinks import key_importance, uniform_column_sums
from runs.attention_tap import AttentionTap, attention_as, register
from runs.errors import InputError
from runs.inputs import load_tokenizer
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tables import SinksTable
from runs.visits.base import VisitRow, block_and_head

CLASSES = ("first", "separator", "delimiter", "other")


def _look(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    table, samples = spec.capture.sinks, chosen_samples(spec)
    tokens, length = spec.inputs.tokens[samples], spec.inputs.length[samples]
    classes = key_classes(tokens, length, _tokenizer(spec))
    found = {
        name: np.full(array.shape, np.nan) for name, array in _layout(spec).items()
    }  # (block, head, …); samples come first while a batch is looked at
    size = spec.capture.micro_batch or spec.capture.block
    for start in range(0, len(samples), size):
        rows = slice(start, min(start + size, len(samples)))
        longest = int(length[rows].max())
        ids = torch.as_tensor(tokens[rows, :longest], dtype=torch.long, device=loaded.device)
        real = torch.arange(longest) < torch.as_tensor(length[rows])[:, None]
        mask = None if bool(real.all()) else real.to(loaded.device)
        for block, seen in _attention(loaded, ids, mask, table):
            sums = seen["sums"].transpose(1, 0, 2)
            short = seen["window"].transpose(1, 0, 2)
            member = classes[rows, :longest, None] == np.arange(len(CLASSES))
            norms = np.where(real[:, None], seen["norms"], 0).sum(-1) / length[rows, None]
            at = (block - 1, slice(None), rows)
            found["importance"][at] = key_importance(sums, length[rows])[..., : table.keys]
            found["window_importance"][at] = key_importance(short, table.window)[..., : table.keys]
            found["class_mass"][at] = np.einsum("hsk,skc->hsc", sums, member) / length[rows, None]
            found["output_norm"][at] = norms.T
    found["uniform_class_mass"] = uniform_class_mass(classes, length)
    layout = _layout(spec)
    return xr.Dataset(
        {
            name: (layout[name].dims, value.astype(layout[name].dtype))
            for name, value in found.items()
        }
    )


def _attention(
    loaded: LoadedModel, ids: torch.Tensor, mask: torch.Tensor | None, table: SinksTable
) -> Iterator[tuple[int, dict[str, NDArray[np.float64]]]]:
    """Column sums and norms of outputs of every block (sample, head, …), over all rows and a window."""
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def inspect(
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: Mapping[str, Any],
        statistics: Mapping[str, torch.Tensor],
        output: torch.Tensor,
    ) -> None:
        normaliser = statistics["log_normaliser"]
        kept[block] = {
            "sums": column_sums(query, key, normaliser, **rule),
            "window": column_sums(query, key, normaliser, **rule, stop=table.window),
            "norms": output.float().norm(dim=-1),
        }

    tap = AttentionTap(inspect=inspect, key_mask=mask)
    with torch.inference_mode(), attention_as(loaded.model, register()), tap:
        loaded.forward(ids, mask)
    for block, parts in kept.items():
        yield block, {name: part.double().cpu().numpy() for name, part in parts.items()}


def chosen_samples(spec: Spec) -> NDArray[np.intp]:
    """The first samples that fill the window."""
    table = spec.capture.sinks
    there = np.flatnonzero(spec.inputs.length >= table.window)[: table.samples]
    if len(there) < 2:
        raise InputError(
            f"key `capture.sinks.window`: {len(there)} samples of `inputs.{spec.inputs.name}` have "
            f"{table.window} tokens, and 2 are needed; give a smaller window or longer samples"
        )
    return there


def key_classes(
    tokens: NDArray[np.int32], length: NDArray[np.int32], tokenizer: Any
) -> NDArray[np.int8]:
    """What each key is: an index into `CLASSES`, or −1 at padding.

    Parameters
    ----------
    tokens : int array (sample, position)
    length : int array (sample,)
    tokenizer
        A Hugging Face tokenizer.

    Returns
    -------
    int8 array (sample, position)
        `first` at position 0, whatever stands there; further on `separator` for BOS and end-of-text
        tokens, `delimiter` for tokens of punctuation or line ends alone, `other` for the rest.
    """
    found = np.full(tokens.shape, CLASSES.index("other"), np.int8)
    ids, where = np.unique(tokens, return_inverse=True)
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id} - {None}
    kinds = [
        "separator" if i in special else "delimiter" if _delimits(tokenizer, i) else "other"
        for i in ids.tolist()
    ]
    codes = np.array([CLASSES.index(kind) for kind in kinds], np.int8)
    found = codes[where].reshape(tokens.shape)
    found[:, 0] = CLASSES.index("first")
    found[np.arange(tokens.shape[1]) >= length[:, None]] = -1
    return found


def _delimits(tokenizer: Any, token: int) -> bool:
    text = str(tokenizer.decode([token]))
    bare = text.strip()
    if not bare:
        return "\n" in text
    return all(unicodedata.category(letter).startswith("P") for letter in bare)


def uniform_class_mass(classes: NDArray[np.int8], length: NDArray[np.int32]) -> NDArray[np.float64]:
    """Share of attention that each class would have if attention were uniform (sample, class)."""
    rows = []
    for own, real in zip(classes, length.tolist(), strict=True):
        sums = uniform_column_sums(real)
        rows.append([sums[own[:real] == c].sum() / real for c in range(len(CLASSES))])
    return np.array(rows)


def _tokenizer(spec: Spec) -> Any:
    if spec.tokenizer is None:
        raise InputError(
            "the visit `sinks` needs the series' tokenizer to know delimiters; set `series.tokenizer`"
        )
    return load_tokenizer(spec.tokenizer)


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    count, keys = len(chosen_samples(spec)), spec.capture.sinks.keys
    heads, dims = (spec.shape.blocks, spec.shape.heads, count), ("block", "head", "sink_sample")
    nan = float("nan")

    def array(*more: int, dim: str = "", told: str) -> ArraySpec:
        shape = (*heads, *more)
        names = (*dims, dim) if dim else dims
        return ArraySpec(names, shape, "float32", nan, shape, {"long_name": told})

    uniform = (count, len(CLASSES))
    return {
        "importance": array(keys, dim="key", told="mean attention a key receives, all rows"),
        "window_importance": array(
            keys, dim="key", told="mean attention a key receives, rows of the window"
        ),
        "class_mass": array(len(CLASSES), dim="key_class", told="share of attention"),
        "output_norm": array(told="mean norm of the head's output before the output projection"),
        "uniform_class_mass": ArraySpec(
            ("sink_sample", "key_class"), uniform, "float32", nan, uniform
        ),
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    samples = chosen_samples(spec)
    return {
        **block_and_head(spec),
        "key": (("key",), np.arange(1, spec.capture.sinks.keys + 1)),
        "key_class": (("key_class",), np.array(CLASSES)),
        "sink_group": (("sink_sample",), spec.inputs.group[samples]),
        "sink_length": (("sink_sample",), spec.inputs.length[samples]),
        "window_length": (("sink_sample",), np.full(len(samples), spec.capture.sinks.window)),
    }


ROW = VisitRow(
    "sinks",
    _look,
    _layout,
    lambda capture: capture.sinks.model_dump(),
    version=1,
    source="attention that keys receive, arXiv 2410.10781 §3; norms of head outputs, arXiv 2504.03889",
    coordinates=_coordinates,
)
