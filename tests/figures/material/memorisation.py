"""Made-up memorisation: ρ rises as α falls, n-grams of higher order come closer later."""

from __future__ import annotations

import numpy as np
import xarray as xr

UPTO = np.array([3, 4, 5, 6, 7, 8, 2**31 - 1])
SHARES = np.array([0.25, 0.47, 0.16, 0.06, 0.03, 0.02, 0.01])


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _between, _checkpoints, _measure

    axis = _checkpoints(runs)
    steps = axis["step"][1]
    other = 0.05 * (axis["branch"][1] != "main")
    rho = _between(steps, [1, 16, 181, 1500], [-0.05, 0.3, 0.45, 0.72]) - other
    orders = np.arange(1, 6)
    ends = [[4.0, 1.2 - 0.1 * n, 0.4 + 0.3 * n, 1.0 + 0.8 * n] for n in orders]
    divergence = np.stack([_between(steps, [1, 16, 181, 1500], e) for e in ends], -1)
    agrees = np.stack(
        [_between(steps, [1, 20, 1500], [0.0, 0.1, 0.1 + 0.08 * n]) for n in orders], -1
    )
    both = ("checkpoint", "order")
    coords = {**axis, "order": orders}
    return {
        "memorisation/li2025_code": _measure(
            "memorisation", "li2025_code", ("checkpoint",), axis, rho, np.full(rho.shape, 0.03),
            unit="1",
        ),
        "ngram_divergence/backoff": _measure(
            "ngram_divergence", "backoff", both, coords, divergence,
            np.full(divergence.shape, 0.05), unit="nats",
        ),
        "ngram_agreement/backoff": _measure(
            "ngram_agreement", "backoff", both, coords, agrees, np.full(agrees.shape, 0.02),
            unit="1",
        ),
        "suffix_length/li2025": _measure(
            "suffix_length", "li2025", ("suffix_bin",), {"suffix_bin": UPTO},
            SHARES, np.full(SHARES.shape, 0.004), unit="1",
        ),
    }  # fmt: skip
