"""What a run keeps of scores, in a store made up to be Pythia's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from figures import draw
from geometry.correlation import correlation
from runs import score_nodes
from runs.score_nodes import write_scores
from runs.scores import published_scores

STEPS = [0, 1, 64, 512, 1000, 3000, 13_000, 23_000, 53_000, 100_000, 143_000]


def made(recipe: str, *, own: bool) -> xr.DataTree:
    rng = np.random.default_rng(0)
    axis = {
        "checkpoint": [f"main/step{s}" for s in STEPS],
        "step": ("checkpoint", STEPS),
        "tokens": ("checkpoint", np.array(STEPS) * 2_097_152),
        "branch": ("checkpoint", ["main"] * len(STEPS)),
    }
    layers = {"layer": [0, 1], "layer_name": ("layer", ["embedding", "final"])}
    nodes = {
        f"/measures/{name}/li2025/pile": xr.Dataset(
            {"value": (("checkpoint", "layer"), rng.uniform(1, 9, (len(STEPS), 2)))},
            {**axis, **layers},
            {"lineage": f"{name}-1", "level": 0.95, "inputs": "made up", "interval": "none"},
        )
        for name in ("rankme", "alpha_req")
    }
    if own:
        nodes["/measures/task_score/acc/pile"] = xr.Dataset(
            {"value": (("checkpoint", "task"), rng.uniform(0, 1, (len(STEPS), 1)))},
            {**axis, "task": ["cloze"]},
            {"lineage": "scores-1"},
        )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"recipe": recipe}), **nodes})


PYTHIA = '[series]\nkind = "pythia"\nsize = "1b"'


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A tree in place of a store, to which nodes are written."""

    def use(tree: xr.DataTree) -> dict[str, xr.Dataset]:
        written: dict[str, xr.Dataset] = {}

        def write(_path: Path, node: str, data: xr.Dataset) -> None:
            written[node] = data
            state["tree"] = xr.DataTree.from_dict({**state["tree"].to_dict(), f"/{node}": data})

        state = {"tree": tree}
        monkeypatch.setattr(score_nodes, "open_store", lambda _path: state["tree"])
        monkeypatch.setattr(score_nodes, "write_node", write)
        return written

    return use


def test_a_pythia_store_gets_its_published_scores_and_correlations(store) -> None:  # type: ignore[no-untyped-def]
    tree = made(PYTHIA, own=True)
    written = store(tree)
    assert write_scores(Path("x")) == (
        "published_score/pythia_v1/pile",
        "score_correlation/li2025/pile",
    )
    sciq = written["measures/published_score/pythia_v1/pile"].sel(task="sciq")
    wanted = published_scores("1b")
    np.testing.assert_array_equal(sciq["value"], wanted)
    np.testing.assert_array_equal(sciq["tokens"], wanted["tokens"])
    np.testing.assert_allclose(
        sciq["upper"] - sciq["lower"], 3.92 * wanted["standard_error"], rtol=1e-4
    )
    found = written["measures/score_correlation/li2025/pile"]
    assert set(found["score"].values) >= {"cloze", "sciq (published)"}
    # Steps of both but the first: 100000 was not published.
    shared = [s for s in STEPS if s not in (0, 100_000)]
    rows = [STEPS.index(s) for s in shared]
    alpha = tree["measures/alpha_req/li2025/pile"]["value"].values[rows, 1]
    direct = correlation(alpha, wanted.sel(step=shared).values, method="spearman")
    one = found.sel(
        measure="alpha_req", score="sciq (published)", branch="main", coefficient="spearman"
    )
    for name in ("value", "lower", "n", "p", "p_surrogate", "differences"):
        np.testing.assert_allclose(one[name], getattr(direct, name), rtol=1e-12)
    assert int(found["n"].sel(score="cloze").min()) == len(STEPS) - 1


def test_what_is_current_is_not_written_again(store) -> None:  # type: ignore[no-untyped-def]
    written = store(made(PYTHIA, own=True))
    write_scores(Path("x"))
    assert write_scores(Path("x")) == ()
    assert len(written) == 2


def test_other_stores_get_what_they_have(store) -> None:  # type: ignore[no-untyped-def]
    store(made("", own=True))
    assert write_scores(Path("x")) == ("score_correlation/li2025/pile",)
    store(made("", own=False))
    assert write_scores(Path("x")) == ()
    few = made("", own=True).isel(checkpoint=[0, 1])
    store(few)
    assert write_scores(Path("x")) == ()  # one step after step 0 correlates with nothing


def test_what_is_kept_is_drawn(store) -> None:  # type: ignore[no-untyped-def]
    tree = made(PYTHIA, own=False)
    written = store(tree)
    write_scores(Path("x"))
    whole = xr.DataTree.from_dict({**tree.to_dict(), **{f"/{k}": v for k, v in written.items()}})
    _, table = draw(whole, "downstream")
    assert "sciq_published" in table
    assert "published for pythia-1b" in table.attrs["caption"]
    assert draw(whole, "correlations")[1].sizes["row"] > 8
