"""The integrity gate: verdicts over a whole series, written into a store as statuses."""

from __future__ import annotations

import json

from runs.checkpoints import Checkpoint, Series
from runs.integrity import Fingerprint, judge_series
from runs.writing import DONE, FAILED, MISSING, StoreWriter

_MARKS = ("duplicate: ", "partial duplicate: ")
_SHORT = 16  # characters of a digest that are kept: 64 bits


def remember(writer: StoreWriter, checkpoint: Checkpoint, print_: Fingerprint) -> None:
    """Keep the digests of a checkpoint's large matrices in the store."""
    short = sorted(digest[:_SHORT] for digest in print_.large)
    writer.set_matrices(checkpoint.label, json.dumps(short))


def verdicts(writer: StoreWriter, series: Series, accept: tuple[str, ...]) -> dict[str, str]:
    """Judge the checkpoints whose digests the store has; label to reason of those not to be used."""
    large = {
        label: frozenset(json.loads(text)) for label, text in writer.matrices().items() if text
    }
    return judge_series(series.checkpoints, large, accept=accept)


def apply_verdicts(writer: StoreWriter, series: Series, accept: tuple[str, ...]) -> None:
    """Give cells the status that the verdicts ask for; data that are there stay as they are.

    A checkpoint found late to be a duplicate fails in every product; one that is accepted, or whose
    twin has gone, gets back what was captured of it.
    """
    found = verdicts(writer, series, accept)
    labels, products = writer.labels(), writer.products()
    status = writer.cells("status")
    failed = (status == FAILED).any(axis=1)
    mine = {c.label for c in series.checkpoints}
    # Only rows with a verdict, now or before, are read further: a table is a file a cell.
    rows = [r for r, label in enumerate(labels) if label in mine and (label in found or failed[r])]
    with writer.claim("store").wait():
        for row in rows:
            label = labels[row]
            errors, attempts = (writer.row(n, label, products) for n in ("error", "attempt"))
            for column, product in enumerate(products):
                marked = str(errors[product]).startswith(_MARKS)
                if label in found and (status[row, column] != FAILED or marked):
                    writer.set_cell(product, label, error=found[label], status=FAILED)
                elif label not in found and marked:
                    captured = bool(str(attempts[product]))
                    writer.set_cell(product, label, error="", status=DONE if captured else MISSING)
