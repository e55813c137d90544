"""The tiny vision-language model: what it reads in training, resuming, and a round trip."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from probes import tiny_images
from probes.tiny_texts import COLOURS, SHAPES, TYPICALITIES, WORDS
from runs.errors import InputError
from runs.models import training_run
from runs.models.tiny_vlm import (
    IMAGE,
    PATCHES,
    SPECIAL,
    TinyVlmForConditionalGeneration,
    build_tokenizer,
    pixel_values,
)
from runs.models.training_run import train_run
from runs.models.vlm_batches import Material, branch_mask
from runs.models.vlm_training import VlmConfig, VlmRun, build_model, losses

SMALL = VlmConfig(
    layers=1,
    width=16,
    heads=2,
    mlp=16,
    channels=(4, 4),
    images=3,
    vision_questions=2,
    text_questions=2,
    steps=5,
    warmup=2,
)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("last", [1, 3, 4])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    monkeypatch.setattr(training_run, "STATE_EVERY", 2)
    whole = train_run(tmp_path / "whole", VlmRun(SMALL))

    def stop(step: int, steps: int, loss: float) -> None:
        if step == last:
            raise Stopped

    with pytest.raises(Stopped):
        train_run(tmp_path / "cut", VlmRun(SMALL), progress=stop)
    train_run(tmp_path / "cut", VlmRun(SMALL))
    assert digest(tmp_path / "cut") == digest(whole)
    assert any(name.endswith("step000005/model.safetensors") for name in digest(whole))


def test_checkpoints_load_by_their_model_type(tmp_path: Path) -> None:
    root = train_run(tmp_path / "run", VlmRun(SMALL))
    model, info = AutoModelForImageTextToText.from_pretrained(
        root / "step000005", output_loading_info=True
    )
    assert isinstance(model, TinyVlmForConditionalGeneration)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    first = AutoModelForImageTextToText.from_pretrained(root / "step000000").state_dict()
    for name, value in build_model(SMALL).state_dict().items():
        assert torch.equal(value, first[name]), name
    tokenizer = AutoTokenizer.from_pretrained(root)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == [*SPECIAL, *WORDS]
    ids = tokenizer(f"{IMAGE}{IMAGE} What colour is the ring?")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *(IMAGE, IMAGE),
        *("what", "colour", "is", "the", "ring", "?"),
    ]


@pytest.mark.parametrize("facts", [1, 2])
@pytest.mark.parametrize("irrelevant", [0.0, 1.0])
def test_texts_agree_with_the_pictures_or_speak_of_others(facts: int, irrelevant: float) -> None:
    config = replace(SMALL, images=64, text_facts=facts, irrelevant_share=irrelevant)
    tokenizer = build_tokenizer()
    material = Material(tokenizer)
    direct = 0
    for step in range(1, 6):
        batch = material.batch(step, config)
        for row in range(config.images):
            asked, said = told(tokenizer, batch.both_ids[row])
            answer = tokenizer.decode(batch.both_answer[row])
            shown = {
                SHAPES[int(s)]: COLOURS[int(c)]
                for s, c in zip(batch.patch_shape[row], batch.patch_colour[row], strict=True)
                if s < len(SHAPES)
            }
            assert shown[asked] == answer
            for shape, colour in said.items():
                direct += 1
                assert shown.get(shape, colour) == colour
            if said:
                assert (asked in said) == (irrelevant == 0)
                assert len(said) == facts
    assert direct > 20


def told(tokenizer: object, ids: torch.Tensor) -> tuple[str, dict[str, str]]:
    """What is asked about, and what a text of tier 0 says of each shape; nothing of other tiers."""
    words = tokenizer.decode(ids, skip_special_tokens=True)  # type: ignore[attr-defined]
    text, _, question = words.rpartition("what colour is the ")
    facts = [part.split() for part in text.split(".") if part.strip()]
    plain = all(len(f) == 4 and f[1] in SHAPES and f[3] in COLOURS for f in facts)
    return question.split()[0], {f[1]: f[3] for f in facts} if plain else {}


def test_questions_are_about_what_is_there_and_answers_are_right() -> None:
    config = replace(SMALL, images=40, vision_questions=4, easy_share=0.0)
    tokenizer = build_tokenizer()
    for step in (1, 2):
        batch = Material(tokenizer).batch(step, config)
        assert batch.pixels.shape == (40, 3, 64, 64)
        assert batch.pixels.min() >= -1
        assert batch.pixels.max() == 0
        for row in range(40):
            objects = {
                int(s): int(c)
                for s, c in zip(batch.patch_shape[row], batch.patch_colour[row], strict=True)
                if s < len(SHAPES)
            }
            shapes = [
                SHAPES.index(w) for w in tokenizer.batch_decode(batch.vision_ids[row, :, 4:5])
            ]
            assert len(set(shapes)) == min(4, len(objects))
            right = [COLOURS[objects[s]] for s in shapes]
            assert tokenizer.batch_decode(batch.vision_answer[row][:, None]) == right


def test_batches_depend_on_seed_and_step_alone() -> None:
    material = Material(build_tokenizer())
    again = Material(build_tokenizer())
    material.batch(1, SMALL)
    one, other = material.batch(4, SMALL), again.batch(4, SMALL)
    assert all(torch.equal(getattr(one, f), getattr(other, f)) for f in vars(one))
    assert not torch.equal(one.pixels, again.batch(5, SMALL).pixels)
    assert not torch.equal(one.pixels, again.batch(4, replace(SMALL, seed=1)).pixels)


def test_a_folder_of_other_pictures_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run(tmp_path / "run", VlmRun(SMALL))
    monkeypatch.setattr(tiny_images, "TIERS", (tiny_images.Tier(1, 4.0, (0.0, 0.1)),) * 6)
    with pytest.raises(InputError, match=r"holds another run: material_sha256 is"):
        train_run(tmp_path / "run", VlmRun(SMALL))


def test_easy_pictures_come_first() -> None:
    config = replace(SMALL, images=64, steps=100, easy_share=0.3)
    material = Material(build_tokenizer())
    grey = [
        ((material.batch(step, config).pixels * 255 + 255).round() == 128).all(1).float().mean()
        for step in (30, 31)
    ]
    assert grey[0] < 0.05 < grey[1]


def test_branches_see_the_picture_and_themselves_alone() -> None:
    """The loss of all branches together is that of every question asked alone."""
    torch.manual_seed(0)
    model = build_model(replace(SMALL, layers=2)).eval()
    batch = Material(build_tokenizer()).batch(1, SMALL)
    found = losses(model, batch)["answer"]
    picture = torch.full((PATCHES,), SPECIAL.index(IMAGE))
    alone = []
    with torch.no_grad():
        for row in range(SMALL.images):
            asked = [
                (ids, a)
                for ids, a in zip(batch.vision_ids[row], batch.vision_answer[row], strict=True)
            ]
            asked.append((batch.both_ids[row][: batch.both_last[row] + 1], batch.both_answer[row]))
            for ids, answer in asked:
                tokens = torch.cat([picture, ids])[None]
                out = model(tokens, batch.pixels[row : row + 1]).logits[0, -1]
                alone.append(-out.log_softmax(-1)[answer])
        for ids, last, answer in zip(
            batch.text_ids, batch.text_last, batch.text_answer, strict=True
        ):
            out = model(ids[None, : last + 1]).logits[0, -1]
            alone.append(-out.log_softmax(-1)[answer])
    assert found.item() == pytest.approx(torch.stack(alone).mean().item(), abs=1e-5)


def test_mask_and_positions_of_branches() -> None:
    mask, places = branch_mask(2, 3, 4)
    length = PATCHES + 2 * 3 + 4
    assert mask.shape == (1, 1, length, length)
    seen = mask[0, 0].int().sum(dim=1).tolist()
    whole = [PATCHES + n for n in (1, 2, 3, 1, 2, 3, 1, 2, 3, 4)]
    assert seen == [*range(1, PATCHES + 1), *whole]
    assert places[0, PATCHES:].tolist() == [n - 1 for n in whole]


def test_images_and_their_tokens_must_agree() -> None:
    model = build_model(SMALL)
    with pytest.raises(ValueError, match="1 images need 16 <image> tokens"):
        model(torch.tensor([[5, 6]]), pixel_values(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"images": 0}, "images must be at least 1"),
        ({"width": 18}, "width must be a multiple of twice heads 2"),
        ({"irrelevant_share": 1.5}, "irrelevant_share must lie in 0 … 1"),
        ({"text_facts": 3}, "text_facts must be 1 or 2"),
        ({"patch_weight": -1}, "patch_weight must be at least 0"),
        ({"lr": 0}, "lr must be above 0"),
        ({"channels": (0, 4)}, "channels must be at least 1"),
    ],
)
def test_wrong_settings_are_told(change: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        replace(SMALL, **change)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twelve_hundred_steps_teach_seeing_and_reading(tmp_path: Path) -> None:
    """The claim the recipe rests on, at its own settings: minutes of one core."""
    run = VlmRun(VlmConfig())
    model = run.build()
    optimizer = run.optimizer(model)
    for step in range(1, run.config.steps + 1):
        run.update(model, optimizer, step)
    model.eval()
    batches = [Material(build_tokenizer()).batch(10_000 + i, run.config) for i in range(4)]
    config = replace(run.config, easy_share=1.0, steps=20_000)
    easy = [Material(build_tokenizer()).batch(10_000 + i, config) for i in range(4)]
    picture = torch.full((PATCHES,), SPECIAL.index(IMAGE))
    right, said = [], []
    with torch.no_grad():
        for batch in easy:
            tokens = torch.cat([picture.expand(48, -1), batch.vision_ids[:, 0]], dim=1)
            out = model(tokens, batch.pixels).logits[:, -1]
            right.append((out.argmax(-1) == batch.vision_answer[:, 0]).float().mean())
        for batch in batches:
            out = model(batch.text_ids).logits[torch.arange(16), batch.text_last]
            said.append(-out.log_softmax(-1).gather(1, batch.text_answer[:, None]).mean())
    assert np.mean(right) >= 0.95
    best = np.mean([0, 0, *(entropy(p) for p in TYPICALITIES)])
    assert np.mean(said) < best + 0.4


def entropy(p: float) -> float:
    """Of an answer that is the typical colour with probability p, in nats."""
    rest = (1 - p) / 5
    return float(-p * np.log(p) - (5 * rest * np.log(rest) if rest else 0))
