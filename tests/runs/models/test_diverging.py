"""Every training loop ends in words when a number is none, and leaves no weights that are none."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from runs.errors import PhasescopeError
from runs.models import posttrain
from runs.models.answers import AnswerBatch, draw
from runs.models.diverging import DivergedError, check_update, check_weights
from runs.models.feedforward import FeedForwardTrainConfig
from runs.models.posttrain import post_train
from runs.models.pretrain import NeoxRun, train
from runs.models.recurrent import LstmTrainConfig
from runs.models.training_run import TrainingRun, train_run
from runs.models.trial import Trial, run_trial
from runs.models.variants import Variant, qk_norms, spectral_norms
from runs.models.vlm_training import VlmRun
from runs.models.word_run import WordRun
from runs.toy import Settings, make_toy
from tests.runs.models import test_posttrain, test_trial, test_vlm_training, test_word_models
from tests.runs.models.test_pretrain import CONFIG, TEXTS

WORDS = test_word_models.SMALL
RUNS: dict[str, Callable[[float], TrainingRun]] = {
    "neox": lambda lr: NeoxRun(replace(CONFIG, lr=lr), TEXTS),
    "lstm": lambda lr: WordRun(LstmTrainConfig(**WORDS, lr=lr), test_word_models.TEXTS),
    "feedforward": lambda lr: WordRun(
        FeedForwardTrainConfig(**WORDS, lr=lr), test_word_models.TEXTS
    ),
    "vlm": lambda lr: VlmRun(replace(test_vlm_training.SMALL, lr=lr)),
}
REASON = r"(loss|gradient norm) (nan|inf) at step \d+|a weight of `\S+` is no number after step \d+"


def only_numbers(folder: Path) -> None:
    files = [*folder.rglob("*.safetensors")]
    assert files
    for file in files:
        assert all(bool(weight.isfinite().all()) for weight in load_file(file).values()), file


# From weights that overflow in their first product to those that the update itself makes infinite.
@pytest.mark.parametrize("lr", [1e12, 1e30, 3e38])
@pytest.mark.parametrize("kind", RUNS)
def test_a_run_that_diverges_says_so(kind: str, lr: float, tmp_path: Path) -> None:
    with pytest.raises(PhasescopeError, match=rf"({REASON}); lower lr {re.escape(str(lr))}"):
        train_run(tmp_path, RUNS[kind](lr))
    only_numbers(tmp_path)


def test_weights_made_infinite_by_the_last_update_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = NeoxRun(CONFIG, TEXTS)
    update = run.update

    def spoil(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> object:
        found = update(model, optimizer, step)
        if step == CONFIG.steps:
            with torch.no_grad():
                next(model.parameters())[0, 0] = torch.inf
        return found

    monkeypatch.setattr(run, "update", spoil)
    with pytest.raises(PhasescopeError, match="is no number after step 13; lower lr"):
        train_run(tmp_path, run)
    only_numbers(tmp_path)
    assert not (tmp_path / "step000013").exists()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "checkpoints"
    return train(folder, replace(test_posttrain.BASE, seed=1), texts=TEXTS * 4)


@pytest.mark.parametrize("lr", [1e12, 1e30, 3e38])
@pytest.mark.parametrize("stage", ["sft", "dpo", "rlvr"])
def test_post_training_that_diverges_says_where(
    base: Path, stage: str, lr: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So short a training earns no reward, and without one nothing moves.
    monkeypatch.setattr(posttrain, "group_advantages", torch.ones_like)
    config = replace(test_posttrain.CONFIG, sft_steps=4, rlvr_steps=8)
    config = replace(config, **{f"{stage}_lr": lr})
    probability = "a probability of the model's own answers is no number"
    with pytest.raises(PhasescopeError, match=rf"{stage}.*: ({REASON}|{probability}); lower"):
        post_train(base, tmp_path / "post", config, starts=(1,))
    if stage != "sft":  # its first kept checkpoint may already be none
        only_numbers(tmp_path / "post")


def test_a_draw_from_what_is_no_probability_is_refused() -> None:
    model = lambda ids: SimpleNamespace(logits=torch.full((*ids.shape, 5), torch.nan))  # noqa: E731
    asked = AnswerBatch(
        torch.ones(2, 3, dtype=torch.long),
        torch.ones(2, 3, dtype=torch.bool),
        torch.tensor([1, 2]),
        0,
    )
    with pytest.raises(DivergedError, match="probability"):
        draw(model, asked, generator=torch.Generator())


@pytest.mark.parametrize("lr", [1e8, 1e19, 1e30, 1e38, 3e38])
@pytest.mark.parametrize(
    "variant",
    [
        test_trial.PLAIN,
        Variant("code", "", reparametrisation="code"),
        Variant("bare", "", reparametrisation="paper", norms=False),
        test_trial.TEMPERED,
    ],
    ids=lambda v: v.name,
)
def test_a_trial_is_logged_until_it_diverges(variant: Variant, lr: float) -> None:
    """No singular value is asked of what has none, on any library; a finite one is given."""
    config = replace(test_trial.CONFIG, lr=lr, steps=40)
    log = run_trial(Trial((), config, variant), test_trial.windows(), test_trial.windows(5, 1))
    assert np.isfinite(log["spectral_norm"][0]).all()
    assert np.isfinite(log["held_out_loss"][0])
    gone = np.isnan(log["loss"])
    # What follows the first update without a loss has none either.
    assert (np.diff(gone[1:].astype(int)) >= 0).all()
    assert np.isnan(log["spectral_norm"][1:][gone[1:]]).all()


def test_norms_of_weights_whose_products_overflow_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 3, 4, 9, generator=generator)
    for scale in (1.0, 1e18, 1e30):
        found = qk_norms(scale * query, scale * key)
        wanted = qk_norms(query, key) * scale**2
        # float32 rounds each scaled weight once: 2⁻²⁴ of each factor, a few factors.
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    query[1, 0, 0] = torch.inf
    assert spectral_norms(query).isnan().tolist() == [False, True, False]
    assert qk_norms(query, key).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("rate", [1e3, 1e30, 1e200])
def test_the_toy_says_at_what_step_and_leaves_no_store(rate: float, tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    line = (
        r"toy: task `\w+`, (constructed|gaussian) start: a \w+ of seed \d is .* at step \d+; lower"
    )
    with pytest.raises(PhasescopeError, match=line):
        make_toy(tmp_path, Settings(2, 40, rate), console)
    assert make_toy(tmp_path, Settings(2, 40), console).is_dir()


def test_what_is_checked_is_named() -> None:
    check_update(3, 1.0, 2.0)
    with pytest.raises(DivergedError, match="loss inf at step 3"):
        check_update(3, float("inf"), float("nan"))
    with pytest.raises(DivergedError, match="gradient norm nan at step 3"):
        check_update(3, 1.0, float("nan"))
    layer = torch.nn.Linear(2, 2)
    check_weights(1, layer)
    with torch.no_grad():
        layer.bias[1] = torch.nan
    with pytest.raises(DivergedError, match="a weight of `bias` is no number after step 7"):
        check_weights(7, layer)
