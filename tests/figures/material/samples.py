"""Made-up numbers of samples, lengths and a second text, for figures that show several sets."""

from __future__ import annotations

import numpy as np
import xarray as xr

FRACTIONS = np.array([0.125, 0.25, 0.5, 1.0])
SAMPLES = 1024


def _axis(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, object]:
    steps = np.concatenate(list(runs.values()))
    branch = np.repeat(list(runs), [s.size for s in runs.values()])
    labels = [f"{b}/step{s}" for b, s in zip(branch, steps, strict=True)]
    along = ("checkpoint",)
    return {
        "checkpoint": (along, np.array(labels)),
        "step": (along, steps),
        "tokens": (along, steps * 2048),
        "branch": (along, branch),
        "layer": np.arange(len(layers)),
        "layer_name": (("layer",), np.array(layers)),
    }


def _described(measure: str, convention: str, chosen: str, length: int) -> dict[str, object]:
    return {
        "measure": measure, "convention": convention, "source": "made up", "set": chosen,
        "level": 0.95, "interval": "infinitesimal jackknife over samples", "unit": "1",
        "inputs": f"1024 documents × {length} tokens, shuffle seed 0, N/d = 8.0",
        "length": length,
    }  # fmt: skip


def _data(
    value: np.ndarray, dims: tuple[str, ...], coords: dict[str, object], attrs: dict[str, object]
) -> xr.Dataset:
    bounds = {"value": value, "lower": 0.95 * value, "upper": 1.05 * value}
    return xr.Dataset({name: (dims, data) for name, data in bounds.items()}, coords, attrs)


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    axis = _axis(runs, layers)
    steps = np.concatenate(list(runs.values())).astype(float)
    level = 10.0 + 3.0 * np.log1p(steps)[:, None] * np.linspace(0.5, 1.0, len(layers))
    found = {}
    for name, top in (("rankme", level), ("alpha_req", 40.0 / level)):
        both = ("checkpoint", "layer")
        parts = top[..., None] * (1 - 0.1 / FRACTIONS / 4)
        data = _data(
            parts, (*both, "fraction"), {**axis, "fraction": FRACTIONS},
            _described(f"{name}_samples", "li2025", "sotu", 128),
        )  # fmt: skip
        counts = np.broadcast_to(SAMPLES * FRACTIONS, parts.shape)
        found[f"{name}_samples/li2025"] = data.assign(samples=((*both, "fraction"), counts))
        for chosen, length, factor in (
            ("sotu32", 32, 0.7),
            ("sotu64", 64, 0.8),
            ("zweig", 128, 1.3),
        ):
            attrs = _described(name, "li2025", chosen, length)
            found[f"{name}/li2025/{chosen}"] = _data(factor * top, both, axis, attrs)
    beyond = _data(
        1.02 * level, ("checkpoint", "layer"), axis,
        _described("rankme", "li2025+half_sample", "sotu", 128),
    )  # fmt: skip
    trusted = (steps[:, None] != 1500) * np.ones(level.shape)
    found["rankme/li2025+half_sample"] = beyond.assign(trusted=(("checkpoint", "layer"), trusted))
    return found
