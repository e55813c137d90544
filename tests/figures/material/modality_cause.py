"""Causes of following: the answer's position takes over with depth; one layer can be steered."""

from __future__ import annotations

import numpy as np
import xarray as xr

INPUTS = (
    "1024 documents × 128 tokens, shuffle seed 0, N/d = 8.0"  # what all of the tree's figures say
)


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    rng = np.random.default_rng(11)
    blocks = len(layers) - 2
    steps = np.concatenate(list(runs.values()))
    branch = np.repeat(list(runs), [s.size for s in runs.values()])
    names = [f"{b}/step{s}" for b, s in zip(branch, steps, strict=True)]
    axis = {
        "checkpoint": (("checkpoint",), np.array(names)),
        "step": (("checkpoint",), steps),
        "tokens": (("checkpoint",), steps * 2048),
        "branch": (("checkpoint",), branch),
    }
    depth = np.linspace(0, 1, blocks + 1)
    sites = np.stack([depth**0.5, 0.4 * (1 - depth), 0.8 * (1 - depth) ** 2, np.ones(blocks + 1)])
    recovery = np.stack([sites, 0.9 * sites]) * (1 - 0.5 / (1 + steps))[:, None, None, None]
    recovery = recovery + 0.02 * rng.normal(size=recovery.shape)
    strengths = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    push = np.array([1.0, 0.1, -0.1, 0.05])[:, None] * strengths
    gain = np.where(np.arange(blocks)[:, None, None] == 0, 1.0, 0.1)
    following = 1 / (1 + np.exp(-(gain * push))) * np.ones((steps.size, 1, 1, 1))

    def made(value: np.ndarray, dims: tuple[str, ...], **coords: object) -> xr.Dataset:
        whole = ("checkpoint", *dims)
        data = {
            "value": (whole, value), "standard_error": (whole, np.full(value.shape, 0.02)),
            "lower": (whole, value - 0.04), "upper": (whole, value + 0.04),
        }  # fmt: skip
        attrs = {"unit": "1", "level": 0.95, "set": "sotu", "inputs": INPUTS, "interval": "made up"}
        return xr.Dataset(data, {**axis, **coords}, attrs)

    return {
        "modality_recovery/ratio_of_sums": made(
            recovery,
            ("direction", "site", "layer"),
            direction=["text_into_vision", "vision_into_text"],
            site=["answer", "image", "text", "sequence"],
            layer=np.arange(blocks + 1),
        ),
        "steered_following/top1": made(
            following,
            ("layer", "direction", "strength"),
            layer=np.arange(1, blocks + 1),
            direction=["fitted", "random 1", "random 2", "random 3"],
            strength=strengths,
        ),
    }
