"""Post-training for real, on a model of a few thousand weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from probes.arithmetic import addition_problems
from runs.errors import InputError
from runs.models.answers import draw, encode
from runs.models.neox import TrainConfig
from runs.models.posttrain import PostConfig, post_train
from runs.models.pretrain import train
from runs.series import local
from tests.runs.models.test_pretrain import TEXTS

BASE = TrainConfig(
    layers=2, width=32, heads=2, mlp=64, vocabulary=280, length=48, batch=2, steps=4, warmup=2,
    per_octave=1, threads=1,
)  # fmt: skip
CONFIG = PostConfig(
    largest=4, sft_steps=60, dpo_steps=6, rlvr_steps=4, batch=20, problems=4, draws=8, kept=2,
    sft_lr=5e-3, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("base") / "checkpoints", BASE, texts=TEXTS * 4)


@pytest.fixture(scope="module")
def trained(base: Path) -> Path:
    return post_train(base, base.parent / "post", CONFIG, starts=(1, 2))


def digests(folder: Path) -> dict[str, str]:
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def test_branches_are_a_series_with_the_checkpoints_they_come_from(trained: Path) -> None:
    series = local(trained)
    steps: dict[str, list[int]] = {}
    for checkpoint in series.checkpoints:
        steps.setdefault(checkpoint.branch, []).append(checkpoint.step)
    assert steps == {
        "main": [1, 2, 4], "sft": [30, 60], "dpo": [3, 6], "rlvr": [2, 4],
        "sft-from-1": [60], "sft-from-2": [60],
    }  # fmt: skip
    tokens = {c.label: c.tokens for c in series.checkpoints}
    chain = ["main/step4", "sft/step30", "sft/step60", "dpo/step6", "rlvr/step4"]
    assert [tokens[x] for x in chain] == sorted(tokens[x] for x in chain)


def test_fine_tuning_learns_what_it_is_shown(base: Path, trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    asked = encode(tokenizer, addition_problems(20, seed=0, split="train", largest=4))

    def loss(path: Path) -> float:
        model = AutoModelForCausalLM.from_pretrained(path)
        with torch.no_grad():
            logits = model(asked.tokens).logits[:, :-1].log_softmax(-1)
        seen = logits.gather(2, asked.tokens[:, 1:, None])[..., 0]
        return float(-seen[asked.mask[:, 1:]].mean())

    assert loss(trained / "sft/step0060") < 0.6 * loss(base / "step000004")


def test_a_second_call_does_nothing_and_a_killed_branch_ends_the_same(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    before = digests(trained)
    times = {p: p.stat().st_mtime_ns for p in trained.rglob("*.safetensors")}
    post_train(base, trained, CONFIG, starts=(1, 2))
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*.safetensors")} == times

    class Killed(Exception):
        pass

    def kill(branch: str, step: int, steps: int, loss: float) -> None:
        if (branch, step) == ("dpo", 4):
            raise Killed

    other = base.parent / "again"
    with pytest.raises(Killed):
        post_train(base, other, CONFIG, starts=(1, 2), progress=kill)
    post_train(base, other, CONFIG, starts=(1, 2))
    assert digests(other) == before


def test_what_cannot_be_post_trained_is_one_line(base: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sft_steps is 60, not 61"):
        post_train(base, trained, replace(CONFIG, sft_steps=61), starts=(1, 2))
    with pytest.raises(InputError, match="no checkpoint at step 3; give other `starts`"):
        post_train(base, tmp_path / "x", CONFIG, starts=(3,))
    with pytest.raises(InputError, match="no such folder of checkpoints"):
        post_train(tmp_path / "none", tmp_path / "x", CONFIG)


def test_problems_are_those_nobody_was_trained_on(trained: Path) -> None:
    asked = [json.loads(line) for line in (trained / "problems.jsonl").read_text().splitlines()]
    shown = {p.prompt for p in addition_problems(20, seed=0, split="train", largest=4)}
    assert len(asked) == 5
    assert not shown & {row["prompt"] for row in asked}


def test_draws_follow_the_models_own_distribution(trained: Path) -> None:
    """Shares of drawn answers against probabilities by teacher forcing."""
    tokenizer = AutoTokenizer.from_pretrained(trained)
    model = AutoModelForCausalLM.from_pretrained(trained / "sft/step0060")
    asked = encode(tokenizer, addition_problems(3, seed=0, split="train", largest=4))
    many = asked.rows(torch.arange(3).repeat_interleave(3000).numpy())
    drawn = draw(model, many, generator=torch.Generator().manual_seed(0))
    share = drawn.equal(many).float().view(3, -1).mean(1)
    with torch.no_grad():
        logits = model(asked.tokens).logits[:, :-1].log_softmax(-1)
    seen = logits.gather(2, asked.tokens[:, 1:, None])[..., 0] * asked.mask[:, 1:]
    chance = seen.sum(1).exp()
    spread = (chance * (1 - chance) / 3000).sqrt()
    assert ((share - chance).abs() < 4 * spread + 1e-3).all()
