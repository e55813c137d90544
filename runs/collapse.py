"""Training at rising learning rates with and without σReparam, and where attention entropy ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from attention.regularisation import highest_entropy
from runs.errors import InputError
from runs.models.diverging import stopped_said
from runs.models.neox import TrainConfig
from runs.models.trial import MATRICES, Log, Trial
from runs.models.variants import Variant
from runs.trials import check_counts, gather_logs, one_variable, sizes_of, small_config

# Fixed before the first run, and all of it is reported.
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
COLLAPSED_BELOW = 0.1

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("baseline", "LayerNorm, plain weights"),
        Variant("sigma_code", "σReparam, γ from the spectral norm", reparametrisation="code"),
        Variant("sigma_paper", "σReparam, γ from 1", reparametrisation="paper"),
        Variant(
            "sigma_no_norm",
            "σReparam, γ from the spectral norm, no LayerNorm",
            reparametrisation="code",
            norms=False,
        ),
    )
}
_SOURCE = "arXiv 2303.06296, figure 1 and section 3"
_DIMS = ("variant", "learning_rate", "seed")


@dataclass(frozen=True)
class Collapse:
    """The runs of `phasescope collapse`.

    Attributes
    ----------
    seeds, steps, warmup : int
        Seeds of each cell, updates, and updates of linear warm-up (0: none, as collapse shows there).
    learning_rates : tuple of float
        Highest learning rate of a run; cosine decay to a tenth follows.
    variants : tuple of str
        Keys of `VARIANTS`.
    collapsed_below : float
        A block counts as collapsed if its mean entropy ends below this share of ln(T!)/T, that of uniform
        attention under a causal mask. The paper gives no threshold.
    """

    seeds: int = 3
    steps: int = 300
    warmup: int = 0
    learning_rates: tuple[float, ...] = LEARNING_RATES
    variants: tuple[str, ...] = tuple(VARIANTS)
    collapsed_below: float = COLLAPSED_BELOW

    def __post_init__(self) -> None:
        check_counts(self.seeds, self.steps, self.warmup)
        rates = self.learning_rates
        if not rates or not all(0 < r < math.inf for r in rates) or len({*rates}) < len(rates):
            raise InputError("--learning-rates must be above 0, each once, such as 0.001,0.01")
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown or not self.variants or len({*self.variants}) < len(self.variants):
            raise InputError(
                f"--variants is {','.join(self.variants)}; give some of {','.join(VARIANTS)}, each once"
            )
        if not 0 < self.collapsed_below < 1:
            raise InputError("--collapsed-below must lie between 0 and 1")

    @property
    def kind(self) -> str:
        """Of the store."""
        return "collapse"

    @property
    def settings(self) -> Mapping[str, str]:
        """Every setting as it is typed."""
        return {
            "seeds": f"{self.seeds}",
            "steps": f"{self.steps}",
            "warmup": f"{self.warmup}",
            "learning-rates": ",".join(f"{rate:g}" for rate in self.learning_rates),
            "variants": ",".join(self.variants),
            "collapsed-below": f"{self.collapsed_below:g}",
        }

    def config(self, learning_rate: float, seed: int) -> TrainConfig:
        """Sizes and optimiser of one run."""
        return small_config(self.steps, learning_rate, self.warmup, seed)

    def trials(self) -> list[Trial]:
        """Every variant at every learning rate from every seed."""
        return [
            Trial(
                (("variant", name), ("learning_rate", rate), ("seed", seed)),
                self.config(rate, seed),
                VARIANTS[name],
            )
            for seed in range(self.seeds)
            for rate in self.learning_rates
            for name in self.variants
        ]

    def nodes(self, logs: Sequence[tuple[Trial, Log]]) -> dict[str, xr.Dataset]:
        """One dataset a measure, over (variant, learning_rate, seed, step, …)."""
        config = self.config(self.learning_rates[0], 0)
        blocks, heads = list(range(1, config.layers + 1)), list(range(config.heads))
        whole = gather_logs(
            logs,
            {
                "loss": (),
                "held_out_loss": (),
                "gradient_norm": (),
                "entropy": ("block", "head"),
                "spectral_norm": ("block", "matrix"),
                "qk_norm": ("block", "head"),
                "gamma": ("block",),
                "norm_over_gamma": ("block",),
            },
            coords={"block": blocks, "head": heads, "matrix": MATRICES},
        )
        events = events_of(whole, length=config.length, below=self.collapsed_below)
        told = {"about": ("variant", [VARIANTS[name].about for name in self.variants])}
        found = {
            "collapse_loss/train": (one_variable(whole, "loss"), "nats"),
            "collapse_loss/held_out": (one_variable(whole, "held_out_loss"), "nats"),
            "collapse_gradient_norm/before_clipping": (
                one_variable(whole, "gradient_norm"),
                "nats / weight",
            ),
            "collapse_entropy/zhai2023": (one_variable(whole, "entropy"), "nats"),
            "collapse_spectral_norm/effective": (one_variable(whole, "spectral_norm"), "1"),
            "collapse_qk_norm/bare": (one_variable(whole, "qk_norm"), "1"),
            "collapse_gamma/fused_qkv": (
                whole[["gamma", "norm_over_gamma"]].rename(gamma="value"),
                "1",
            ),
            "collapse_events/share_of_uniform": (events.assign(told), "nats and steps"),
        }
        rates = ", ".join(f"{rate:g}" for rate in self.learning_rates)
        warmup = f"warm-up of {self.warmup} steps" if self.warmup else "no warm-up"
        inputs = f"{sizes_of(config)}; learning rates {rates}, {warmup}; {self.seeds} seeds"
        return {
            name: data.assign_attrs(
                measure=name.split("/")[0],
                convention=name.split("/")[1],
                unit=unit,
                source=_SOURCE,
                interval="none: every seed is kept",
                inputs=inputs,
                length=config.length,
                collapsed_below=self.collapsed_below,
            )
            for name, (data, unit) in found.items()
        }

    def sentences(self, nodes: Mapping[str, xr.Dataset]) -> list[str]:
        """What was found at each learning rate, by variant."""
        events = nodes["collapse_events/share_of_uniform"]
        below = float(events["threshold"])
        told = [
            f"Collapsed: a block's mean attention entropy ends below {below:.3g} nats, "
            f"{100 * self.collapsed_below:g} % of uniform attention's {float(events['uniform']):.4g}"
        ]
        for rate in events["learning_rate"].values:
            for variant in events["variant"].values:
                cell = events.sel(learning_rate=rate, variant=variant)
                told.append(f"Learning rate {rate:g}, {cell_said(cell)}")
        return told


def cell_said(cell: xr.Dataset) -> str:
    """What the seeds of one variant at one learning rate show."""
    lowest = ", ".join(f"{value:.3g}" for value in cell["lowest"].values)
    finals = ", ".join(f"{value:.3g}" for value in cell["final_loss"].values)
    stopped = int((~cell["finished"]).sum())
    return (
        f"{cell['variant'].item()}: collapsed in {int(cell['collapsed'].sum())} of {cell.sizes['seed']} "
        f"seeds (lowest block {lowest} nats); held-out loss {finals}{stopped_said(stopped)}"
    )


def events_of(whole: xr.Dataset, *, length: int, below: float) -> xr.Dataset:
    """Where runs end, and when a block's entropy first fell below the threshold.

    Parameters
    ----------
    whole
        `entropy` (…, step, block, head) in nats and `held_out_loss` (…, step); NaN after a run stopped.
    length
        T of the samples.
    below
        Share of ln(T!)/T that is the threshold.

    Returns
    -------
    xarray.Dataset over (…)
        `lowest` and `lowest_block`, the smallest block mean at the last logged step that is a number;
        `collapsed`, whether it lies below `threshold`; `ever`, whether a block lay below at any step, at
        `first_step` first; `final_loss` and `best_loss`, held-out; `finished`, whether the last
        step has a loss; `uniform` and `threshold` in nats.
    """
    uniform = highest_entropy(length, "causal_uniform")
    means = whole["entropy"].mean("head", skipna=False)
    there = means.notnull().all("block")
    # The first place where as many steps have been numbers as ever will: the last that is one.
    last = there.cumsum("step").argmax("step")
    end = means.isel(step=last).drop_vars("step")
    deepest = means.min("block", skipna=False)
    under = deepest < below * uniform
    loss = whole["held_out_loss"]
    return xr.Dataset(
        {
            "lowest": end.min("block"),
            "lowest_block": end.idxmin("block"),
            "collapsed": end.min("block") < below * uniform,
            "ever": under.any("step"),
            "first_step": whole["step"].where(under).min("step"),
            "final_loss": loss.isel(step=last).drop_vars("step"),
            "best_loss": loss.min("step"),
            "finished": loss.isel(step=-1, drop=True).notnull(),
            "uniform": uniform,
            "threshold": below * uniform,
        }
    )
