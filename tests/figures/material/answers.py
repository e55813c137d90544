"""Made-up answers: the loss of answers falls, and the right ones are drawn more often."""

from __future__ import annotations

import numpy as np
import xarray as xr


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _between, _checkpoints, _measure

    axis = _checkpoints(runs)
    steps = axis["step"][1]
    other = axis["branch"][1] != "main"
    loss = _between(steps, [1, 30, 300, 1500], [7.4, 5.0, 3.0, 2.4]) - 0.8 * other
    ks = np.array([1, 2, 4, 8, 16])
    chance = np.clip(0.02 + 0.3 * other + steps / 6000, 0, 1)[:, None]
    found = 1 - (1 - chance) ** ks
    return {
        "answer_loss/surprisal": _measure(
            "answer_loss", "surprisal", ("checkpoint",), axis, loss, np.full(loss.shape, 0.03),
            unit="nats",
        ),
        "pass_at_k/chen2021": _measure(
            "pass_at_k", "chen2021", ("checkpoint", "k"), {**axis, "k": ks}, found,
            np.full(found.shape, 0.01), unit="1",
        ),
    }  # fmt: skip
