"""The adapter of the tiny vision-language model agrees with the model's own forward pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from probes.tiny_images import draw_plans, render_many
from probes.tiny_texts import COLOURS
from runs.errors import InputError
from runs.loading import load_model
from runs.models.training_run import train_run
from runs.models.vlm_training import VlmConfig, VlmRun
from runs.vision.adapters import adapter_of
from runs.vision.tiny import TinyAdapter

SMALL = VlmConfig(
    layers=3, width=32, heads=4, mlp=32, channels=(4, 8), images=2, steps=2, warmup=1, seed=4
)
TEXTS = (
    "What colour is the ring?",
    "The ring is red. What colour is the ring?",
    "The ring matches the box. The box is red. What colour is the ring?",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("tiny") / "run", VlmRun(SMALL))


@pytest.fixture(scope="module")
def adapter(root: Path) -> TinyAdapter:
    found = adapter_of(load_model(root / "step000002"), root)
    assert isinstance(found, TinyAdapter)
    return found


@pytest.mark.parametrize("seen", [True, False])
def test_states_and_logits_are_those_of_each_prompt_alone(
    adapter: TinyAdapter, root: Path, seen: bool
) -> None:
    pictures = list(render_many(draw_plans(np.random.default_rng(0), np.array([1, 3, 5]))))
    states = adapter.final_states(adapter.inputs(TEXTS, pictures if seen else None))
    assert states.shape == (SMALL.layers + 2, len(TEXTS), SMALL.width)
    model = adapter.loaded.model
    for number, text in enumerate(TEXTS):
        words = [model.config.image_token_id] * (16 * seen) + adapter._encoded([text])[0]
        pixels = torch.from_numpy(pictures[number]).permute(2, 0, 1)[None] / 255 - 1
        with torch.inference_mode():
            own = model(torch.tensor([words]), pixels if seen else None, output_hidden_states=True)
        given = torch.stack([state[0, -1] for state in own.hidden_states])
        torch.testing.assert_close(states[:-2, number], given[:-1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(states[-1, number], given[-1], atol=1e-5, rtol=1e-4)
        logits = adapter.final_logits(states[-1, number])
        torch.testing.assert_close(logits, own.logits[0, -1], atol=1e-4, rtol=1e-4)
    through_norm = adapter.lens_logits(states[-2])
    torch.testing.assert_close(through_norm, adapter.final_logits(states[-1]))


def test_a_picture_changes_the_answer_and_padding_does_not(adapter: TinyAdapter) -> None:
    pictures = list(render_many(draw_plans(np.random.default_rng(1), np.array([0, 4]))))
    one = adapter.final_states(adapter.inputs(TEXTS[:1] * 2, pictures))
    assert (one[1:, 0] - one[1:, 1]).abs().max() > 1e-3
    padded = adapter.final_states(adapter.inputs([TEXTS[0], TEXTS[2]], pictures))
    torch.testing.assert_close(one[:, 0], padded[:, 0], atol=1e-5, rtol=1e-4)


def test_answers_are_words(adapter: TinyAdapter, root: Path) -> None:
    ids = [adapter.first_token(word) for word in COLOURS]
    assert len(set(ids)) == len(COLOURS)
    assert adapter.first_token("Red") == adapter.first_token("red")
    with pytest.raises(InputError, match=r"'mauve' has words the model does not know"):
        adapter.first_token("mauve")


def test_foreign_questions_and_pictures_are_refused(adapter: TinyAdapter) -> None:
    with pytest.raises(
        InputError, match=r'words the model does not know; use scenes with style = "tiny"'
    ):
        adapter.inputs(["Which material is the ring?"], None)
    with pytest.raises(InputError, match="sees images of 64 × 64, not of 80 × 60"):
        adapter.inputs(TEXTS[:1], [np.zeros((60, 80, 3), np.uint8)])


def test_an_initial_model_is_unsure(root: Path) -> None:
    """With tiny weights every word is as likely as the next."""
    unsure = adapter_of(load_model(_near_zero(root)), root)
    logits = unsure.final_logits(unsure.final_states(unsure.inputs(TEXTS, None))[-1])
    p = logits.softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    assert entropy == pytest.approx(np.log(logits.shape[-1]), abs=1e-3)


def _near_zero(root: Path) -> Path:
    config = replace(SMALL, initial_std=1e-6)
    return train_run(root.parent / "flat", VlmRun(config)) / "step000000"
