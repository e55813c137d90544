"""Sets with answers: where they begin, what they cost, how often they are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from transformers import AutoTokenizer

from probes.passk import pass_at_k
from runs.errors import InputError
from runs.inputs import build_set, load_tokenizer
from runs.jobs import execute
from runs.measures import measure
from runs.plan import make_plan
from runs.recipe import InputTable, load_recipe
from runs.rows.answers import KS
from runs.store import open_store
from runs.visits.pass_at_k import draw_answers

Write = Callable[..., Path]
DRAWS = 200


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "asked.jsonl"
    rows = [{"prompt": f"the union of {i}", "answer": " states" * (1 + i % 2)} for i in range(16)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def tree(write_recipe: Write, asked: Path) -> xr.DataTree:
    inputs = f"""
[inputs.asked]
path = "{asked}"
mode = "document"
length = 24
text = "prompt"
answer = "answer"
"""
    capture = f"""products = ["tokens"]
visits = ["pass_at_k"]
[capture.pass_at_k]
problems = 12
draws = {DRAWS}
"""
    recipe = write_recipe(inputs=inputs, capture=capture, measures="", steps="steps = [1, 16]")
    text = recipe.read_text()
    begin, end = text.index("[inputs.speeches]"), text.index("[inputs.asked]")
    recipe.write_text(text[:begin] + text[end:])
    return open_store(execute(load_recipe(recipe)).store)


def test_an_answer_ends_its_sample(asked: Path, series_folder: Path) -> None:
    tokenizer = load_tokenizer(series_folder)
    table = InputTable(path=asked, mode="document", length=24, text="prompt", answer="answer")
    found = build_set("asked", table, tokenizer)
    plain = AutoTokenizer.from_pretrained(series_folder)
    assert found.answer is not None
    for row, start, length in zip(found.tokens, found.answer, found.length, strict=True):
        assert plain.decode(row[start : length - 1]) in (" states", " states states")
        assert row[length - 1] == plain.eos_token_id
    without = table.model_copy(update={"answer": None})
    assert build_set("asked", without, tokenizer).answer is None
    short = table.model_copy(update={"length": int(found.length.min())})
    with pytest.raises(InputError, match="and at least 8 are needed"):
        build_set("asked", short.model_copy(update={"length": 3}), tokenizer)
    half = table.model_copy(update={"length": int(np.median(found.length))})
    assert 8 <= build_set("asked", half, tokenizer).samples < 16
    assert build_set("asked", without, tokenizer).digest != found.digest


def test_the_loss_is_that_of_the_answers_tokens(tree: xr.DataTree) -> None:
    surprisal = tree["sets/asked/tokens"]["surprisal"].values
    inputs = tree["sets/asked/inputs"]
    kept = [
        surprisal[:, i, start - 1 : length - 1]
        for i, (start, length) in enumerate(
            zip(inputs["answer"].values, inputs["length"].values, strict=True)
        )
    ]
    wanted = np.concatenate(kept, axis=1).astype(float).mean(axis=1)
    np.testing.assert_allclose(measure(tree, "answer_loss"), wanted, rtol=1e-6)


def test_draws_are_as_often_right_as_the_model_says(tree: xr.DataTree) -> None:
    """Drawn answers against their probability by teacher forcing."""
    visit, inputs = tree["sets/asked/pass_at_k"], tree["sets/asked/inputs"]
    surprisal = tree["sets/asked/tokens"]["surprisal"].values.astype(float)
    assert (visit["draws"] == DRAWS).all()
    for problem in range(12):
        part = slice(int(inputs["answer"][problem]) - 1, int(inputs["length"][problem]) - 1)
        chance = np.exp(-surprisal[:, problem, part].sum(axis=1))
        share = visit["correct"].values[:, problem] / DRAWS
        assert (np.abs(share - chance) < 5 * np.sqrt(chance / DRAWS) + 1e-9).all()
    found = measure(tree, "pass_at_k")
    assert found["k"].values.tolist() == list(KS)
    wanted = pass_at_k(visit["correct"].values, DRAWS, 4).mean(axis=1)
    np.testing.assert_allclose(found.sel(k=4), wanted)
    assert np.isnan(found.sel(k=256)).all()


class Chain:
    """Stands for a model: what comes next depends on the last token alone, as a table says."""

    device = torch.device("cpu")

    def __init__(self, size: int) -> None:
        self.logits_of = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
        self.unembedding = self

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(tokens, len(self.logits_of)).float()

    def on(self, device: torch.device) -> Chain:
        return self

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        return state @ self.logits_of


def test_draws_have_the_chance_of_the_chain_and_do_not_depend_on_each_other() -> None:
    chain: Any = Chain(6)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 6, (9, 7)).astype(np.int32)
    start = rng.integers(1, 4, 9).astype(np.int32)
    length = start + rng.integers(1, 4, 9).astype(np.int32)
    chances = rng.random((9, 4000, 3))
    arguments = (tokens, start, length, chances)
    whole = draw_answers(chain, *arguments, temperature=0.7, vocabulary=6)
    table = (chain.logits_of.double() / 0.7).softmax(-1).numpy()
    for row, a, b, right in zip(tokens, start, length, whole, strict=True):
        chance = np.prod([table[row[i - 1], row[i]] for i in range(a, b)])
        assert abs(right.mean() - chance) < 5 * np.sqrt(chance / 4000)
    parts = [
        draw_answers(chain, *(x[i : i + 2] for x in arguments), temperature=0.7, vocabulary=6)
        for i in range(0, 9, 2)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    cold = draw_answers(chain, *arguments, temperature=1e-6, vocabulary=6)
    assert (cold.all(axis=1) | ~cold.any(axis=1)).all()
    # Tokens beyond the vocabulary are padding and are never drawn.
    assert not draw_answers(chain, *arguments, temperature=1.0, vocabulary=3)[
        [(row[a:b] >= 3).any() for row, a, b in zip(tokens, start, length, strict=True)]
    ].any()


def test_a_set_may_name_its_own_products_and_visits(
    write_recipe: Write, asked: Path, series_folder: Path
) -> None:
    inputs = f"""products = ["hidden"]
