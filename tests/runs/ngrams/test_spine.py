"""From a recipe with `[memorisation]` to measures, against plain Python and the model's own logits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
import xarray as xr
from transformers import AutoTokenizer, GPTNeoXForCausalLM

from runs.errors import InputError
from runs.jobs import execute
from runs.measures import measure
from runs.ngrams import sets
from runs.plan import make_plan
from runs.recipe import load_recipe
from runs.store import open_store
from tests.runs.conftest import recipe_text, speeches
from tests.runs.ngrams.brute import BruteForce

Write = Callable[..., Path]
CAPTURE = 'products = ["hidden", "tokens"]\nvisits = ["ngrams"]\n[capture.ngrams]\ncontexts = 30'
TABLE = 'names = []\n[memorisation]\ndocuments = "corpus.jsonl"'


def write_corpus(folder: Path, count: int = 40) -> list[str]:
    texts = speeches()[:count]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    return texts


@pytest.fixture(scope="module")
def made(series_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus, inputs, recipe, and the store of its run; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    rows = [
        {"text": " ".join(t.split()[: 6 + i % 30]), "party": "AB"[i % 2], "speaker": i // 3}
        for i, t in enumerate(speeches())
    ]
    (folder / "speeches.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_corpus(folder)
    text = recipe_text(
        series_folder,
        steps="steps = [0, 16]",
        inputs='group = "speaker"',
        capture=CAPTURE,
        measures=TABLE,
    )
    (folder / "recipe.toml").write_text(text)
    execute(load_recipe(folder / "recipe.toml"))
    return folder


@pytest.fixture
def store(made: Path) -> xr.DataTree:
    return open_store(made / "tiny.zarr")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The recipe of a copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "copy")) / "recipe.toml"


def test_every_token_and_every_context(store: xr.DataTree, series_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(series_folder)
    corpus = tokenizer(speeches()[:40], add_special_tokens=False)["input_ids"]
    brute = BruteForce(corpus, end=tokenizer.eos_token_id)
    inputs = store["sets/speeches/inputs"].to_dataset()
    tokens, length = inputs["tokens"].values, inputs["length"].values
    _check_answers(store["sets/speeches/infinigram"].to_dataset(), brute, tokens, length)
    visit = store["sets/speeches/ngrams"].to_dataset()
    assert visit["order"].values.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(
        visit["context_group"], inputs["group"].values[visit["context_sample"].values]
    )
    model = GPTNeoXForCausalLM.from_pretrained(series_folder / "step16").eval()
    later = visit.isel(checkpoint=int(np.argmax(visit["step"].values)))
    places = {*zip(later["context_sample"].values, later["context_position"].values, strict=True)}
    assert len(places) == 30
    for i, (sample, position) in enumerate(
        zip(later["context_sample"].values, later["context_position"].values, strict=True)
    ):
        known = tokens[sample, : position + 1].tolist()
        assert position < length[sample] - 1
        with torch.no_grad():
            logits = model(torch.tensor([known])).logits[0, -1, : len(tokenizer)].double()
        logs = torch.log_softmax(logits, -1).numpy()
        for n in range(1, 6):
            prompts = [known[len(known) - used :] for used in range(min(n - 1, len(known)), -1, -1)]
            prompt = next(p for p in prompts if brute.following(p))
            counts = brute.following(prompt)
            p = np.zeros(len(tokenizer))
            p[list(counts)] = list(counts.values())
            here = later.isel(ngram_context=i).sel(order=n)
            assert int(here["order_used"]) == len(prompt) + 1
            wanted = scipy.stats.entropy(p, np.exp(logs))
            assert float(here["divergence"]) == pytest.approx(wanted, rel=1e-4)
            assert bool(here["agrees"]) == (p[int(logs.argmax())] == p.max())


def _check_answers(
    node: xr.Dataset, brute: BruteForce, tokens: np.ndarray, length: np.ndarray
) -> None:
    probability, suffix = node["probability"].values, node["suffix_length"].values
    counts = node["continuation_count"].values
    assert (np.isnan(probability) == (suffix < 0)).all()
    for sample in range(0, len(tokens), 5):
        known = tokens[sample, : length[sample]].tolist()
        for i in range(tokens.shape[1]):
            if i >= length[sample] - 1:
                assert np.isnan(probability[sample, i])
                assert counts[sample, i] == -1
                continue
            wanted = brute.infinigram(known[: i + 1], known[i + 1])
            found = (probability[sample, i], suffix[sample, i], counts[sample, i])
            assert found == (wanted[0], wanted[1], wanted[3])


def test_measures_are_what_they_say(store: xr.DataTree) -> None:
    node = store["sets/speeches/infinigram"].to_dataset()
    surprisal = store["sets/speeches/tokens"]["surprisal"].values
    p = node["probability"].values
    with np.errstate(divide="ignore"):
        logs = np.log(p)
    for convention, corpus, model in (
        ("li2025_code", np.nansum(np.where(p > 0, logs, 0), -1), -np.nansum(surprisal, -1)),
        ("strict", np.nansum(logs, -1), -np.nansum(surprisal, -1)),
    ):
        found = measure(store, "memorisation", convention=convention)
        assert found.dims == ("checkpoint",)
        assert (found["documents"] == 40).all()
        for i in range(2):
            wanted = scipy.stats.spearmanr(corpus, model[i]).statistic
            assert float(found[i]) == pytest.approx(wanted, abs=1e-6)
            assert float(found["lower"][i]) < float(found[i]) < float(found["upper"][i])
    shares = measure(store, "suffix_length")
    assert shares.dims == ("suffix_bin",)
    length = node["suffix_length"].values
    assert float(shares[0]) == pytest.approx(
        ((length >= 0) & (length <= 3)).sum() / (length >= 0).sum()
    )
    assert float(shares.sum()) == pytest.approx(1)
    visit = store["sets/speeches/ngrams"].to_dataset()
    every = measure(store, "ngram_divergence")
    assert every.dims == ("checkpoint", "order")
    np.testing.assert_allclose(every, visit["divergence"].mean("ngram_context"))
    seen = measure(store, "ngram_divergence", convention="seen")
    known = visit["order_used"] == visit["order"]
    np.testing.assert_allclose(seen, visit["divergence"].where(known).mean("ngram_context"))


def test_of_questions_only_the_answers_are_scored(made: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(made, tmp_path / "asked"))
    shutil.rmtree(copied / "tiny.zarr")
    shutil.rmtree(copied / "tiny.zarr.leases")
    rows = [json.loads(line) for line in (copied / "speeches.jsonl").read_text().splitlines()]
    asked = [(words[:-2], words[-2:]) for words in (row["text"].split()[:12] for row in rows)]
    lines = [json.dumps({"text": " ".join(q), "a": " " + " ".join(a)}) for q, a in asked]
    (copied / "speeches.jsonl").write_text("\n".join(lines))
    recipe = copied / "recipe.toml"
    text = recipe.read_text().replace('labels = ["party"]', 'answer = "a"')
    recipe.write_text(text.replace('group = "speaker"', "").replace('visits = ["ngrams"]', ""))
    tree = open_store(execute(load_recipe(recipe)).store)
    inputs, node = (tree[f"sets/speeches/{n}"].to_dataset() for n in ("inputs", "infinigram"))
    target = np.arange(inputs.sizes["position"]) + 1
    inside = target >= inputs["answer"].values[:, None]
    inside &= target < inputs["length"].values[:, None] - 1  # the end of text is no answer
    np.testing.assert_array_equal(np.isfinite(node["probability"].values), inside)
    np.testing.assert_array_equal(node["suffix_length"].values >= 0, inside)
    surprisal = tree["sets/speeches/tokens"]["surprisal"].values
    model = -np.where(inside, surprisal, 0).sum(-1)
    p = node["probability"].values
    corpus = np.log(np.where(p > 0, p, 1)).sum(-1)
    corpus[~(p > 0).any(-1)] = np.nan
    known = np.isfinite(corpus)
    found = measure(tree, "memorisation", convention="li2025_code")
    assert (found["documents"] == known.sum()).all()
    for i in range(2):
        wanted = scipy.stats.spearmanr(corpus[known], model[i][known]).statistic
        assert float(found[i]) == pytest.approx(wanted, abs=1e-6)


def test_a_second_run_asks_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(sets, "read_set", never)
    assert execute(load_recipe(copy)).captured == 0
    indices = [p for p in (copy.parent / "tiny.zarr.ngrams").iterdir() if p.name != "leases"]
    assert len(indices) == 1


def test_another_corpus_is_another_store(copy: Path) -> None:
    write_corpus(copy.parent, 39)
    with pytest.raises(InputError, match=r"made from other inputs.*memorisation"):
        execute(load_recipe(copy))


def test_an_index_made_elsewhere_gives_the_same(copy: Path, store: xr.DataTree) -> None:
    (built,) = (copy.parent / "tiny.zarr.ngrams").glob("*/table.0")
    text = copy.read_text().replace('store = "tiny.zarr"', 'store = "other.zarr"')
    copy.write_text(text.replace('documents = "corpus.jsonl"', f'index = "{built.parent}"'))
    again = open_store(execute(load_recipe(copy)).store)
    for node in ("infinigram", "ngrams"):
        ours, theirs = (tree[f"sets/speeches/{node}"].to_dataset() for tree in (store, again))
        xr.testing.assert_equal(ours.compute(), theirs.compute())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('documents = "corpus.jsonl"\nindx = "x"', r"unknown key `memorisation.indx`.*`index`"),
        ('documents = "corpus.jsonl"\nindex = "x"', "not both"),
        ('text = "body"', "give `documents`"),
        ('documents = "none.jsonl"', r"memorisation.documents.*none.jsonl is not a file"),
        ('index = "none"', r"memorisation.index.*none is not a folder"),
        ('index = "."\ntoken_dtype = "u32"', "needs `eos_token_id`"),
        ('documents = "corpus.jsonl"\ntoken_dtype = "u8"', "goes with `index`"),
    ],
)
def test_what_a_recipe_may_not_say(
    write_recipe: Write, tmp_path: Path, table: str, said: str
) -> None:
    write_corpus(tmp_path)
    path = write_recipe(measures=f"names = []\n[memorisation]\n{table}")
    with pytest.raises(InputError, match=said) as caught:
        make_plan(load_recipe(path))
    assert str(path) in str(caught.value)


def test_a_visit_without_a_table_is_refused(write_recipe: Write) -> None:
    with pytest.raises(InputError, match=r"capture.visits.*\[memorisation\]"):
        make_plan(load_recipe(write_recipe(capture=CAPTURE)))


def test_a_measure_of_a_store_without_an_index_says_what_to_add(write_recipe: Write) -> None:
    path = write_recipe(steps="steps = [0]", capture='products = ["tokens"]')
    tree = open_store(execute(load_recipe(path)).store)
    with pytest.raises(InputError, match=r"add a table \[memorisation\] to the recipe and run"):
        measure(tree, "memorisation")


def test_a_folder_that_is_no_index_is_one_line(copy: Path) -> None:
    (copy.parent / "empty").mkdir()
    text = copy.read_text().replace('store = "tiny.zarr"', 'store = "other.zarr"')
    copy.write_text(text.replace('documents = "corpus.jsonl"', 'index = "empty"'))
    with pytest.raises(InputError, match="holds no ∞-gram index"):
        execute(load_recipe(copy))
