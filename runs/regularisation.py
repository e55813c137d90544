"""Training with fewer nonlinearities, and with attention entropies held near learned thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attention.bands import ROUNDING, band_of
from attention.regularisation import REFERENCES, highest_entropy
from runs.errors import InputError
from runs.models.diverging import stopped_said
from runs.models.neox import TrainConfig
from runs.models.trial import Log, Trial
from runs.models.variants import Regulariser, Variant
from runs.trials import check_counts, gather_logs, one_variable, sizes_of, small_config

# The paper's SM+LN+G, SM+LN+R, SM+G, SM+R and SM.
ARCHITECTURES = {
    "ln_gelu": Variant("ln_gelu", "LayerNorm and GELU"),
    "ln_relu": Variant("ln_relu", "LayerNorm and ReLU", activation="relu"),
    "gelu": Variant("gelu", "GELU, no LayerNorm", norms=False),
    "relu": Variant("relu", "ReLU, no LayerNorm", norms=False, activation="relu"),
    "none": Variant("none", "softmax alone", norms=False, activation="none"),
}
REGULARISERS = {
    "off": "none",
    "temperature": "learned temperatures alone",
    "jha2025_paper": "and the penalty on head means",
    "jha2025_code": "and the penalty on every row",
}
MARGINS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
BANDS = ("lowest", "low", "high", "highest")
_SWEPT = "none"
_SOURCE = "arXiv 2501.03489, section 4 and algorithm 1"


@dataclass(frozen=True)
class Regularisation:
    """The runs of `phasescope regularisation`.

    Attributes
    ----------
    seeds, steps, warmup : int
        Seeds of each cell, updates, and updates of linear warm-up.
    learning_rate : float
        The highest; cosine decay to a tenth follows.
    strength, margin : float
        λ and γ of the penalty.
    reference : str
        E_max, a key of `attention.regularisation.REFERENCES`.
    temperature, threshold : float
        Initial t and θ.
    margins : tuple of float
        γ of the runs without nonlinearities under the published code's penalty that show its effect.
    """

    seeds: int = 3
    steps: int = 200
    warmup: int = 30
    learning_rate: float = 0.003
    strength: float = 1e-5
    margin: float = 0.2
    reference: str = "log_length"
    temperature: float = 0.1
    threshold: float = 0.5
    margins: tuple[float, ...] = MARGINS

    def __post_init__(self) -> None:
        check_counts(self.seeds, self.steps, self.warmup)
        if not all(0 < x < math.inf for x in (self.learning_rate, self.temperature)):
            raise InputError("--learning-rate and --temperature must be above 0")
        if self.reference not in REFERENCES:
            raise InputError(
                f"--reference is {self.reference}; give one of {', '.join(REFERENCES)}"
            )
        if not all(0 <= x < math.inf for x in (self.strength, self.margin, *self.margins)):
            raise InputError("--strength, --margin and --margins must be 0 or more")
        if not self.margins or len({*self.margins}) < len(self.margins):
            raise InputError("--margins must be some numbers, each once")
        if not math.isfinite(self.threshold):
            raise InputError("--threshold must be a number")

    @property
    def kind(self) -> str:
        """Of the store."""
        return "regularisation"

    @property
    def settings(self) -> Mapping[str, str]:
        """Every setting as it is typed."""
        return {
            "seeds": f"{self.seeds}",
            "steps": f"{self.steps}",
            "warmup": f"{self.warmup}",
            "learning-rate": f"{self.learning_rate:g}",
            "strength": f"{self.strength:g}",
            "margin": f"{self.margin:g}",
            "reference": self.reference,
            "temperature": f"{self.temperature:g}",
            "threshold": f"{self.threshold:g}",
            "margins": ",".join(f"{margin:g}" for margin in self.margins),
        }

    def config(self, seed: int) -> TrainConfig:
        """Sizes and optimiser of one run."""
        return small_config(self.steps, self.learning_rate, self.warmup, seed)

    def variant(self, architecture: str, regulariser: str, margin: float) -> Variant:
        """An architecture with a regulariser, a key of `REGULARISERS`."""
        plain = ARCHITECTURES[architecture]
        if regulariser == "off":
            return plain
        convention = "" if regulariser == "temperature" else regulariser
        rule = Regulariser(
            convention, self.strength, margin, self.reference, self.temperature, self.threshold
        )
        return replace(plain, regulariser=rule)

    def trials(self) -> list[Trial]:
        """Every architecture with every regulariser, and the sweep over margins, seed by seed."""
        return [trial for seed in range(self.seeds) for trial in self._of_seed(seed)]

    def _of_seed(self, seed: int) -> list[Trial]:
        config = self.config(seed)
        found = [
            Trial(
                (("architecture", name), ("regulariser", regulariser), ("seed", seed)),
                config,
                self.variant(name, regulariser, self.margin),
            )
            for name in ARCHITECTURES
            for regulariser in REGULARISERS
        ]
        return found + [
            Trial(
                (("margin", margin), ("seed", seed)),
                config,
                self.variant(_SWEPT, "jha2025_code", margin),
            )
            for margin in self.margins
        ]

    def nodes(self, logs: Sequence[tuple[Trial, Log]]) -> dict[str, xr.Dataset]:
        """One dataset a measure."""
        config = self.config(0)
        labels = {
            "block": list(range(1, config.layers + 1)),
            "head": list(range(config.heads)),
        }
        each = ("block", "head")
        names: dict[str, tuple[str, ...]] = {"loss": (), "held_out_loss": (), "gradient_norm": ()}
        names |= {"entropy": each, "threshold": each, "temperature": each}
        grid = [(t, log) for t, log in logs if "margin" not in dict(t.cell)]
        sweep = [(t, log) for t, log in logs if "margin" in dict(t.cell)]
        whole = gather_logs(grid, names, coords=labels)
        swept = gather_logs(sweep, {"entropy": each, "held_out_loss": ()}, coords=labels)
        last = swept.isel(step=-1, drop=True)
        about = {"about": ("architecture", [v.about for v in ARCHITECTURES.values()])}
        named = {"told": ("regulariser", list(REGULARISERS.values()))}
        found = {
            "regularisation_loss/train": (one_variable(whole, "loss"), "nats"),
            "regularisation_loss/held_out": (one_variable(whole, "held_out_loss"), "nats"),
            "regularisation_gradient_norm/before_clipping": (
                one_variable(whole, "gradient_norm"),
                "nats / weight",
            ),
            "regularisation_entropy/zhai2023": (
                one_variable(whole, "entropy").assign(about).assign(named),
                "nats",
            ),
            "regularisation_threshold/share": (one_variable(whole, "threshold"), "1"),
            "regularisation_temperature/mean": (one_variable(whole, "temperature"), "1"),
        }
        uniform = highest_entropy(config.length, "causal_uniform")
        for convention, top in (("observed_max", None), ("causal_uniform", uniform)):
            shares = band_shares(last["entropy"], top).assign(held_out_loss=last["held_out_loss"])
            found[f"regularisation_bands/{convention}"] = (shares, "1")
        inputs = (
            f"{sizes_of(config)}; learning rate {self.learning_rate:g}, warm-up of {self.warmup} steps;"
            f" λ = {self.strength:g}, γ = {self.margin:g}, E_max {self.reference}, t from"
            f" {self.temperature:g}, θ from {self.threshold:g}; {self.seeds} seeds"
        )
        return {
            name: data.assign_attrs(
                measure=name.split("/")[0],
                convention=name.split("/")[1],
                unit=unit,
                source=_SOURCE,
                interval="none: every seed is kept",
                inputs=inputs,
                length=config.length,
                margin=self.margin,
                uniform=uniform,
            )
            for name, (data, unit) in found.items()
        }

    def sentences(self, nodes: Mapping[str, xr.Dataset]) -> list[str]:
        """What each architecture ends with, by regulariser."""
        loss = nodes["regularisation_loss/held_out"]["value"].isel(step=-1)
        entropy = nodes["regularisation_entropy/zhai2023"]["value"].isel(step=-1)
        theta = nodes["regularisation_threshold/share"]["value"].isel(step=-1)
        told = []
        for name, variant in ARCHITECTURES.items():
            for regulariser in REGULARISERS:
                cell = {"architecture": name, "regulariser": regulariser}
                ends = ", ".join(f"{value:.3g}" for value in loss.sel(cell).values)
                blocks = ", ".join(
                    f"{value:.2f}" for value in entropy.sel(cell).mean(("seed", "head")).values
                )
                said = f"{variant.about}, {regulariser}: held-out loss {ends}; blocks {blocks} nats"
                said += stopped_said(int(loss.sel(cell).isnull().sum()))
                shown = theta.sel(cell).values
                if regulariser.startswith("jha"):
                    said += f"; θ from {shown.min():.2f} to {shown.max():.2f}"
                told.append(said)
        bands = nodes["regularisation_bands/causal_uniform"]["value"].mean("seed")
        for margin in bands["margin"].values:
            shares = " / ".join(f"{100 * v:.0f}" for v in bands.sel(margin=margin).values)
            told.append(
                f"Softmax alone, jha2025_code, γ = {margin:g}: {shares} % of heads in the quarters of "
                "uniform attention's entropy"
            )
        return told


def band_shares(entropy: xr.DataArray, top: float | None) -> xr.Dataset:
    """Share of heads in each quarter of a reference.

    Parameters
    ----------
    entropy
        (…, block, head), nats.
    top
        The reference; None for the largest head entropy of each model.

    Returns
    -------
    xarray.Dataset
        `value` over (…, band), NaN where an entropy is; the last band takes what lies above too.
    """
    found = xr.apply_ufunc(
        _shares,
        entropy,
        input_core_dims=[["block", "head"]],
        output_core_dims=[["band"]],
        vectorize=True,
        kwargs={"top": top},
    )
    data = found.assign_coords(band=list(BANDS)).to_dataset(name="value")
    kept: xr.Dataset = data.drop_vars([name for name in data.coords if name not in data.dims])
    return kept


def _shares(entropy: NDArray[np.float64], top: float | None) -> NDArray[np.float64]:
    if not np.isfinite(entropy).all():
        return np.full(len(BANDS), np.nan)
    highest = float(entropy.max()) if top is None else top
    if highest < ROUNDING:
        return np.array([1.0, 0.0, 0.0, 0.0])
    band = band_of(entropy / highest).astype(int)
    shares: NDArray[np.float64] = np.bincount(band.ravel(), minlength=len(BANDS)) / band.size
    return shares
