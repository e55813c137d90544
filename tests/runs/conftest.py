"""A tiny series of real checkpoints: random GPT-NeoX weights drifting over six steps."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from runs.cli import main
from runs.models.tokenizer import save_tokenizer, train_tokenizer

STEPS = (0, 1, 2, 4, 8, 16)
TOKENS_PER_STEP = 256


def speeches(count: int = 60, words: int = 40) -> list[str]:
    generator = np.random.default_rng(0)
    lexicon = ["the", "union", "of", "states", "has", "a", "great", "and", "growing", "trade"]
    lexicon += ["with", "all", "nations", "this", "year"]
    return [" ".join(generator.choice(lexicon, words)) for _ in range(count)]


def save_step(
    folder: Path, step: int, *, vocabulary: int = 320, blocks: int = 3, width: int = 32
) -> None:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        rotary_pct=0.25,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXForCausalLM(config)
    torch.manual_seed(step + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02 * step**0.5)
    model.save_pretrained(folder / f"step{step}")


@pytest.fixture(scope="session")
def series_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), folder)
    for step in STEPS:
        save_step(folder, step)
    return folder


@pytest.fixture
def own_series(series_folder: Path, tmp_path: Path) -> Path:
    """A copy of the series that a test may damage."""
    return Path(shutil.copytree(series_folder, tmp_path / "own"))


def recipe_text(
    series: Path,
    *,
    steps: str = "",
    inputs: str = "",
    capture: str = "",
    measures: str = 'names = ["rankme", "loss"]',
) -> str:
    return f"""
name = "tiny"
store = "tiny.zarr"

[series]
path = {json.dumps(str(series))}
tokens_per_step = {TOKENS_PER_STEP}
{steps}

[inputs.speeches]
path = "speeches.jsonl"
mode = "document"
length = 24
min_length = 8
limit = 40
shuffle_seed = 1
labels = ["party"]
{inputs}

[capture]
block = 4
{capture}

[measures]
{measures}
"""


@pytest.fixture
def write_recipe(series_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the text and a recipe; keyword arguments add lines to its tables."""
    lines = []
    for i, text in enumerate(speeches()):
        cut = " ".join(text.split()[: 6 + i % 30])
        lines.append(json.dumps({"text": cut, "party": "AB"[i % 2], "speaker": i // 3}))
    (tmp_path / "speeches.jsonl").write_text("\n".join(lines))

    def write(series: Path = series_folder, name: str = "recipe.toml", **parts: str) -> Path:
        path = tmp_path / name
        path.write_text(recipe_text(series, **parts))
        return path

    return write


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("PHASESCOPE_DEBUG", raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["phasescope", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        code = stop.value.code
        return (int(code) if code is not None else 0), out, err

    return call


def sets_digest(path: Path) -> dict[str, str]:
    """SHA-256 of every array under /sets by name, in order of checkpoint labels; bytes, not values."""
    root = zarr.open_group(path, mode="r")
    labels = [str(x) for x in np.asarray(root["checkpoints/checkpoint"][:])]
    order = np.argsort(labels)
    found: dict[str, str] = {}

    def walk(group: zarr.Group, at: str) -> None:
        for name, child in sorted(group.members()):
            if isinstance(child, zarr.Group):
                walk(child, f"{at}/{name}")
                continue
            values = np.asarray(child[...])
            if child.metadata.dimension_names[0] == "checkpoint":
                values = values[order]
            content = (
                values.tobytes() if values.dtype.kind != "T" else str(values.tolist()).encode()
            )
            whole = f"{values.shape}{values.dtype}".encode() + content
            found[f"{at}/{name}"] = hashlib.sha256(whole).hexdigest()

    walk(root["sets"], "sets")
    return found
