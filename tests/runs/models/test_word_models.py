"""Recurrent and feed-forward predictors of words: against naive loops, and through capture's hooks."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor

from runs import measure
from runs.backends.torch_hooks import TorchHooks
from runs.errors import InputError
from runs.jobs import execute
from runs.loaded import LoadedModel, wrap
from runs.models import text_run, training_run
from runs.models.corpus import Speech
from runs.models.feedforward import FeedForwardTrainConfig
from runs.models.recurrent import LstmTrainConfig
from runs.models.training_run import train_run
from runs.models.word_run import WordRun, WordTrainConfig, future_loss, word_windows
from runs.models.word_tokenizer import train_word_tokenizer
from runs.plan import make_plan
from runs.recipe import load_recipe
from runs.selfcheck import own_view, self_check
from runs.store import open_store
from runs.trained import _run
from runs.training import train_missing

KINDS: dict[str, type[WordTrainConfig]] = {
    "lstm": LstmTrainConfig,
    "feedforward": FeedForwardTrainConfig,
}
TEXTS = [f"The {a} of the {b} sat on a mat; and the hat, too." for a in "abcdef" for b in "uvwxyz"]
SMALL: dict[str, Any] = {
    "width": 12,
    "vocabulary": 20,
    "length": 4,
    "batch": 3,
    "steps": 9,
    "warmup": 2,
    "per_octave": 1,
}


def loaded_of(kind: str, **changes: Any) -> LoadedModel:
    run = WordRun(KINDS[kind](**{**SMALL, **changes}), TEXTS)
    return wrap(run.build().eval())


def ids_of(*shape: int) -> Tensor:
    return torch.randint(20, shape, generator=torch.Generator().manual_seed(0))


def naive_states(loaded: LoadedModel, ids: Tensor) -> list[Tensor]:
    """All layers by loops over words, from the weights alone."""
    weights = {k: v.double() for k, v in loaded.model.state_dict().items()}
    state = weights["model.embed_tokens.weight"][ids]
    states = [state]
    for layer in range(loaded.shape.blocks):
        part = {k.split(".", 3)[3]: v for k, v in weights.items() if f".layers.{layer}." in k}
        state = (_lstm if "lstm.weight_hh_l0" in part else _dense)(part, state)
        states.append(state)
    return states


def _lstm(part: dict[str, Tensor], state: Tensor) -> Tensor:
    width = state.shape[2]
    given, cell = state.new_zeros(len(state), width), state.new_zeros(len(state), width)
    found = []
    for read in state.unbind(1):
        whole = read @ part["lstm.weight_ih_l0"].T + part["lstm.bias_ih_l0"]
        whole = whole + given @ part["lstm.weight_hh_l0"].T + part["lstm.bias_hh_l0"]
        enter, keep, fresh, leave = whole.split(width, 1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * fresh.tanh()
        given = leave.sigmoid() * cell.tanh()
        found.append(given)
    return torch.stack(found, 1)


def _dense(part: dict[str, Tensor], state: Tensor) -> Tensor:
    width = state.shape[2]
    span = part["linear.weight"].shape[1] // width
    found = []
    for end in range(1, state.shape[1] + 1):
        words = [
            state[:, place] if place >= 0 else torch.zeros_like(state[:, 0])
            for place in range(end - span, end)
        ]
        found.append(
            torch.tanh(torch.cat(words, 1) @ part["linear.weight"].T + part["linear.bias"])
        )
    return torch.stack(found, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_that_of_a_naive_loop(kind: str) -> None:
    loaded, ids = loaded_of(kind), ids_of(2, 7)
    with torch.inference_mode():
        out = loaded.model(ids, output_hidden_states=True)
        states = naive_states(loaded, ids)
        assert len(out.hidden_states) == loaded.shape.blocks + 1
        for own, naive in zip(out.hidden_states, states, strict=True):
            torch.testing.assert_close(own.double(), naive, atol=1e-6, rtol=1e-5)
        head = loaded.unembedding
        assert head.bias is not None
        logits = states[-1] @ head.weight.double().T + head.bias.double()
        torch.testing.assert_close(out.logits.double(), logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(loaded.forward(ids), out.hidden_states[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_see_the_model_s_own_states(kind: str) -> None:
    loaded, ids = loaded_of(kind), ids_of(2, 7)
    view = own_view(loaded)
    self_check(TorchHooks(loaded), view, ["hidden", "moments", "tokens"])
    seen: dict[int, Tensor] = {}
    with torch.inference_mode():
        own = loaded.model(ids, output_hidden_states=True).hidden_states
        TorchHooks(loaded).observe(
            ids, None, layers=frozenset(range(loaded.shape.layers)), hidden=seen.__setitem__
        )
    assert sorted(seen) == list(range(loaded.shape.blocks + 2))
    for layer, state in enumerate(own):
        assert torch.equal(seen[layer], state)
    assert torch.equal(seen[loaded.shape.blocks + 1], own[-1])
    assert (loaded.shape.heads, loaded.shape.width) == (0, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_is_seen_before_it_comes_and_nine_are_enough_for_a_window(kind: str) -> None:
    loaded, ids = loaded_of(kind), ids_of(1, 9)
    later, earlier = ids.clone(), ids.clone()
    later[0, 6] = (later[0, 6] + 1) % 20
    earlier[0, 1] = (earlier[0, 1] + 1) % 20
    with torch.inference_mode():
        plain, changed = loaded.forward(ids)[0], loaded.forward(later)[0]
        assert torch.equal(plain[:6], changed[:6])
        assert not torch.equal(plain[6], changed[6])
        past = loaded.forward(earlier)[0]
    differs = (plain != past).any(1)
    assert differs[1:5].all()
    # The feed-forward model reads four words here; the recurrent one remembers.
    assert bool(differs[5:].any()) == (kind == "lstm")


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_either_side_changes_nothing(kind: str) -> None:
    loaded, ids = loaded_of(kind), ids_of(2, 5)
    left, right = torch.nn.functional.pad(ids, (3, 0)), torch.nn.functional.pad(ids, (0, 3))
    with torch.inference_mode():
        plain = loaded.forward(ids)
        torch.testing.assert_close(loaded.forward(right, right != -1)[:, :5], plain)
        mask = torch.arange(8) >= 3
        found = loaded.forward(left, mask.expand(2, 8))
        torch.testing.assert_close(found[:, 3:], plain)
        own = loaded.model(left, attention_mask=mask.expand(2, 8), output_hidden_states=True)
        torch.testing.assert_close(own.hidden_states[-1][:, 3:], plain)


def naive_loss(logits: Tensor, words: Tensor, weights: np.ndarray) -> float:
    """KL of two distributions over the whole vocabulary, position by position."""
    found = []
    for row, said in zip(words.tolist(), torch.log_softmax(logits.double(), -1), strict=True):
        for place, log_model in enumerate(said):
            target = np.zeros(log_model.shape[0])
            for ahead, weight in enumerate(weights):
                target[row[place + 1 + ahead]] += weight
            there = target > 0
            found.append((target[there] * (np.log(target[there]) - log_model.numpy()[there])).sum())
    return float(np.mean(found))


@settings(max_examples=30)
@given(horizon=st.integers(1, 6), discount=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_successor_loss_is_the_divergence_from_the_words_to_come(
    horizon: int, discount: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)  # words come twice
    words = torch.randint(4, (2, 3 + horizon), generator=generator)
    config = LstmTrainConfig(target="successor", horizon=horizon, discount=discount)
    assert config.weights.sum() == pytest.approx(1)
    if horizon > 1:
        assert config.weights[1] / config.weights[0] == pytest.approx(discount)
    got = future_loss(logits, words, torch.tensor(config.weights))
    assert got.item() == pytest.approx(naive_loss(logits, words, config.weights), abs=1e-12)


def test_next_word_loss_is_the_surprisal_and_a_perfect_model_has_none() -> None:
    logits, words = torch.randn(2, 3, 5), torch.tensor([[0, 1, 2, 3], [4, 4, 0, 1]])
    got = future_loss(logits, words, torch.ones(1))
    own = torch.nn.functional.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten())
    torch.testing.assert_close(got, own)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    words = torch.tensor([[3, 1, 2, 1]])
    perfect = torch.tensor([[[1e-300, 0.7, 0.3, 1e-300]]], dtype=torch.float64).log()
    assert future_loss(perfect, words, weights).item() == pytest.approx(0, abs=1e-12)


def test_windows_follow_one_another_and_overlap_in_what_is_ahead() -> None:
    found = word_windows([[1, 2, 3], [4, 5, 6, 7]], length=2, ahead=3, end=0)
    assert found.tolist() == [[1, 2, 3, 0, 4], [3, 0, 4, 5, 6], [4, 5, 6, 7, 0]]
    with pytest.raises(ValueError, match="give more"):
        word_windows([[1]], length=2, ahead=1, end=0)


def test_tokenizer_knows_the_commonest_words_and_no_punctuation() -> None:
    texts = ["The cat, the CAT -- and the dog.", "Don't! A well-known dog; 1,000.5 cats"]
    made = train_word_tokenizer(texts, vocabulary=7)
    assert made.get_vocab() == {
        "<eos>": 0,
        "<unk>": 1,
        "the": 2,
        "cat": 3,
        "dog": 4,
        "1,000.5": 5,
        "a": 6,
    }
    ids = made(["“A dog” of the don't--1,000.5!"], add_special_tokens=False)["input_ids"]
    assert ids == [[6, 4, 1, 2, 1, 5]]
    with pytest.raises(ValueError, match="vocabulary must be from 3 to the 11 tokens"):
        train_word_tokenizer(texts, vocabulary=12)


class Interrupted(Exception):
    pass


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_with_the_same_bytes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "STATE_EVERY", 3)
    config = KINDS[kind](**SMALL, target="successor", horizon=3)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise Interrupted

    whole = train_run(tmp_path / "whole", WordRun(config, TEXTS))
    with pytest.raises(Interrupted):
        train_run(tmp_path / "cut", WordRun(config, TEXTS), progress=stop)
    assert train_run(tmp_path / "cut", WordRun(config, TEXTS))
    assert digests(tmp_path / "cut") == digests(whole)
    other = train_run(tmp_path / "other", WordRun(KINDS[kind](**SMALL, seed=1), TEXTS))
    assert (
        digests(other)["step000000/model.safetensors"]
        != (digests(whole)["step000000/model.safetensors"])
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"discount": 1.0}, "discount must be between 0 and 1"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
    ],
)
def test_values_that_make_no_run_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        LstmTrainConfig(**changes)


@pytest.fixture
def _few_speeches(monkeypatch: pytest.MonkeyPatch) -> None:
    speeches = [Speech(f"s{i}", 1900, "1900-01-01", "nobody", text) for i, text in enumerate(TEXTS)]
    monkeypatch.setattr(text_run, "load_speeches", lambda part: speeches)
    _run.cache_clear()


def recipe_of(
    folder: Path, kind: str, capture: str = 'products = ["hidden", "moments", "tokens"]'
) -> Path:
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    values = "".join(f"{k} = {v}\n" for k, v in SMALL.items())
    path = folder / "recipe.toml"
    path.write_text(
        f'name = "words"\nstore = "s.zarr"\n[series]\nkind = "trained"\nmodel = "{kind}"\n'
        f'path = "weights"\n[series.training]\n{values}target = "successor"\n'
        f'[inputs.text]\npath = "text.jsonl"\nmode = "document"\nlength = 8\n[capture]\n{capture}\n'
        '[measures]\nnames = ["loss", "rankme/li2025"]\n'
    )
    return path


@pytest.mark.usefixtures("_few_speeches")
@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_trains_and_captures_it(kind: str, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_of(tmp_path, kind))
    outcome = execute(recipe, console=Console(quiet=True))
    assert (outcome.captured, outcome.failed) == (6, {})
    tree = open_store(recipe.store)
    hidden = tree["sets/text/hidden/hidden"]
    assert dict(hidden.sizes) == {
        "checkpoint": 6,
        "layer": 4 if kind == "lstm" else 5,
        "point": 36,
        "feature": 12,
    }
    assert np.isfinite(hidden.values).all()
    np.testing.assert_array_equal(hidden.values[:, -1], hidden.values[:, -2])  # there is no norm
    loss = measure(tree, "loss").values
    assert np.isfinite(loss).all()
    assert loss[0] == pytest.approx(np.log(20), abs=0.3)
    # Another process knows nothing of these models until it meets one.
    checkpoint = tmp_path / "weights" / "seed-0" / "step000009"
    code = (
        "import sys, pathlib; from runs.loading import load_model, read_shape; "
        "path = pathlib.Path(sys.argv[1]); print(read_shape(path).architecture, "
        "load_model(path).shape.heads)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [wrap_name(kind), "0"], done.stderr


def wrap_name(kind: str) -> str:
    return {"lstm": "LstmForCausalLM", "feedforward": "FeedForwardForCausalLM"}[kind]


@pytest.mark.usefixtures("_few_speeches")
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("products", "attention"),
        *(
            ("visits", name)
            for name in (
                *("head_ablation", "head_importance", "ov_copying", "qk_norms", "sinks"),
                *("entropy_scaled", "last_row"),
            )
        ),
    ],
)
def test_what_needs_heads_is_refused_at_plan_time(key: str, name: str, tmp_path: Path) -> None:
    products = 'products = ["tokens"]\n' if key == "visits" else ""
    more = "[capture.sinks]\nwindow = 4" if name == "sinks" else ""
    recipe = load_recipe(recipe_of(tmp_path, "lstm", f'{products}{key} = ["{name}"]\n{more}'))
    train_missing(recipe, Console(quiet=True))
    with pytest.raises(
        InputError, match=rf"recipe.toml: key `capture.{key}`: Lstm.* no att.*`{name}`"
    ):
        make_plan(recipe)
