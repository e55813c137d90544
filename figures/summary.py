"""Says in plain sentences what happened to the representation, and what was not found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose, isfinite
from typing import Any

import numpy as np
import xarray as xr

from figures.axes import short_number
from figures.select import was_fitted
from geometry.phases import FEWEST

_DIRECTIONS = {
    "warm-up": "an initial fall of RankMe",
    "entropy-seeking": "RankMe rising while α falls",
    "compression-seeking": "RankMe falling while α rises",
}
_CURVE_NAMES = {"log_rankme": "ln RankMe", "alpha": "α"}


@dataclass(frozen=True)
class Segment:
    """One row of the table of segments, ready to print."""

    steps: str
    tokens: str
    label: str
    slopes: dict[str, str]
    reason: str


@dataclass(frozen=True)
class BranchSummary:
    """What is said of one branch.

    Attributes
    ----------
    sentences : the plain-language summary, in order.
    facts : (name, value, note) of the few numbers that matter most.
    boundaries : (kind, step, tokens) of each boundary, with intervals.
    fitted : whether there were enough checkpoints to look for phases.
    more : what is said of attention heads, word classes and modalities.
    """

    branch: str
    sentences: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]
    boundaries: tuple[tuple[str, str, str], ...]
    segments: tuple[Segment, ...]
    fitted: bool = True
    more: tuple[str, ...] = ()


def number(value: object, digits: int = 3) -> str:
    """Write a number with `digits` significant digits, thousands set apart; NaN says so."""
    if value is None:
        return "not measured"
    size = float(value)  # type: ignore[arg-type]  # attributes come from JSON: checked just below
    if not isfinite(size):
        return "not measured"
    text = f"{size:,.0f}" if abs(size) >= 10**digits else f"{size:#.{digits}g}".rstrip(".")
    return text.replace("-", "−")


def interval(value: object, lower: object, upper: object) -> str:
    """Write "3.40 [3.21, 3.61]", without the brackets where there is no interval."""
    if any(end is None or not isfinite(float(end)) for end in (value, lower, upper)):  # type: ignore[arg-type]
        return number(value)
    return f"{number(value)} [{number(lower)}, {number(upper)}]"


def summarise(branch: str, phases: xr.Dataset, checkpoints: xr.Dataset) -> BranchSummary:
    """Turn one branch's phases into sentences and tables.

    Parameters
    ----------
    phases : the node /phases/SET/BRANCH with the attributes `excursion`, `note` and `layer`.
    checkpoints : `step` and `tokens` (checkpoint) of this branch, to speak of steps.
    """
    excursion = phases.attrs.get("excursion") or {}
    told, facts = _excursion(excursion)
    if not was_fitted(phases):
        too_few = summarise_few(
            branch, checkpoints.sizes["checkpoint"], phases.sizes["tokens_fitted"]
        )
        alone = checkpoints.sizes["checkpoint"] == 1
        return replace(
            too_few,
            sentences=too_few.sentences if alone else (*told, *too_few.sentences),
            facts=(*facts, *too_few.facts),
        )
    segments = _segments(phases, checkpoints)
    boundaries = _boundaries(phases, checkpoints)
    told += _phase_sentences(phases, segments, boundaries)
    marks = "; ".join(f"{kind} at step {step}" for kind, step, _ in boundaries) or "none found"
    facts.append(("Change points", str(len(boundaries)), marks))
    return BranchSummary(branch, tuple(told), tuple(facts), boundaries, segments)


def summarise_few(branch: str, count: int, usable: int | None = None) -> BranchSummary:
    """Say that a branch has too few checkpoints to look for phases.

    Parameters
    ----------
    count : its checkpoints.
    usable : those the fit could use: later than step 0, with RankMe and α; None if that is unknown.
    """
    if count == 1:
        told = (
            "There is one checkpoint: how the representation changed in training cannot be told, and"
            f" phases need {FEWEST} checkpoints."
        )
        note = f"1 checkpoint; phases need {FEWEST}"
    else:
        there = (
            f"there are {count} in all" if usable is None else f"{usable} of the {count} are such"
        )
        told = (
            f"No phases were looked for: the fit needs {FEWEST} checkpoints later than step 0 with"
            f" RankMe and α, and {there}."
        )
        note = f"{count if usable is None else usable} of {FEWEST} checkpoints needed"
    return BranchSummary(
        branch, (told,), (("Change points", "not looked for", note),), (), (), fitted=False
    )


def _excursion(told: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str, str]]]:
    if not told:
        return ["How far RankMe fell and rose was not worked out for this branch."], []
    fall, fall_text = _factor(told, "collapse")
    rise, rise_text = _factor(told, "expansion")
    low_at = _step_interval(told, "minimum_step")
    high_at = _step_interval(told, "maximum_step")
    first, low, high = (number(told.get(k)) for k in ("first", "minimum", "maximum"))
    sentences, facts = [], []
    if told.get("collapsed"):
        sentences.append(
            f"The representation collapsed: RankMe fell from {first} at step"
            f" {_step(told.get('first_step'))} to {low} at {low_at}, by a factor of {fall_text}."
        )
        facts.append(("Collapse", f"÷ {fall}", f"factor {fall_text}; lowest at {low_at}"))
    else:
        sentences.append(
            f"No collapse was found: RankMe was {first} at step {_step(told.get('first_step'))}"
            f" and its lowest later value is {low} at {low_at}, a factor of {fall_text}, which does not"
            " stand out from probe noise."
        )
        facts.append(("Collapse", "none found", f"factor {fall_text}"))
    if told.get("expanded"):
        sentences.append(
            f"It then expanded: RankMe rose to {high} at {high_at}, by a factor of {rise_text}"
            " from its lowest value."
        )
        facts.append(("Expansion", f"× {rise}", f"factor {rise_text}; highest at {high_at}"))
    else:
        sentences.append(
            f"No expansion was found: after its lowest value RankMe reached {high} at {high_at},"
            f" a factor of {rise_text}, which does not stand out from probe noise."
        )
        facts.append(("Expansion", "none found", f"factor {rise_text}"))
    return sentences + _last(told), facts


def _factor(told: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the factor, 1 or more, alone and with its interval; smaller/larger is turned over."""
    ratio, lower, upper = (told.get(f"{name}_{part}") for part in ("ratio", "lower", "upper"))
    if ratio is not None and 0 < ratio < 1:
        ratio = 1 / ratio
        lower, upper = (1 / end if end else None for end in (upper, lower))
    return number(ratio), interval(ratio, lower, upper)


