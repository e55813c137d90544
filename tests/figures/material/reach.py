"""Sinks, massive activations and entropy by position of a made-up run."""

from __future__ import annotations

import numpy as np
import xarray as xr

from attention.sinks import uniform_importance
from runs.products.attention import position_bins


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _checkpoints, _measure

    rng = np.random.default_rng(11)
    axis = _checkpoints(runs)
    steps = np.maximum(axis["step"][1], 1)
    late = np.log(steps) / np.log(1500)
    blocks = len(layers) - 2
    heads = {**axis, "block": np.arange(1, blocks + 1), "head": np.arange(blocks)}
    shape = (steps.size, blocks, blocks)
    strong = rng.uniform(0, 0.8, shape[1:]) * (np.arange(blocks) > 0)[:, None]
    first = 0.07 + late[:, None, None] ** 2 * strong
    keys = np.stack([first, first / 3, first / 4, first / 5], axis=-1)
    rate = (first > 0.3).astype(float)
    by_key = {**heads, "key": np.arange(1, 5)}
    mass = _measure(
        "sink_mass", "by_key", ("checkpoint", "block", "head", "key"), by_key, keys,
        0.05 * keys, unit="1",
    )  # fmt: skip
    mass["uniform"] = mass["value"] * 0 + uniform_importance(64)[:4]
    share = rate.mean(axis=(1, 2))
    edges = position_bins(512)
    lengths = np.log(edges[:-1] + 1)
    slope = np.clip(1 - np.arange(blocks) / blocks, 0.1, 1)
    grown = lengths * (1 - late[:, None, None] * (1 - slope)[:, None])
    places = {**axis, "block": heads["block"], "position_bin": edges[:-1]}
    entropy = _measure(
        "entropy_by_position", "zhang2024_paper", ("checkpoint", "block", "position_bin"), places,
        grown, 0.01 + 0 * grown, unit="nats",
    )  # fmt: skip
    entropy["log_visible"] = entropy["value"] * 0 + lengths
    names = ["plain", "scaled", "base", "both"]
    others = np.stack([grown, 0.8 * grown, 0.9 * grown, 0.7 * grown], axis=1)
    scaled = _measure(
        "scaled_entropy_by_position", "zhang2024_paper",
        ("checkpoint", "condition", "block", "position_bin"), {**places, "condition": names},
        others, 0.01 + 0 * others, unit="nats",
    )  # fmt: skip
    scaled["log_visible"] = scaled["value"] * 0 + lengths
    levels = {
        **axis,
        "layer": np.arange(len(layers)),
        "layer_name": (("layer",), np.array(layers)),
    }
    depth = np.linspace(0, 1, len(layers))
    ratio = 10 * np.exp(6 * late[:, None] * depth)
    top = ratio[..., None] * np.array([1, 0.6, 0.2]) * 0.3
    return {
        "sink_mass/by_key": mass,
        "sink_rate/gu2025": _measure(
            "sink_rate", "gu2025", ("checkpoint", "block", "head"), heads, rate, unit="1"
        ),
        "model_sink_rate/gu2025": _measure(
            "model_sink_rate", "gu2025", ("checkpoint",), axis, share, 0.1 * share, unit="1"
        ),
        "entropy_by_position/zhang2024_paper": entropy,
        "scaled_entropy_by_position/zhang2024_paper": scaled,
        "massive_ratio/geometric": _measure(
            "massive_ratio", "geometric", ("checkpoint", "layer"), levels, ratio, 0.1 * ratio,
            unit="1",
        ),
        "largest_activation/sun2024": _measure(
            "largest_activation", "sun2024", ("checkpoint", "layer", "largest"),
            {**levels, "largest": [1, 2, 3]}, top, 0.05 * top, unit="activation",
        ),
        "median_activation/sun2024": _measure(
            "median_activation", "sun2024", ("checkpoint", "layer"), levels,
            0.3 + 0 * ratio, 0.01 + 0 * ratio, unit="activation",
        ),
    }  # fmt: skip
