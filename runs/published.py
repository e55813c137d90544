"""What publishers say of their series: sizes, dtypes, steps and batch sizes, as tables.

Sources: the README of EleutherAI/pythia; configs of allenai/OLMo, and its tables of published steps at
commit 59a53e3f (Apache-2.0), kept in olmo_steps.csv.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from runs.architectures import ModelShape

PYTHIA_STEPS = (0, *(2**i for i in range(10)), *range(1000, 144_000, 1000))
PYTHIA_RATE = 2_097_152  # 1024 sequences of 2048 tokens


@dataclass(frozen=True)
class Published:
    """One model of a series.

    Attributes
    ----------
    shape : ModelShape
    parameters : int
    bytes_each : int
        Of a parameter in the published files.
    tokens_per_step : int
    """

    shape: ModelShape
    parameters: int
    bytes_each: int
    tokens_per_step: int

    @property
    def bytes(self) -> int:
        """Of one checkpoint's weight files."""
        return self.parameters * self.bytes_each


@dataclass(frozen=True)
class OlmoStep:
    """One row of olmo_steps.csv; `tokens_per_step` is None where it is not confirmed."""

    stage: int
    ingredient: int | None
    step: int
    tokens_per_step: int | None


def _neox(blocks: int, width: int, heads: int, inner: int, each: int = 2) -> Published:
    vocabulary = 50_304 if width < 4096 else (50_432 if width == 4096 else 50_688)
    block = 4 * width * width + 2 * width * inner + inner + 9 * width
    shape = ModelShape("GPTNeoXForCausalLM", blocks, width, heads, vocabulary)
    total = blocks * block + 2 * vocabulary * width + 2 * width
    return Published(shape, total, each, PYTHIA_RATE)


def _olmo(
    name: str,
    blocks: int,
    width: int,
    heads: int,
    inner: int,
    rate: int,
    *,
    keys: int | None = None,
) -> Published:
    vocabulary = 50_304 if name == "OlmoForCausalLM" else 100_352
    keys = keys or heads
    attention = 2 * width * width + 2 * width * width * keys // heads
    block = attention + 3 * width * inner + (0 if name == "OlmoForCausalLM" else 4 * width)
    # OLMo-1 1B ties its embeddings; the others have two.
    tables = 1 if name == "OlmoForCausalLM" and width == 2048 else 2
    total = blocks * block + tables * vocabulary * width + width
    return Published(ModelShape(name, blocks, width, heads, vocabulary), total, 4, rate)


_PYTHIA: dict[str, Published] = {
    "14m": _neox(6, 128, 4, 512),
    "31m": _neox(6, 256, 8, 1024),
    "70m": _neox(6, 512, 8, 2048),
    "160m": _neox(12, 768, 12, 3072),
    "410m": _neox(24, 1024, 16, 4096),
    "1b": _neox(16, 2048, 8, 8192),
    "1.4b": _neox(24, 2048, 16, 8192),
    "2.8b": _neox(32, 2560, 32, 10240),
    "6.9b": _neox(32, 4096, 32, 16384),
    "12b": _neox(36, 5120, 40, 20480),
}
_OLMO: dict[str, Published] = {
    "allenai/OLMo-1B-hf": _olmo("OlmoForCausalLM", 16, 2048, 16, 8192, 4_194_304),
    "allenai/OLMo-7B-hf": _olmo("OlmoForCausalLM", 32, 4096, 32, 11008, 4_194_304),
    "allenai/OLMo-7B-0724-hf": _olmo("OlmoForCausalLM", 32, 4096, 32, 11008, 4_194_304),
    "allenai/OLMo-2-0425-1B": _olmo("Olmo2ForCausalLM", 16, 2048, 16, 8192, 2_097_152),
    "allenai/OLMo-2-1124-7B": _olmo("Olmo2ForCausalLM", 32, 4096, 32, 11008, 4_194_304),
    "allenai/OLMo-2-1124-13B": _olmo("Olmo2ForCausalLM", 40, 5120, 40, 13824, 8_388_608),
    "allenai/OLMo-2-0325-32B": _olmo("Olmo2ForCausalLM", 64, 5120, 40, 27648, 8_388_608, keys=8),
    "allenai/Olmo-3-1025-7B": _olmo("Olmo3ForCausalLM", 32, 4096, 32, 11008, 4_194_304),
    "allenai/Olmo-3-1125-32B": _olmo("Olmo3ForCausalLM", 64, 5120, 40, 27648, 8_388_608, keys=8),
}
# Llama 3.1 8B with the eight tokens that Tülu 3 adds; post-trained weights are published in bfloat16.
_TULU = Published(
    ModelShape("LlamaForCausalLM", 32, 4096, 32, 128_264), 8_030_326_784, 2, 8_388_608
)
_STAGE = re.compile(r"-(SFT|DPO|RLVR\d*|Instruct)$")


def published(repository: str) -> Published | None:
    """What is known of a repository's model; None if nothing is."""
    base = repository.removesuffix("-early-training")
    if base in _OLMO:
        return _OLMO[base]
    if re.fullmatch(r"allenai/Llama-3\.1-Tulu-3(\.1)?-8B(-SFT|-DPO)?", repository):
        return _TULU
    if (stage := _STAGE.sub("", repository)) != repository and stage in _OLMO:
        return replace(_OLMO[stage], bytes_each=2)
    owner, _, name = repository.partition("/")
    if owner == "EleutherAI" and name.startswith("pythia-"):
        return _PYTHIA.get(name.split("-")[1])
    return None


def tokens_per_step(repository: str) -> int | None:
    """Training tokens a step of a repository's series; None if they are not known."""
    found = published(repository)
    return None if found is None else found.tokens_per_step


def pythia_sizes() -> list[str]:
    """Names of the sizes of Pythia."""
    return list(_PYTHIA)


@cache
def olmo_steps(repository: str) -> tuple[OlmoStep, ...]:
    """Published steps of an OLMo repository; empty if its table was not published."""
    text = files("runs").joinpath("olmo_steps.csv").read_text(encoding="utf-8")
    return tuple(
        OlmoStep(
            int(row["stage"]),
            int(row["ingredient"]) if row["ingredient"] else None,
            int(row["step"]),
            int(row["tokens_per_step"]) if row["tokens_per_step"] else None,
        )
        for row in csv.DictReader(text.splitlines())
        if row["repository"] == repository
    )
