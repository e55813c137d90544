"""The catalogue: every row draws, says what is missing, and takes a new row without other edits."""

import matplotlib
import pytest
import xarray as xr
from matplotlib.figure import Figure

import figures
from figures import FIGURES, FigureRow, MissingMeasure, draw
from figures.select import TooFewCheckpoints
from figures.style import THEMES, styled

NEEDS = [(name, *need) for name, row in FIGURES.items() for need in row.needs]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("theme", THEMES)
def test_every_figure_draws_in_both_themes(drawn, name, theme):
    figure, table = drawn(name, 2, theme)
    assert isinstance(figure, Figure)
    assert matplotlib.colors.to_hex(figure.get_facecolor()) == THEMES[theme].page
    assert all("units" in variable.attrs for variable in table.data_vars.values())
    assert table.attrs["set"] == "sotu"
    assert "{" not in table.attrs["caption"]
    assert "not stated" not in table.attrs["caption"]
    assert "1024 documents × 128 tokens" in table.attrs["caption"]


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_legible_in_print(drawn, name):
    figure, _ = drawn(name, 2)
    sizes = [t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip()]
    # Exponents of a log axis are set smaller by the text engine, not by a font size of their own.
    assert min(sizes) >= 8
    assert figure.get_figwidth() == 7


@pytest.mark.parametrize(("name", "measure", "convention"), NEEDS)
def test_a_missing_measure_is_named_with_the_mend(tree, drop, name, measure, convention):
    command = FIGURES[name].command or "phasescope measure STORE"
    with pytest.raises(MissingMeasure, match=command) as caught:
        draw(drop(tree, f"measures/{measure}/{convention}"), name)
    assert FIGURES[name].command or f"{measure}/{convention}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, LookupError)


def test_one_checkpoint_is_too_few_for_figures_over_training(lone, forked, at_steps):
    for name in ("phases", "layers"):
        with pytest.raises(TooFewCheckpoints, match=r"two or more checkpoints .*; there is 1$"):
            draw(lone, name)
        with pytest.raises(TooFewCheckpoints, match="there is 1 in each of 2 branches"):
            draw(at_steps(forked, 128), name)
    nodes = at_steps(forked, 16, 128).to_dict()
    unknown = {
        p: d.assign_coords(tokens=0 * d["tokens"]) if "checkpoint" in d.dims else d
        for p, d in nodes.items()
    }
    with pytest.raises(TooFewCheckpoints, match="the tokens of all 4 are 0"):
        draw(xr.DataTree.from_dict(unknown), "layers")
    assert draw(at_steps(forked, 0, 16), "layers")[1].sizes["checkpoint"] == 4


def test_what_a_function_says_of_its_figure_fills_the_caption(tree, monkeypatch):
    def draw_nothing(material, theme, *, colour="red"):
        table = material.measures["loss"][["value"]]
        return Figure(), table.assign_attrs(panels="Nothing", inputs="mine", colour="blue")

    row = FigureRow(
        name="none", title="None", function=draw_nothing, needs=(("loss", "surprisal"),),
        phases=False, source="here", caption="{panels} in {colour}: {inputs}.",
    )  # fmt: skip
    monkeypatch.setitem(figures.FIGURES, "none", row)
    told = draw(tree, "none", colour="green")[1].attrs
    assert told["caption"].startswith("Nothing in green: 1024 documents")
    assert "panels" not in told


def test_an_empty_tree_is_a_missing_measure(tree, drop):
    with pytest.raises(MissingMeasure, match="rankme/li2025"):
        draw(drop(tree, "measures", "phases", "checkpoints"), "phases")


def test_unknown_names_are_refused(tree):
    with pytest.raises(ValueError, match="phases, layers, profile, eigenspectra, heads"):
        draw(tree, "phase")
    with pytest.raises(ValueError, match="dark, light"):
        draw(tree, "phases", theme="sepia")
    with pytest.raises(MissingMeasure, match="for the set 'pile'"):
        draw(tree, "phases", set="pile")


def test_the_first_set_with_every_measure_is_taken(tree, put):
    alone = tree["measures/rankme/li2025/sotu"].to_dataset()
    both = put(tree, "measures/rankme/li2025/aaa", alone)
    both = put(
        both, "measures/alpha_req/li2025/aaa", tree["measures/alpha_req/li2025/sotu"].to_dataset()
    )
    only_rankme = put(tree, "measures/rankme/li2025/aaa", alone)
    assert draw(only_rankme, "layers")[1].attrs["set"] == "sotu"
    assert draw(both, "layers", set="aaa")[1].attrs["set"] == "aaa"


def test_another_convention_on_request(tree):
    _, table = draw(tree, "heads", conventions={"head_entropy": "normalised_visible"})
    node = tree["measures/head_entropy/normalised_visible/sotu"]
    assert (table["head_entropy"].values == node["value"].values).all()


def test_a_figure_is_one_function_and_one_row(tree, monkeypatch):
    def draw_loss(material, theme, *, colour=None):
        loss = material.measures["loss"]
        figure = Figure()
        figure.add_subplot().plot(loss["step"], loss["value"], color=colour or theme.ink)
        return figure, loss[["value"]]

    row = FigureRow(
        name="loss", title="Loss", function=draw_loss, needs=(("loss", "surprisal"),),
        phases=False, source="here", caption="Loss on {set} in {colour}.",
    )  # fmt: skip
    monkeypatch.setitem(figures.FIGURES, "loss", row)
    figure, table = draw(tree, "loss", colour="red")
    assert (figure.axes[0].lines[0].get_ydata() == table["value"].values).all()
    assert table.attrs["caption"] == "Loss on sotu in red."
    assert table.attrs["title"] == "Loss"


def test_drawing_leaves_settings_and_lazy_data_alone(tree):
    before = dict(matplotlib.rcParams)
    lazy = tree.chunk({"checkpoint": 7})
    for name in ("phases", "heads"):
        _, table = draw(lazy, name)
        assert all(variable.chunks is None for variable in table.variables.values())
    assert dict(matplotlib.rcParams) == before
    for node in lazy["measures"].leaves:
        if "checkpoint" not in node.dims:  # of training runs, which have none to be divided along
            continue
        assert all(variable.chunks is not None for variable in node.data_vars.values())


def test_a_users_own_settings_do_not_change_a_figure(tree):
    with matplotlib.rc_context({"axes.facecolor": "#ff0000", "lines.linestyle": "--"}):
        figure, _ = draw(tree, "phases")
    assert figure.axes[0].get_facecolor() == (0.0, 0.0, 0.0, 0.0)
    with styled(THEMES["light"]):
        assert matplotlib.rcParams["lines.linestyle"] == "-"
