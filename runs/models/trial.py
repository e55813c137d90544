"""One short training run of a variant, and what is logged of it at steps even in log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from attention.regularisation import entropy_penalty
from runs.attention_tap import AttentionTap
from runs.models.diverging import DivergedError, check_update
from runs.models.neox import (
    TrainConfig,
    batch_rows,
    build_optimizer,
    checkpoint_steps,
    learning_rate,
    update,
)
from runs.models.sigma_reparam import reparam_of
from runs.models.tempered import collecting, thresholds_of
from runs.models.variants import (
    Variant,
    build_variant,
    head_matrices,
    qk_norms,
    spectral_norms,
)

Log = dict[str, NDArray[np.floating]]
MATRICES = ("query", "key", "value", "output")


@dataclass(frozen=True)
class Trial:
    """One run: what decides its numbers, and its place among the others.

    Attributes
    ----------
    cell : tuple of (dimension, label)
        Where its log belongs.
    config, variant
        Sizes, optimiser and seed; what is changed.
    """

    cell: tuple[tuple[str, str | float | int], ...]
    config: TrainConfig
    variant: Variant

    @property
    def label(self) -> str:
        """The cell in words."""
        return ", ".join(f"{name} {value}" for name, value in self.cell)

    @property
    def deciding(self) -> dict[str, Any]:
        """All that decides the numbers: not what the variant is called."""
        changed = {k: v for k, v in asdict(self.variant).items() if k not in ("name", "about")}
        return {**asdict(self.config), **changed}


def run_trial(
    trial: Trial,
    windows: NDArray[np.int64],
    held_out: NDArray[np.int64],
    *,
    progress: Callable[[int], None] | None = None,
) -> Log:
    """Train a variant and log it.

    Parameters
    ----------
    trial
        The run.
    windows : int array (window, length + 1)
        Text to train on.
    held_out : int array (window, length + 1)
        Text on which entropies and the loss are logged.
    progress
        Called after every update with its step.

    Returns
    -------
    dict of float64 arrays over step (n), as `checkpoint_steps` gives them
        `step`; `loss` and `gradient_norm` (before clipping) of that update, NaN at step 0;
        `held_out_loss`; `entropy` (n, block, head), mean of all rows, nats; `spectral_norm`
        (n, block, 4), of the effective W_Q, W_K, W_V, W_O over all heads; `qk_norm` (n, block, head);
        `gamma` and `norm_over_gamma`, ‖Ŵ‖₂ / |γ| (n, block), of the fused W_QKV, NaN without σReparam;
        `threshold` and `temperature` (n, block, head), the latter a mean over positions, NaN without.

        A run whose loss or gradient is no longer finite stops there; what would follow is NaN.
    """
    config = trial.config
    model = build_variant(config, trial.variant)
    optimizer = build_optimizer(model, config)
    steps = checkpoint_steps(config.steps, config.per_octave)
    log = _empty(config, steps)
    _record(log, 0, model, held_out, config)
    rule = trial.variant.regulariser
    penalised = rule is not None and bool(rule.convention)
    for step in range(1, config.steps + 1):
        rows = batch_rows(step, batch=config.batch, count=len(windows), seed=config.seed)
        model.train()
        with ExitStack() as stack:
            entropies = stack.enter_context(collecting()) if penalised else []
            loss, norm = update(
                model,
                optimizer,
                windows[rows],
                lr=learning_rate(step, config),
                clip=config.clip,
                extra=_penalty(model, trial.variant, entropies) if penalised else None,
            )
        try:
            check_update(step, loss, norm)
        except DivergedError:
            break  # the rest of the log stays NaN, and the sentences count such runs
        if step in steps:
            at = steps.index(step)
            log["loss"][at], log["gradient_norm"][at] = loss, norm
            _record(log, at, model, held_out, config)
        if progress is not None:
            progress(step)
    return log


def _penalty(
    model: Any, variant: Variant, entropies: list[torch.Tensor]
) -> Callable[[], torch.Tensor]:
    rule = variant.regulariser
    assert rule is not None

    def penalty() -> torch.Tensor:
        return rule.strength * entropy_penalty(
            torch.stack(entropies),
            thresholds_of(model),
            margin=rule.margin,
            convention=rule.convention,
            reference=rule.reference,
        )

    return penalty


def _empty(config: TrainConfig, steps: tuple[int, ...]) -> Log:
    shapes: dict[str, tuple[int, ...]] = {
        "loss": (),
        "gradient_norm": (),
        "held_out_loss": (),
        "entropy": (config.layers, config.heads),
        "spectral_norm": (config.layers, len(MATRICES)),
        "qk_norm": (config.layers, config.heads),
        "gamma": (config.layers,),
        "norm_over_gamma": (config.layers,),
        "threshold": (config.layers, config.heads),
        "temperature": (config.layers, config.heads),
    }
    log: Log = {name: np.full((len(steps), *shape), np.nan) for name, shape in shapes.items()}
    return {"step": np.array(steps, dtype=np.float64), **log}


@torch.no_grad()
def _record(
    log: Log, at: int, model: Any, held_out: NDArray[np.int64], config: TrainConfig
) -> None:
    model.eval()
    tokens = torch.from_numpy(held_out)

    def listen(block: int, statistics: dict[str, torch.Tensor]) -> None:
        log["entropy"][at, block - 1] = statistics["entropy"].double().mean(dim=(0, 2)).numpy()

    with AttentionTap(listener=listen):
        logits = model(tokens[:, :-1]).logits
    loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    log["held_out_loss"][at] = loss.item()
    for block, layer in enumerate(model.gpt_neox.layers):
        _record_weights(log, at, block, layer, config.heads)


def _record_weights(log: Log, at: int, block: int, layer: Any, heads: int) -> None:
    found = head_matrices(layer, heads)
    if not all(bool(weight.isfinite().all()) for weight in found.values()):
        return  # the last update made them so
    for index, name in enumerate(MATRICES):
        whole = found[name].flatten(0, 1)
        log["spectral_norm"][at, block, index] = spectral_norms(whole).item()
    log["qk_norm"][at, block] = qk_norms(found["query"], found["key"]).numpy()
    fused = layer.attention.query_key_value
    rule = reparam_of(fused)
    if rule is not None and rule.gamma is not None:
        gamma = rule.gamma.item()
        log["gamma"][at, block] = gamma
        norm = spectral_norms(fused.weight.detach()).item()
        # γ is free: at a high rate it may pass through 0.
        log["norm_over_gamma"][at, block] = norm / abs(gamma) if gamma else float("nan")
    if hasattr(layer.attention, "threshold"):
        log["threshold"][at, block] = layer.attention.threshold.numpy()
        log["temperature"][at, block] = layer.attention.temperature.mean(dim=1).numpy()
