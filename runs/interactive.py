"""Capturing a model that is already in memory, from a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr
from pydantic import ValidationError

from runs.backends import backend_of, fused_within
from runs.errors import InputError
from runs.inputs import FOLDS, InputSet, assign_folds, set_digest
from runs.memory import fitting_micro_batch
from runs.opening import with_groups
from runs.passes import capture_set
from runs.points import choose_points
from runs.processor import processor
from runs.products import PRODUCTS
from runs.products.base import Spec
from runs.tables import CaptureTable
from runs.writing import DONE, digest, versions

_OPEN = (
    "products",
    "block",
    "micro_batch",
    "hidden",
    "moments",
    "attention",
    "fisher",
    "contexts",
    "trajectory",
    "massive",
)


def capture(
    model: Any,
    inputs: InputSet | Sequence[str],
    *,
    tokenizer: Any = None,
    length: int = 512,
    name: str = "inputs",
    step: int = 0,
    tokens: int = 0,
    **options: Any,
) -> xr.DataTree:
    """Capture a model in memory and give what `open_store` would.

    Parameters
    ----------
    model
        A Hugging Face causal language model, an `NNsight` around one, a `TransformerBridge`, or a
        backend. Hooks and interventions that were set on the latter two take part.
    inputs
        A set from `runs.inputs.build_set`, or at least 8 texts.
    tokenizer
        Needed for texts; they are cut to `length`.
    length
        Tokens a text at most.
    name
        Name of the set in the tree.
    step, tokens
        Where the model stands in its training, for the tree's coordinates.
    **options
        Keys of a recipe's `[capture]` that a model in memory leaves open: `products`, `block`,
        `micro_batch`, and the table of a product (`hidden`, `moments`, …).

    Returns
    -------
    xarray.DataTree
        As `open_store`, in memory, with one checkpoint: `measure(tree, …)` works on it. Costs the
        arrays of every product at once.

    Raises
    ------
    InputError
        If the model or an option is unknown, texts come without a tokenizer or are too few.
    """
    table = _table(options)
    backend = backend_of(model, fused_within=fused_within(table))
    table = table.model_copy(update={"device": backend.loaded.device.type})
    shape = backend.loaded.shape
    found = inputs if isinstance(inputs, InputSet) else _tokenise(inputs, tokenizer, length, name)
    vocabulary = shape.vocabulary if tokenizer is None else min(shape.vocabulary, len(tokenizer))
    points = choose_points(found, extra_positions=table.hidden.extra_positions)
    spec = Spec(found, points, shape, table, vocabulary)
    products = {p: PRODUCTS[p].collector(spec, backend.loaded.unembedding) for p in table.products}
    capture_set(
        backend,
        found,
        list(products.values()),
        block=table.block,
        micro_batch=table.micro_batch or fitting_micro_batch(spec),
    )
    row = _row(step, tokens)
    nodes = {"/checkpoints": _checkpoints(row, name, spec)}
    nodes |= {f"/sets/{name}/{part}": data for part, data in _set_nodes(spec).items()}
    for product, collector in products.items():
        nodes[f"/sets/{name}/{product}"] = _product_node(product, spec, collector.finish(), row)
    attrs = {
        "name": type(model).__name__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "warnings": [],
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **nodes})


def _table(options: dict[str, Any]) -> CaptureTable:
    for key in options:
        if key not in _OPEN:
            raise InputError(f"capture: no option `{key}`; there are {', '.join(_OPEN)}")
    try:
        return CaptureTable.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"capture: option `{key}`: {first['msg']}") from None


def _tokenise(texts: Sequence[str], tokenizer: Any, length: int, name: str) -> InputSet:
    if tokenizer is None:
        raise InputError("capture: texts need `tokenizer=`")
    if len(texts) < FOLDS:
        raise InputError(f"capture: {len(texts)} texts; at least {FOLDS} are needed for folds")
    ids = [row[:length] for row in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    if min(map(len, ids)) < 2:
        raise InputError("capture: a text has fewer than 2 tokens; leave it out")
    sizes = np.array([len(row) for row in ids], np.int32)
    whole = np.zeros((len(ids), int(sizes.max())), np.int32)
    for place, row in zip(whole, ids, strict=True):
        place[: len(row)] = row
    group = np.arange(len(ids), dtype=np.int32)
    fold = assign_folds(group)
    return InputSet(
        name,
        whole,
        sizes,
        fold,
        group,
        description=f"{len(ids)} texts × {whole.shape[1]} tokens",
        digest=set_digest([whole, sizes, fold, group], {}),
    )


def _row(step: int, tokens: int) -> dict[str, Any]:
    """Coordinates of the one checkpoint."""
    return {
        "checkpoint": ("checkpoint", np.array([f"main/step{step}"])),
        "step": ("checkpoint", np.array([step])),
        "tokens": ("checkpoint", np.array([tokens])),
        "branch": ("checkpoint", np.array(["main"])),
    }


def _checkpoints(row: dict[str, Any], name: str, spec: Spec) -> xr.Dataset:
    labels = np.array([f"{name}/{product}" for product in spec.capture.products])
    # A capture has no weights digest: a draw of the clock keeps two captures apart in lineages.
    attempt = digest([spec.inputs.digest, datetime.now(UTC).isoformat()])
    cells = ("checkpoint", "product")
    return xr.Dataset(
        {
            "status": (cells, np.full((1, len(labels)), DONE, np.uint8)),
            "attempt": (cells, np.full((1, len(labels)), attempt)),
            "error": (cells, np.full((1, len(labels)), "")),
            "processor": (cells, np.full((1, len(labels)), processor(spec.capture.device))),
        },
        coords={**row, "product": labels},
    )


def _set_nodes(spec: Spec) -> dict[str, xr.Dataset]:
    inputs, points = spec.inputs, spec.points
    of_inputs = xr.Dataset(
        {
            "tokens": (("sample", "position"), inputs.tokens),
            "length": ("sample", inputs.length),
            "fold": ("sample", inputs.fold),
            "group": ("sample", inputs.group),
            **{label: ("sample", values) for label, values in inputs.labels.items()},
        },
        attrs={"description": inputs.description, "digest": inputs.digest},
    )
    of_points = xr.Dataset(
        {
            "sample": ("point", points.sample),
            "position": ("point", points.position),
            "last": ("point", points.last),
        }
    )
    return {"inputs": of_inputs, "points": with_groups(of_points, of_inputs)}


def _product_node(product: str, spec: Spec, arrays: Any, row: dict[str, Any]) -> xr.Dataset:
    row_of = PRODUCTS[product]
    layout = row_of.layout(spec)
    return xr.Dataset(
        {
            name: (("checkpoint", *layout[name].dims), values[None], dict(layout[name].attrs))
            for name, values in arrays.items()
        },
        coords={**row_of.coordinates(spec), **row},
    )
