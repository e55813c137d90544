"""Made-up logs of short training runs, set together as the commands set real ones together."""

from __future__ import annotations

import numpy as np
import xarray as xr

from runs.collapse import Collapse
from runs.models.neox import checkpoint_steps
from runs.models.trial import Log, Trial
from runs.regularisation import Regularisation

UNIFORM = 3.2057


def made_up(trial: Trial, rng: np.random.Generator) -> Log:
    """Entropy falls with the learning rate and not under σReparam; loss falls a little."""
    config = trial.config
    steps = np.array(checkpoint_steps(config.steps, config.per_octave), dtype=float)
    place = np.log1p(steps) / np.log1p(steps[-1])
    fall = 0.0 if trial.variant.reparametrisation else min(1.0, 10 * config.lr)
    shape = (steps.size, config.layers, config.heads)
    entropy = UNIFORM * (1 - 0.97 * fall * place[:, None, None]) * rng.uniform(0.96, 1, shape)
    loss = 6.93 - 2 * place + rng.normal(0, 0.05, steps.size)
    theta = 0.5 + 0.3 * place[:, None, None] * rng.uniform(-1, 1, shape)
    learned = trial.variant.regulariser is not None
    return {
        "step": steps,
        "loss": np.where(steps > 0, loss, np.nan),
        "gradient_norm": np.where(steps > 0, np.exp(loss), np.nan),
        "held_out_loss": loss + 0.1,
        "entropy": entropy,
        "spectral_norm": np.exp(rng.normal(0, 0.1, (*shape[:2], 4))),
        "qk_norm": np.exp(3 * fall * place[:, None, None] + rng.normal(0, 0.1, shape)),
        "gamma": np.full(shape[:2], 1.0 if trial.variant.reparametrisation else np.nan),
        "norm_over_gamma": np.full(shape[:2], 1.0 if trial.variant.reparametrisation else np.nan),
        "threshold": theta if learned else theta * np.nan,
        "temperature": theta if learned else theta * np.nan,
    }


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import INPUTS  # it imports this package

    rng = np.random.default_rng(0)
    found: dict[str, xr.Dataset] = {}
    for experiment in (Collapse(seeds=2, steps=32), Regularisation(seeds=2, steps=32, warmup=0)):
        logs = [(trial, made_up(trial, rng)) for trial in experiment.trials()]
        found |= experiment.nodes(logs)
    return {name: data.assign_attrs(inputs=INPUTS) for name, data in found.items()}
