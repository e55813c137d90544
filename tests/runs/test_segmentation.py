"""The published segmentation: its table, the comparison's counts, and the command that draws it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from runs.cli import app
from runs.segmentation import OUTLIERS, comparison, training_maps


@pytest.fixture(scope="module")
def compared():
    return comparison()


def test_the_table_is_ten_runs_of_the_published_steps():
    runs = training_maps()
    assert [run.seed for run in runs] == list(range(10))
    steps = [0, *2.0 ** np.arange(10), 1000, 3000, *np.arange(13_000, 144_000, 10_000)]
    for run in runs:
        assert run.steps.tolist() == steps
        assert run.state[0] == 0
        assert run.changes.size == 4
    # The score is standardised: over all runs and steps about mean 0, deviation 1.
    usual = np.concatenate([run.score for run in runs])
    assert abs(usual.mean()) < 0.1
    assert 0.85 < usual.std() < 1.1
    # The outliers fall back by more than any other run.
    falls = {run.seed: (np.maximum.accumulate(run.score) - run.score).max() for run in runs}
    assert set(sorted(falls, key=falls.get)[-2:]) == set(OUTLIERS)


@pytest.mark.slow
def test_counts_are_those_of_plain_sets(compared):
    found, _, tree = compared
    node = tree["measures/segmentation/polypythias/published"].to_dataset()
    for c in found:
        ours, theirs = c.places.tolist(), c.run.changes.tolist()
        # Changes of state lie three checkpoints apart or more, ours too: no pairing is ambiguous.
        near = [t for t in theirs if any(abs(t - o) <= 1 for o in ours)]
        alone = [o for o in ours if not any(abs(t - o) <= 1 for t in theirs)]
        assert c.match.found.size == len(near)
        assert c.match.missed.size == len(theirs) - len(near)
        assert c.match.extra.size == len(alone)
        own = node.isel(checkpoint=node["branch"].values == f"seed {c.run.seed}")
        assert np.flatnonzero(np.isfinite(own["found"].values)).tolist() == ours
        assert np.flatnonzero(own["published"].values == 2).tolist() == [
            t for t in theirs if t not in near
        ]
        inside = own.isel(checkpoint=ours)
        assert (inside["found_lower"] <= inside["tokens"]).all()
        assert (inside["tokens"] <= inside["found_upper"]).all()


@pytest.mark.slow
def test_the_rise_of_the_score_is_found_where_it_is(compared):
    found, joint, _ = compared
    # By eye the usual scores lie still to step 512, rise to 13000 and then hardly.
    for boundary, rise in zip(joint.boundaries, (512, 13_000), strict=True):
        steps = found[0].run.steps
        assert abs(np.searchsorted(steps, boundary) - np.searchsorted(steps, rise)) <= 1


@pytest.mark.slow
def test_the_command_needs_no_store(tmp_path):
    result = CliRunner().invoke(app, ["segmentation", "--out", str(tmp_path / "x")])
    assert result.exit_code == 0, result.output
    assert "3 (outlier)" in result.output
    assert "adjusted Rand index" in result.output
    written = sorted(path.name for path in (tmp_path / "x").iterdir())
    assert written == [f"segmentation.{kind}" for kind in ("csv", "json", "pdf", "png", "svg")]
    told = json.loads((tmp_path / "x" / "segmentation.json").read_text())
    assert "training_maps.tsv" in told["source"]
