"""When a training run cannot go on, said in words: which of its numbers is none, and after which step."""

from __future__ import annotations

import math

import torch


class DivergedError(ArithmeticError):
    """A loss, a gradient, a weight or a probability is no number; the text says which, and where."""


def check_update(step: int, loss: float, norm: float) -> None:
    """Refuse an update whose loss or gradient is no number.

    Parameters
    ----------
    step
        Of the update, 1 and up.
    loss, norm
        Its loss, and the norm of its gradient before clipping.

    Raises
    ------
    DivergedError
        If one is NaN or infinite.
    """
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            raise DivergedError(f"{name} {value} at step {step}")


def check_weights(step: int, model: torch.nn.Module) -> None:
    """Refuse weights that an update has made NaN or infinite, as a finite gradient can at a high rate.

    Parameters
    ----------
    step
        Of the last update.
    model
        Its parameters are looked at, which costs a pass over them.

    Raises
    ------
    DivergedError
        If a weight is no number; names the first parameter.
    """
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise DivergedError(f"a weight of `{name}` is no number after step {step}")


def stopped_said(count: int) -> str:
    """How many runs stopped before their last step, to put behind a sentence; empty for none."""
    return f"; {count} stopped at a loss that is no number" if count else ""
