"""Two real series on paper: what they would take to download, store, hold in memory and compute.

Shapes, layouts and checkpoints are the real ones (a `Spec` of runs/products, parameters counted on
torch's meta device, steps from the published tables); speeds and prices are the assumptions below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, Olmo2Config, PretrainedConfig

from benchmarks.fakes import fake_set
from runs.architectures import model_shape
from runs.inputs import FOLDS
from runs.points import choose_points
from runs.products import PRODUCTS
from runs.products.base import Spec
from runs.products.moments import CENTERINGS
from runs.tables import CaptureTable

SAMPLES, LENGTH = 15_000, 512  # the phase paper's probe set
# Assumptions.
FORWARD_FLOPS = 0.4 * 312e12  # A100 in bfloat16 at 40 % of its peak
FLOAT64_FLOPS = 0.5 * 19.5e12  # A100 tensor cores in float64 at half their peak
STATISTICS = (
    1.2  # attention rows and token statistics, × the forward pass (docs/performance.md: 1.16–1.28)
)
EIGVALSH = (
    1.83 / 3072**3
)  # seconds of one core for each d³, measured on this project's machine at d = 3072
CORES_WORTH = 6  # how much faster a 16-core host is at it than one core
PRICE = 2.0  # dollars an A100 hour


@dataclass(frozen=True)
class Series:
    """A published series."""

    name: str
    config: PretrainedConfig
    checkpoints: int


def published() -> list[Series]:
    """Checkpoints of Pythia from its README; of OLMo-2 from olmo_steps.csv, all stages."""
    pythia = GPTNeoXConfig(
        vocab_size=50688,
        hidden_size=5120,
        num_hidden_layers=36,
        num_attention_heads=40,
        intermediate_size=20480,
        architectures=["GPTNeoXForCausalLM"],
    )
    olmo = Olmo2Config(
        vocab_size=100352,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=11008,
        architectures=["Olmo2ForCausalLM"],
    )
    return [Series("Pythia-12B", pythia, 154), Series("OLMo-2-7B", olmo, 935 + 3 * 12)]


def parameters(config: PretrainedConfig) -> int:
    """Counted, not allocated."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())


def estimate(series: Series) -> list[tuple[str, str]]:
    """One column of the table."""
    shape = model_shape(series.config, where=series.name)
    inputs = fake_set(SAMPLES, LENGTH)
    spec = Spec(inputs, choose_points(inputs), shape, CaptureTable(), shape.vocabulary)
    layouts = {name: PRODUCTS[name].layout(spec).values() for name in spec.capture.products}
    stored = {name: sum(a.bytes for a in arrays) for name, arrays in layouts.items()}
    count, n, d = parameters(series.config), series.checkpoints, shape.width
    pools = len(spec.capture.moments.pools)
    moments = shape.layers * pools * 2 * d * d * 8
    hidden = shape.layers * len(spec.points) * d * 4
    tokens = SAMPLES * LENGTH
    forward = 2 * count * tokens / FORWARD_FLOPS * STATISTICS / 3600
    scatter = 2 * shape.layers * d * d * tokens / FLOAT64_FLOPS / 3600
    spectra = shape.layers * pools * len(CENTERINGS) * (FOLDS + 1)
    eigen = spectra * EIGVALSH * d**3 / CORES_WORTH / 3600
    hours = (forward + scatter + eigen) * n
    download = 2 * count * n
    return [
        ("checkpoints", f"{n}"),
        ("parameters", f"{count / 1e9:.2f} G"),
        ("download, 16 bit", f"{2 * count / 1e9:.1f} GB × {n} = {download / 1e12:.2f} TB"),
        ("network at 1 Gbit/s", f"{download * 8 / 1e9 / 3600:.1f} h"),
        ("network at 10 Gbit/s", f"{download * 8 / 1e10 / 3600:.1f} h"),
        *((f"store, {name}", f"{size / 1e6:.0f} MB a checkpoint") for name, size in stored.items()),
        (
            "store, all (moments, tokens before compression)",
            f"{sum(stored.values()) * n / 1e9:.0f} GB",
        ),
        ("weights in memory, bf16", f"{2 * count / 1e9:.1f} GB"),
        ("moments: 2 d × d float64 a layer and pool", f"{moments / 1e9:.1f} GB"),
        ("hidden states before they are written (host)", f"{hidden / 1e9:.1f} GB"),
        ("forward and row statistics", f"{forward:.2f} h a checkpoint"),
        ("float64 moments of all tokens", f"{scatter:.2f} h a checkpoint"),
        ("spectra, on the host", f"{spectra} × eigvalsh({d}): {eigen:.2f} h a checkpoint"),
        ("one A100", f"{hours:.0f} h"),
        ("eight A100", f"{hours / 8:.0f} h"),
        (f"cost at ${PRICE:.2f} an A100 hour", f"${hours * PRICE:,.0f}"),
    ]


def print_table() -> None:
    """As Markdown."""
    series = published()
    columns = [estimate(s) for s in series]
    print(f"| {SAMPLES:,} × {LENGTH} tokens | " + " | ".join(s.name for s in series) + " |")
    print("|---|" + "---|" * len(series))
    for rows in zip(*columns, strict=True):
        print(f"| {rows[0][0]} | " + " | ".join(value for _, value in rows) + " |")
