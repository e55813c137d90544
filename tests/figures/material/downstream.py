"""Made-up scores: chance until step 100, then a rise; published ones at steps of their own."""

from __future__ import annotations

import numpy as np
import xarray as xr

CONDITIONS = ["original", "top10_removed", "top10_retained", "top50_removed", "top50_retained"]
TASKS = ["speech_cloze", "sciq"]
COEFFICIENTS = ["pearson", "spearman"]


def _axis(runs: dict[str, np.ndarray]) -> dict[str, tuple[tuple[str], np.ndarray]]:
    from tests.figures.conftest import _checkpoints

    return _checkpoints(runs)


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _measure

    axis = _axis(runs)
    steps = axis["step"][1]
    rise = np.interp(np.log(np.maximum(steps, 1)), np.log([100, 1500]), [0.25, 0.6])
    own = rise[:, None] + np.array([0.0, 0.1])
    both = ("checkpoint", "task")
    late = {"main": np.array([0, 1, 2, 64, 512, 1000, 1500])}
    published = np.linspace(0.25, 0.7, 7)[:, None]
    loss = 7.6 - 4 * (rise - 0.25)[:, None] + np.array([0, 0.05, 1.5, 0.6, 0.9])
    accuracy = np.clip(rise[:, None] - np.array([0.1, 0.11, 0.24, 0.13, 0.2]), 0.001, 1)
    scored = np.stack([accuracy + 0.1, accuracy + 0.15], axis=2)
    parts = {**axis, "condition": np.array(CONDITIONS)}
    found = {
        "task_score/acc": _measure(
            "task_score", "acc", both, {**axis, "task": np.array(TASKS)}, own,
            np.full(own.shape, 0.02), unit="1",
        ),
        "published_score/pythia_v1": _measure(
            "published_score", "pythia_v1", both, {**_axis(late), "task": np.array(["sciq"])},
            published, np.full(published.shape, 0.015), unit="1", model="pythia-1b",
            source="EleutherAI/pythia",
        ),
        "eigen_ablation_loss/surprisal": _measure(
            "eigen_ablation_loss", "surprisal", ("checkpoint", "condition"), parts, loss,
            np.full(loss.shape, 0.05), unit="nats",
        ),
        "eigen_ablation_accuracy/top1": _measure(
            "eigen_ablation_accuracy", "top1", ("checkpoint", "condition"), parts, accuracy,
            np.full(loss.shape, 0.005), unit="1",
        ),
        "eigen_ablation_score/acc": _measure(
            "eigen_ablation_score", "acc", ("checkpoint", "condition", "task"),
            {**parts, "task": np.array(TASKS)}, scored, np.full(scored.shape, 0.02), unit="1",
        ),
    }  # fmt: skip
    return found | {"score_correlation/li2025": _correlations(list(runs))}


def _correlations(branches: list[str]) -> xr.Dataset:
    from tests.figures.conftest import INPUTS

    dims = ("measure", "score", "branch", "coefficient")
    value = np.linspace(-0.9, 0.9, 2 * 2 * len(branches) * 2).reshape(2, 2, len(branches), 2)
    width = 0.3 * (1 - value**2)
    fields = {
        "value": value, "lower": value - width, "upper": value + width, "n": value * 0 + 30,
        "p": (1 - np.abs(value)) ** 8, "effective_n": value * 0 + 4.5,
        "p_effective": 1 - np.abs(value), "p_surrogate": 1 - np.abs(value) / 2,
        "differences": value / 3, "p_differences": 1 - np.abs(value) / 3,
    }  # fmt: skip
    return xr.Dataset(
        {name: (dims, values) for name, values in fields.items()},
        {
            "measure": np.array(["rankme", "alpha_req"]),
            "score": np.array(["speech_cloze", "sciq (published)"]),
            "branch": np.array(branches),
            "coefficient": np.array(COEFFICIENTS),
        },
        {
            "measure": "score_correlation", "convention": "li2025", "set": "sotu", "level": 0.95,
            "unit": "1", "source": "arXiv 2509.23024 Table 9", "interval": "Fisher's z",
            "inputs": INPUTS,
        },
    )  # fmt: skip
