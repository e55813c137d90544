"""The sentences say what the numbers say, also when nothing was found."""

import numpy as np
import pytest

from figures.summary import interval, number, summarise, summarise_few


@pytest.fixture
def checkpoints(tree):
    return tree["checkpoints"].to_dataset()


@pytest.fixture
def phases(tree):
    node = tree["phases/sotu/main"].to_dataset().copy(deep=True)
    node.attrs = {**node.attrs, "excursion": dict(node.attrs["excursion"])}
    return node


def told(phases, checkpoints):
    return " ".join(summarise("main", phases, checkpoints).sentences)


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.4, "3.40"), (53, "53.0"), (0.0123, "0.0123"), (1234.5, "1,234"), (-2.2, "−2.20"),
     (np.nan, "not measured"), (None, "not measured")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_an_interval_that_is_not_known_is_not_printed():
    assert interval(3.4, 3.2, 3.6) == "3.40 [3.20, 3.60]"
    assert interval(3.4, None, None) == "3.40"
    assert interval(3.4, np.nan, np.nan) == "3.40"
    assert interval(np.nan, np.nan, np.nan) == "not measured"


def test_collapse_and_expansion_with_intervals(phases, checkpoints):
    text = told(phases, checkpoints)
    assert "collapsed: RankMe fell from 47.0 at step 1 to 3.40 at step 16 [13, 19]" in text
    assert "by a factor of 13.8 [12.6, 15.1]" in text
    assert "rose to 53.0 at step 1,500 [1,261, 1,500], by a factor of 15.6 [14.2, 17.1]" in text
    assert "At the last checkpoint, step 1,500, RankMe is 53.0: 1.13 times its first value" in text


def test_a_ratio_below_one_is_turned_over(phases, checkpoints):
    straight = told(phases, checkpoints)
    phases.attrs["excursion"] |= {
        "collapse_ratio": 1 / 13.8, "collapse_lower": 1 / 15.1, "collapse_upper": 1 / 12.6,
    }  # fmt: skip
    assert told(phases, checkpoints) == straight


def test_nothing_found_is_said(phases, checkpoints):
    phases.attrs["excursion"] |= {
        "collapsed": False, "collapse_ratio": 1.02, "collapse_lower": 0.97, "collapse_upper": 1.07,
        "expanded": False, "expansion_ratio": 1.01, "expansion_lower": 0.96,
        "expansion_upper": 1.06,
    }  # fmt: skip
    flat = phases.isel(boundary=slice(0, 0), segment=slice(1, 2))
    text = told(flat, checkpoints)
    assert "No collapse was found" in text
    assert "1.02 [0.970, 1.07], which does not stand out from probe noise" in text
    assert "No expansion was found" in text
    assert "No change point was found" in text
    assert "(p-values 0.00200, 0.0100, 0.400)" in text
    for name in ("warm-up", "entropy-seeking", "compression-seeking"):
        assert f"No {name} phase was labelled" in text


def test_the_last_value_is_compared_only_with_what_it_fits(phases, checkpoints):
    excursion = phases.attrs["excursion"]
    excursion |= {"last": 40.0, "last_ratio": 40 / 53}
    assert "0.755 times its highest value" in told(phases, checkpoints)
    excursion |= {"last_ratio": 0.3}
    assert "RankMe is 40.0." in told(phases, checkpoints)


def test_breaks_bends_and_segments(phases, checkpoints):
    summary = summarise("main", phases, checkpoints)
    text = " ".join(summary.sentences)
    assert "a sharp break at step 16 [12, 20]; a smooth bend at step 181 [139, 226]" in text
    assert "warm-up (steps 1–16), then a segment without a label (steps 16–181)" in text
    assert "Steps 16–181 carry no label: the interval of the slope of α includes 0." in text
    assert "No compression-seeking phase was labelled" in text
    assert "No warm-up" not in text
    assert [b[0] for b in summary.boundaries] == ["break", "bend"]
    assert summary.boundaries[0][2] == "32.8K [25.2K, 41K]"
    assert [s.label for s in summary.segments] == ["warm-up", "unlabelled", "entropy-seeking"]
    assert summary.segments[0].slopes == {
        "ln RankMe": "−2.20 [−2.40, −2.00]",
        "α": "0.700 [0.600, 0.800]",
    }


def test_slopes_that_match_no_phase(phases, checkpoints):
    phases["slope_lower"][1, 1] = 0.2
    assert "ln RankMe rises and α rises: together they match no phase" in told(phases, checkpoints)
    phases["slope_upper"][1, 0] = np.nan
    assert "the slope of ln RankMe has no interval" in told(phases, checkpoints)


def test_a_note_and_an_unknown_excursion(phases, checkpoints):
    phases.attrs |= {"note": "Too few checkpoints.", "excursion": {}}
    text = told(phases, checkpoints)
    assert "was not worked out" in text
    assert text.endswith("Too few checkpoints.")


def test_one_checkpoint_is_one_sentence(lone):
    node, checkpoints = (lone[p].to_dataset() for p in ("phases/sotu/main", "checkpoints"))
    summary = summarise("main", node, checkpoints)
    (sentence,) = summary.sentences
    assert sentence.startswith("There is one checkpoint")
    assert "phases need 8" in sentence
    assert summary.facts == (("Change points", "not looked for", "1 checkpoint; phases need 8"),)
    assert (summary.segments, summary.boundaries, summary.fitted) == ((), (), False)


def test_a_few_checkpoints_still_have_their_excursion(tree, phases, at_steps):
    few = at_steps(tree, 0, 1, 16, 1500)
    node = few["phases/sotu/main"].to_dataset().assign_attrs(excursion=phases.attrs["excursion"])
    summary = summarise("main", node, few["checkpoints"].to_dataset())
    text = " ".join(summary.sentences)
    assert "collapsed: RankMe fell from 47.0" in text
    assert "the fit needs 8 checkpoints later than step 0 with RankMe and α, and 3 of the 4" in text
    for absent in ("phase was labelled", "carry no label", "No change point", "not measured"):
        assert absent not in text
    names = [name for name, *_ in summary.facts]
    assert names == ["Collapse", "Expansion", "Change points"]
    assert summary.facts[-1][1:] == ("not looked for", "3 of 8 checkpoints needed")


def test_a_few_checkpoints_in_which_nothing_was_sought():
    summary = summarise_few("main", 5)
    assert summary.sentences[0].endswith("and there are 5 in all.")


def test_change_points_are_a_fact(phases, checkpoints):
    facts = {name: rest for name, *rest in summarise("main", phases, checkpoints).facts}
    assert facts["Change points"] == [
        "2", "break at step 16 [12, 20]; bend at step 181 [139, 226]"
    ]  # fmt: skip
    flat = phases.isel(boundary=slice(0, 0), segment=slice(1, 2))
    assert summarise("main", flat, checkpoints).facts[-1] == ("Change points", "0", "none found")