def _step_interval(told: Mapping[str, Any], name: str) -> str:
    step, lower, upper = (_step(told.get(name + part)) for part in ("", "_lower", "_upper"))
    return f"step {step}" if lower == upper else f"step {step} [{lower}, {upper}]"


def _step(step: object) -> str:
    return f"{step:,}" if isinstance(step, int) else number(step)


def _last(told: Mapping[str, Any]) -> list[str]:
    last, ratio = told.get("last"), told.get("last_ratio")
    if last is None:
        return []
    text = f"At the last checkpoint, step {_step(told.get('last_step'))}, RankMe is {number(last)}"
    # The ratio's reference is told from the numbers, so that the sentence cannot be wrong.
    for reference, words in (
        ("maximum", "its highest value"),
        ("first", "its first value"),
        ("minimum", "its lowest value"),
    ):
        base = told.get(reference)
        if ratio and base and isclose(ratio, last / base, rel_tol=0.01):
            spread = interval(ratio, told.get("last_ratio_lower"), told.get("last_ratio_upper"))
            return [f"{text}: {spread} times {words}."]
    return [f"{text}."]


def _to_step(tokens: float, checkpoints: xr.Dataset) -> str:
    """Return the step at which so many tokens were seen, by interpolation in log tokens."""
    seen = checkpoints["tokens"].values.astype(float)
    steps = checkpoints["step"].values.astype(float)
    order = np.argsort(seen)
    order = order[seen[order] > 0]
    if order.size == 0 or not isfinite(tokens) or tokens <= 0:
        return "not measured"
    step = np.interp(np.log(tokens), np.log(seen[order]), np.log(np.maximum(steps[order], 1e-9)))
    return f"{np.exp(step):,.0f}"


