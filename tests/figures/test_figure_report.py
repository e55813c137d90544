"""The report holds the numbers, escapes what it is given and loads nothing."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from figures import FIGURES
from figures.report import PageFigure, render
from figures.save import csv_text

# Made-up branches are no stages, so nothing of post-training is drawn.
SERIES = [
    n
    for n, row in FIGURES.items()
    if row.kind == "series" and not row.command and n != "post_training"
]
VOID = {"col", "meta", "img", "link", "br", "source"}
MADE = {"commands": ["phasescope report out/tiny"], "versions": {"matplotlib": "3.11.2"}}
PLAIN = {
    "phases": PageFigure("T", "<svg>light</svg>", "<svg>dark</svg>", "C & D", "S", "a,b\n1,2\n")
}


class Page(HTMLParser):
    """Collects tags and text, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def decode(uri):
    return base64.b64decode(uri.partition("base64,")[2]).decode()


@pytest.fixture(scope="module")
def html(tree):
    return render(tree, **MADE)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_is_loaded_from_elsewhere(page, html):
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    for _, attrs in page.tags:
        for key in ("src", "srcset", "href", "data", "poster", "action"):
            if key in attrs:
                assert attrs[key].startswith(("data:", "#"))
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style


def test_both_themes_and_print(page, html):
    for word in ("prefers-color-scheme: dark", "@media print", "tabular-nums"):
        assert word in html
    images = page.all("img")
    assert [image["class"] for image in images] == ["light", "dark"] * len(SERIES)
    for light, dark in zip(images[::2], images[1::2], strict=True):
        assert "fill: #ffffff" in decode(light["src"])
        assert "fill: #15191e" in decode(dark["src"])
        assert len(light["alt"]) > 50


def test_numbers_of_the_summary_are_there(page):
    for text in (
        "RankMe fell from 47.0 at step 1 to 3.40 at step 16 [13, 19], by a factor of 13.8 [12.6, 15.1]",
        "probe noise",
        "the spread between seeds is not in them",
        "a smooth bend at step 181",
        "No compression-seeking phase was labelled",
        "40 checkpoints: 39 done, 1 failed or missing",
    ):
        assert text in page.words


def test_every_checkpoints_values_are_in_the_table(page, tree):
    node = tree["measures/rankme/li2025/sotu"]
    final = node.to_dataset().isel(layer=5)
    for value, lower, upper in zip(
        *(final[n].values for n in ("value", "lower", "upper")), strict=True
    ):
        assert f"{value:#.3g} [{lower:#.3g}, {upper:#.3g}]" in page.words


def test_failures_warnings_and_definitions(page, tree):
    assert "Checkpoint main/step 64 is failed: shard 1 is truncated" in page.words
    assert "N/d is 8.0 at the final layer: RankMe is biased low" in page.words
    for path in ("rankme/li2025", "head_entropy/normalised_visible", "eigenspectrum/centered"):
        assert re.search(r"{} +{} +sotu".format(*path.split("/")), page.words)
    assert "infinitesimal jackknife over samples" in page.words
    assert "Inputs: 1024 documents × 128 tokens, shuffle seed 0, N/d = 8.0." in page.words


def test_how_to_make_it_again(page, tree):
    for text in ("phasescope report out/tiny", "3.11.2", "2.13.0", "ab" * 32, 'name = "tiny"'):
        assert text in page.words


def test_what_is_given_is_escaped(html, page):
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert page.words.strip().startswith("tiny <GPT-NeoX>")


def test_tables_behind_the_figures_can_be_taken_along(page, drawn):
    links = {a["download"]: decode(a["href"]) for a in page.all("a") if "download" in a}
    assert links == {f"{name}.csv": csv_text(drawn(name)[1]) for name in SERIES}


