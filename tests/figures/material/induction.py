"""Heads of a run: one learns to look back one token, later one learns induction, one is a sink."""

from __future__ import annotations

import numpy as np
import xarray as xr

INPUTS = (
    "1024 documents × 128 tokens, shuffle seed 0, N/d = 8.0"  # what all of the tree's figures say
)
BEHAVIOURS = ("previous", "duplicate", "induction", "first_key")


def rise(steps: np.ndarray, at: float) -> np.ndarray:
    return 0.85 / (1 + (at / np.maximum(steps, 1)) ** 3)


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    rng = np.random.default_rng(5)
    blocks = heads = len(layers) - 2
    steps = np.concatenate(list(runs.values()))
    branch = np.repeat(list(runs), [s.size for s in runs.values()])
    names = [f"{b}/step{s}" for b, s in zip(branch, steps, strict=True)]
    axis = {
        "checkpoint": (("checkpoint",), np.array(names)),
        "step": (("checkpoint",), steps),
        "tokens": (("checkpoint",), steps * 2048),
        "branch": (("checkpoint",), branch),
    }
    each = {**axis, "block": np.arange(1, blocks + 1), "head": np.arange(heads)}
    dims = ("checkpoint", "block", "head")
    scores = rng.uniform(0.01, 0.06, (4, steps.size, blocks, heads))
    scores[0, :, 0, 1] = rise(steps, 60)
    scores[1, :, 1, 0] = rise(steps, 200)
    scores[2, :, 2, 3] = rise(steps, 300)
    scores[2, :, 3, 2] = 0.6 * rise(steps, 320)
    scores[3, :, 1, 2] = 0.9
    uniform = rng.uniform(0.4, 0.8, scores.shape[1:])
    uniform[:, 0, 0] = 0.97

    def made(value, dims=dims, coords=each, unit="1", error=0.01, **more):
        data = {
            "value": (dims, value), "standard_error": (dims, np.full(value.shape, error)),
            "lower": (dims, value - 2 * error), "upper": (dims, value + 2 * error),
            **{name: (dims, x) for name, x in more.items()},
        }  # fmt: skip
        attrs = {"unit": unit, "level": 0.95, "set": "sotu", "inputs": INPUTS}
        return xr.Dataset(data, coords, {**attrs, "interval": "spread over samples, 95 %"})

    value = np.zeros((steps.size, blocks, heads, 4))
    for name in runs:
        own = np.flatnonzero(branch == name)
        above = np.moveaxis(scores, 0, -1)[own] >= 0.3
        value[own] = np.cumprod(above[::-1], axis=0)[::-1]
    # One checkpoint less certain on either side.
    early = value.copy()
    same = np.where(branch[1:] == branch[:-1], 0.4, 0)[:, None, None, None]
    early[:-1] = np.maximum(value[:-1], same * value[1:])
    copies = {**axis, "copy": np.array([1, 2])}
    loss = 7.6 + 0.1 * rng.normal(size=(steps.size, 2))
    loss[:, 1] -= 5 * rise(steps, 300)
    groups = ["none", "strongest", *(f"random {n + 1}" for n in range(4))]
    share = np.array([0, 1, 0.02, 0.1, 0.05, 0.3])
    lost = np.stack([0.05 * rise(steps, 300), 4 * rise(steps, 300)], axis=1)[..., None] * share
    names = (
        "previous_token_score",
        "duplicate_token_score",
        "induction_score",
        "repeated_first_key",
    )
    conventions = ("valid_rows", "valid_rows", "valid_rows", "mean")
    found = {f"{n}/{c}": made(s) for n, c, s in zip(names, conventions, scores, strict=True)}
    emergence = made(value, (*dims, "behaviour"), {**each, "behaviour": list(BEHAVIOURS)})
    emergence = emergence[["value"]].assign(probability=((*dims, "behaviour"), early))
    return {
        **found,
        "repeated_uniformity/normalised_visible": made(uniform),
        "repeated_loss/by_copy": made(loss, ("checkpoint", "copy"), copies, "nats", 0.05),
        "induction_ablation/zero": made(
            lost, ("checkpoint", "copy", "group"), {**copies, "group": groups}, "nats", 0.05
        ),
        "head_emergence/above_0.3": emergence,
    }  # fmt: skip