def _boundaries(phases: xr.Dataset, checkpoints: xr.Dataset) -> tuple[tuple[str, str, str], ...]:
    names = ("kind", "boundary", "boundary_lower", "boundary_upper")
    rows = []
    for kind, *ends in zip(*(phases[name].values for name in names), strict=True):
        tokens = [float(end) for end in ends]
        at, low, high = (_to_step(end, checkpoints) for end in tokens)
        seen, least, most = (short_number(end) for end in tokens)
        known = all(isfinite(end) for end in tokens[1:])
        step = f"{at} [{low}, {high}]" if known else at
        rows.append((str(kind), step, f"{seen} [{least}, {most}]" if known else seen))
    return tuple(rows)


def _segments(phases: xr.Dataset, checkpoints: xr.Dataset) -> tuple[Segment, ...]:
    curves = [str(curve) for curve in phases["curve"].values]
    rows = []
    for index, label in enumerate(phases["label"].values):
        ends = [float(phases[name].values[index]) for name in ("start", "end")]
        slopes = {
            curve: tuple(
                float(phases[name].values[index, place])
                for name in ("slope", "slope_lower", "slope_upper")
            )
            for place, curve in enumerate(curves)
        }
        rows.append(
            Segment(
                steps="–".join(_to_step(end, checkpoints) for end in ends),
                tokens="–".join(short_number(end) for end in ends),
                label=str(label),
                slopes={_CURVE_NAMES.get(c, c): interval(*s) for c, s in slopes.items()},
                reason=_reason(slopes) if str(label) == "unlabelled" else "",
            )
        )
    return tuple(rows)


def _reason(slopes: Mapping[str, tuple[float, ...]]) -> str:
    """Say why a segment carries no label."""
    unknown = [_CURVE_NAMES.get(c, c) for c, s in slopes.items() if not all(map(isfinite, s))]
    if unknown:
        return f"the slope of {' and '.join(unknown)} has no interval"
    flat = [_CURVE_NAMES.get(c, c) for c, s in slopes.items() if s[1] <= 0 <= s[2]]
    if flat:
        return f"the interval of the slope of {' and of '.join(flat)} includes 0"
    ways = [
        f"{_CURVE_NAMES.get(c, c)} {'rises' if s[0] > 0 else 'falls'}" for c, s in slopes.items()
    ]
    return f"{' and '.join(ways)}: together they match no phase"


def _phase_sentences(
    phases: xr.Dataset, segments: Sequence[Segment], boundaries: Sequence[tuple[str, str, str]]
) -> list[str]:
    told = []
    tests = ", ".join(number(p) for p in np.atleast_1d(phases.attrs.get("p_values", [])))
    if boundaries:
        marks = "; ".join(
            f"a {'sharp break' if kind == 'break' else 'smooth bend'} at step {step}"
            for kind, step, _ in boundaries
        )
        parts = ", then ".join(
            f"{'a segment without a label' if s.label == 'unlabelled' else s.label}"
            f" (steps {s.steps})"
            for s in segments
        )
        told += [f"The fit finds {marks}.", f"In order of training: {parts}."]
    else:
        told.append(
            "No change point was found: one straight line in log tokens describes the curves as"
            " well as a broken one" + (f" (p-values {tests})." if tests else ".")
        )
    told += [f"Steps {s.steps} carry no label: {s.reason}." for s in segments if s.reason]
    absent = [name for name in _DIRECTIONS if name not in {s.label for s in segments}]
    told += [
        f"No {name} phase was labelled in this run; that would be {_DIRECTIONS[name]}, with both"
        " slopes' intervals away from 0."
        for name in absent
    ]
    note = str(phases.attrs.get("note", "")).strip()
    return [*told, note] if note else told