def test_the_page_is_accessible(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    identifiers = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    for anchor in page.all("a"):
        if anchor["href"].startswith("#"):
            assert anchor["href"][1:] in identifiers
    assert page.all("html")[0]["lang"] == "en"
    assert all(header["scope"] in ("col", "row") for header in page.all("th"))


def test_two_branches_are_told_apart(forked):
    page = Page(render(forked, figures=PLAIN, **MADE))
    assert page.words.count("Branch main") == page.words.count("Branch seed1") == 3
    assert "nor is the difference between branches" in page.words
    assert f"{forked['checkpoints'].sizes['checkpoint']} checkpoints: " in page.words


def test_figures_given_are_the_figures_shown(tree):
    page = Page(render(tree, figures=PLAIN, **MADE))
    assert [decode(image["src"]) for image in page.all("img")] == [
        "<svg>light</svg>",
        "<svg>dark</svg>",
    ]
    assert "C & D" in page.words
    assert "1 row, one a number" in page.words


def test_a_figure_without_its_measure_is_named(tree, drop, monkeypatch):
    two = {name: FIGURES[name] for name in ("layers", "heads")}
    monkeypatch.setattr("figures.report.FIGURES", two)
    smaller = drop(tree, "measures/head_entropy")
    page = Page(render(smaller, **MADE))
    shown = [attrs["id"] for attrs in page.all("h3") if attrs.get("id", "").startswith("figure-")]
    assert shown == ["figure-layers"]
    title = FIGURES["heads"].title
    assert f"Not drawn: {title}. The store does not hold what they show; " in page.words


def test_nan_is_counted(tree, put):
    node = tree["measures/rankme/li2025/sotu"].to_dataset().copy(deep=True)
    node["value"][3, :2] = np.nan
    page = Page(render(put(tree, "measures/rankme/li2025/sotu", node), figures=PLAIN, **MADE))
    size = node["value"].size
    assert f"rankme/li2025 (sotu): 2 of {size} values are NaN" in page.words


def test_the_first_checkpoint_of_a_branch_has_no_other_and_lacks_nothing(tree, put):
    path = "measures/linear_cka/debiased_previous/sotu"
    node = tree[path].to_dataset().copy(deep=True)
    assert (
        "linear_cka/debiased_previous (sotu)" not in Page(render(tree, figures=PLAIN, **MADE)).words
    )
    node["value"][4, 0] = np.nan
    page = Page(render(put(tree, path, node), figures=PLAIN, **MADE))
    size = node["value"][1:].size
    assert f"linear_cka/debiased_previous (sotu): 1 of {size} values are NaN" in page.words


def test_an_empty_store_still_has_a_page():
    page = Page(render(xr.DataTree(), **MADE))
    assert "No phases have been looked for" in page.words
    assert "No figure could be drawn" in page.words
    assert "0 checkpoints" in page.words


def test_status_of_each_product(tree, put):
    node = tree["checkpoints"].to_dataset().copy(deep=True)
    node["status"][5, 2] = 0
    page = Page(render(put(tree, "checkpoints", node), figures=PLAIN, **MADE))
    step = int(node["step"].values[5])
    assert f"Checkpoint main/step {step} is missing (attention)" in page.words
    assert "38 done, 2 failed or missing" in page.words


@pytest.fixture(scope="module")
def lone_page(lone):
    return Page(render(lone, **MADE))


def test_a_released_model_claims_nothing_of_training(lone_page):
    words = lone_page.words
    assert "Its representation at one checkpoint, layer by layer." in words
    assert "1 checkpoint: 1 done, 0 failed or missing" in words
    assert "Change points not looked for 1 checkpoint; phases need 8" in words
    assert words.count("There is one checkpoint") == 1
    for absent in (
        "while it trained", "1 checkpoints", "not measured", "Segments", "carry no label",
        "No change point", "phase was labelled", "usable checkpoints", "was not worked out",
    ):  # fmt: skip
        assert absent not in words
    targets = [anchor["href"] for anchor in lone_page.all("a")]
    assert "#phases" not in targets
    assert "#numbers" in targets


def test_a_released_model_shows_its_numbers(lone_page, lone):
    final = lone["measures/rankme/li2025/sotu"].isel(checkpoint=0, layer=5)
    value, lower, upper = (f"{float(final[n]):#.3g}" for n in ("value", "lower", "upper"))
    assert f"RankMe {value} [{lower}, {upper}]; final layer" in lone_page.words
    assert "Next-token accuracy 0.354 [0.348, 0.360]; mean over tokens" in lone_page.words
    row = rf"0 – {value} \[{lower}, {upper}\] NaN 7\.\d+ \[\S+ \S+\] 0\.354 \[0\.348, 0\.360\]"
    assert re.search(row, lone_page.words)


def test_figures_over_training_are_named_but_are_no_warning(lone_page):
    shown = [a["id"] for a in lone_page.all("h3") if a.get("id", "").startswith("figure-")]
    known = ["profile", "eigenspectra", "heads", "attention_bands", "bound_diagram"]
    known += ["sinks", "massive", "context", "induction", "head_lives"]
    known += ["word_class_maps", "word_class_curves", "word_class_confusion"]
    known += ["modality_entropy", "modality_following", "modality_curves", "modality_strata"]
    known += ["modality_oscillation"]
    known += ["modality_layers", "modality_contest", "modality_cause"]
    assert [name for name in shown if name != "figure-samples"] == [f"figure-{n}" for n in known]
    told = re.search(
        r"Not drawn: (.+?)\. A figure over training needs two or more checkpoints with their tokens;"
        r" there is 1\.",
        lone_page.words,
    )
    assert told is not None
    titles = set(told[1].split("; "))
    assert {"Training phases", "Layers through training", "Dispersion"} <= titles
    assert "is not drawn:" not in lone_page.words


def test_branches_of_one_checkpoint_each(forked, at_steps, drop):
    few = drop(at_steps(forked, 128), "phases")
    page = Page(render(few, figures=PLAIN, **MADE))
    assert "at one checkpoint of each branch" in page.words
    assert page.words.count("There is one checkpoint") == 2
    assert "No phases have been looked for" not in page.words


def test_a_branch_that_was_fitted_keeps_its_section_beside_one_that_was_not(forked, at_steps, put):
    short = at_steps(forked, 0, 128)["phases/sotu/seed1"].to_dataset()
    page = Page(render(put(forked, "phases/sotu/seed1", short), figures=PLAIN, **MADE))
    section = page.words[page.words.index("Continuous piecewise") :]
    assert section.count("Segments; slopes") == 1
    assert "No phases were looked for: the fit needs 8" in section


def test_reasons_of_several_products_are_told_once(tree, put):
    node = tree["checkpoints"].to_dataset()
    many = np.repeat(node["error"].values[:, None], 4, axis=1)
    many[many != ""] = "shard 1 is truncated"
    many[0, 2] = "no space left"
    node = node.assign(error=(("checkpoint", "product"), many))
    page = Page(render(put(tree, "checkpoints", node), figures=PLAIN, **MADE))
    assert page.words.count("shard 1 is truncated") == 2  # as a warning and in the table
    assert "no space left" in page.words
    assert "['" not in page.words