[inputs.asked]
path = "{asked}"
mode = "document"
length = 24
text = "prompt"
answer = "answer"
visits = ["pass_at_k"]
"""
    capture = 'products = ["tokens"]\n[capture.pass_at_k]\nproblems = 4\ndraws = 2'
    path = write_recipe(inputs=inputs, capture=capture, steps="steps = [1]")
    plan = make_plan(load_recipe(path))
    assert set(plan.layouts) == {"speeches/hidden", "asked/tokens", "asked/pass_at_k"}
    tree = open_store(execute(load_recipe(path)).store)
    assert set(tree["sets/speeches"].children) == {"inputs", "points", "hidden"}
    assert set(tree["sets/asked"].children) == {"inputs", "points", "tokens", "pass_at_k"}
    path.write_text(path.read_text().replace('"pass_at_k"', '"pass_at_q"'))
    with pytest.raises(InputError, match=r"key `inputs\.asked\.visits`: no visit `pass_at_q`"):
        make_plan(load_recipe(path))


def test_a_set_without_answers_is_one_line(write_recipe: Write) -> None:
    recipe = load_recipe(write_recipe(capture='visits = ["pass_at_k"]'))
    with pytest.raises(InputError, match=r"inputs\.speeches\.answer`: the visit `pass_at_k` needs"):
        execute(recipe)
    recipe = load_recipe(write_recipe(inputs='answer = "party"'))
    assert execute(recipe).failed == {}
    with pytest.raises(ValueError, match='answer needs mode = "document"'):
        InputTable(path=Path("x.txt"), mode="packed", length=8, answer="a")
