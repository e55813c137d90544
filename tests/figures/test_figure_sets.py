"""Figures of several sets: which belong together, what is drawn of each, and what is refused."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from figures import FIGURES, draw
from figures.select import TooFewSets, gather
from figures.sets import by_length, one_a_text, stem
from figures.style import LIGHT


def material(tree, name="datasets", **options):
    row = FIGURES[name]
    return gather(tree, row.needs, every_set=row.every_set, **options)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("web16", "web"), ("web-16", "web"), ("web_128", "web"), ("web", "web"), ("w2b", "w2b")],
)
def test_a_stem_is_a_name_without_the_number_at_its_end(name, wanted):
    assert stem(name) == wanted


def test_sets_of_one_text_are_told_from_others(tree):
    found = material(tree)
    assert list(found.sets) == ["sotu", "sotu32", "sotu64", "zweig"]
    assert list(by_length(found)) == [32, 64]
    assert list(one_a_text(found)) == ["sotu64", "zweig"]
    other = material(tree, wanted="zweig")
    assert list(by_length(other)) == [128]


def lines(axes):
    return {str(line.get_label()): line for line in axes.lines if len(line.get_xdata()) > 2}


def test_every_text_is_a_line_over_training(tree):
    figure, table = draw(tree, "datasets")
    assert table["set"].values.tolist() == ["sotu64", "zweig"]
    for measure in ("rankme", "alpha_req"):
        for name in ("sotu64", "zweig"):
            node = tree[f"measures/{measure}/li2025/{name}"].to_dataset().isel(layer=-1)
            np.testing.assert_array_equal(table[measure].sel(set=name), node["value"])
            seen = node["tokens"].values > 0
            found = [lines(a)[name] for a in figure.axes if name in lines(a)]
            assert any(np.array_equal(f.get_ydata(), node["value"].values[seen]) for f in found)
    assert "zweig: 1024 documents × 128 tokens, shuffle seed 0, N/d = 8.0" in table.attrs["caption"]


def test_one_text_is_nothing_to_compare(tree, drop):
    alone = drop(tree, "measures/rankme/li2025/zweig")
    with pytest.raises(TooFewSets, match="there is sotu64 only"):
        draw(alone, "datasets")


def test_samples_and_lengths_of_the_same_checkpoints(tree):
    figure, table = draw(tree, "samples")
    above, right, below, _ = figure.axes
    node = tree["measures/rankme_samples/li2025/sotu"].to_dataset().isel(layer=-1)
    steps = table["step"].values
    assert steps[0] == 0
    assert steps[-1] == 1500
    for step in steps:
        own = node.isel(checkpoint=int(np.flatnonzero(node["step"] == step)[0]))
        line = lines(above)[f"step {step}"]
        np.testing.assert_array_equal(line.get_ydata(), own["value"])
        np.testing.assert_array_equal(line.get_xdata(), [128, 256, 512, 1024])
        row = table.sel(checkpoint=f"main/step{step}")
        np.testing.assert_array_equal(row["rankme_by_samples"], own["value"])
        for length in (32, 64):
            data = tree[f"measures/rankme/li2025/sotu{length}"].to_dataset().isel(layer=-1)
            wanted = float(data["value"].values[data["step"].values == step][0])
            assert float(row["rankme_by_length"].sel(length=length)) == wanted
    assert below.get_xlabel() == "samples"
    assert right.get_shared_y_axes().joined(right, above)


def test_a_doubted_extrapolation_is_hollow(tree, drop):
    figure, table = draw(tree, "samples")
    marks = {
        line.get_label(): line
        for line in figure.axes[0].lines
        if str(line.get_label()).startswith("_beyond")
    }
    for step, trusted in zip(table["step"].values, table["trusted"].values, strict=True):
        face = marks[f"_beyond step {step}"].get_markerfacecolor()
        assert bool(trusted) == (step != 1500)
        assert (to_hex(face) == LIGHT.page) is (not trusted)
    plain, table = draw(drop(tree, "measures/rankme/li2025+half_sample"), "samples")
    assert "trusted" not in table
    assert "extrapolated" not in table.attrs["caption"]
    assert not [a for a in plain.axes[0].lines if str(a.get_label()).startswith("_beyond")]


def test_without_other_lengths_there_is_one_column(tree, drop):
    paths = [f"measures/{m}/li2025/sotu{n}" for m in ("rankme", "alpha_req") for n in (32, 64)]
    figure, table = draw(drop(tree, *paths), "samples")
    assert len(figure.axes) == 2
    assert "rankme_by_length" not in table
    assert "Right" not in table.attrs["caption"]


def test_alpha_without_numbers_is_left_out(tree, put):
    path = "measures/alpha_req_samples/li2025/sotu"
    data = tree[path].to_dataset()
    empty = data.assign({v: np.nan * data[v] for v in ("value", "lower", "upper")})
    figure, table = draw(put(tree, path, empty), "samples")
    assert len(figure.axes) == 2
    assert table.attrs["caption"].startswith("RankMe of layer final")
    assert "alpha_req_by_samples" not in table
