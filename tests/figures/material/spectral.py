"""Numbers of a spectrum: α by band, RankMe without the top, dispersion."""

from __future__ import annotations

import numpy as np
import xarray as xr


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _checkpoints, _measure

    rng = np.random.default_rng(5)
    axis = _checkpoints(runs)
    steps = np.maximum(axis["step"][1], 1)
    coords = {
        **axis,
        "layer": np.arange(len(layers)),
        "layer_name": (("layer",), np.array(layers)),
    }
    both = ("checkpoint", "layer")
    late = np.log(steps)[:, None] / np.log(1500) + 0.02 * np.arange(len(layers))
    late = late + rng.normal(0, 0.01, late.shape)

    def made(name, convention, value, unit, dims=both, extra=None, **more):
        found = _measure(
            name, convention, dims, {**coords, **(extra or {})}, value, 0.03 * value, unit=unit
        )
        return found.assign({key: (dims, values) for key, values in more.items()})

    bands, removed = ["1-10", "11-100", "101-500", "512+"], [1, 2, 8, 32]
    alpha = np.stack([0.5 + late, 3.0 - late, 1.8 - late, 1.2 - late / 2], axis=-1)
    rest = np.stack([30 + 9 * np.log1p(k) + 5 * late for k in removed], axis=-1)
    return {
        "band_alpha/centered": made(
            "band_alpha", "centered", alpha, "1", (*both, "band"), {"band": bands}
        ),
        "rankme_without_top/li2025": made(
            "rankme_without_top", "li2025", rest, "directions", (*both, "removed"),
            {"removed": removed},
        ),
        "participation_ratio/centered": made(
            "participation_ratio", "centered", 5 + 20 * late, "directions"
        ),
        "stable_rank/centered": made("stable_rank", "centered", 2 + 5 * late, "directions"),
        "anisotropy/ethayarajh2019": made("anisotropy", "ethayarajh2019", 0.9 - 0.8 * late, "1"),
        "condition_number/resolved": made(
            "condition_number", "resolved", 10 ** (5 - 2 * late), "1", last=127 + 0 * late
        ),
    }  # fmt: skip
