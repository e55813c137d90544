"""Sentences about the colour of a shape, certain or graded, and the words of a tiny model.

A text speaks of one shape (or of two) and supports one colour. It is direct, goes over another thing, or
compares with a thing of everyday life whose colour is known more or less well: a thing of typicality p
has its typical colour with probability p in training, and each of the other five with (1 − p) / 5. That
is what grades the uncertainty of an answer from text alone, as in arXiv 2511.02243 (Appendix B, its tiers
0 to 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLOURS = ("red", "yellow", "blue", "green", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
TYPICALITIES = (1.0, 0.9, 0.75, 0.6, 0.45)
# A row a colour, a column a typicality.
THINGS = (
    ("ruby", "tomato", "rose", "brick", "apple"),
    ("lemon", "canary", "banana", "straw", "pear"),
    ("sapphire", "ocean", "denim", "jay", "slate"),
    ("emerald", "grass", "frog", "moss", "bottle"),
    ("amethyst", "violet", "plum", "grape", "orchid"),
    ("carrot", "pumpkin", "tiger", "copper", "salmon"),
)
LINKS = ("box", "cup", "flag", "door", "hat")

DIRECT, LINKED, GRADED = 0, 1, 2
ONE_FACT = tuple(range(GRADED + len(TYPICALITIES)))
SECOND_FACT = 10  # added to the tier of a text with two facts
TEXT_TIERS = (*ONE_FACT, *(SECOND_FACT + tier for tier in ONE_FACT))

_FUNCTION_WORDS = ("the", "is", "matches", "has", "colour", "of", "a", "an", "what", ".", "?")
WORDS = (
    *COLOURS,
    *SHAPES,
    *LINKS,
    *(thing for row in THINGS for thing in row),
    *_FUNCTION_WORDS,
)


@dataclass(frozen=True)
class Fact:
    """One thing a text says: the number of a shape and of the colour its words support.

    Attributes
    ----------
    shape, colour : int
        Into `SHAPES` and `COLOURS`.
    link : int
        Into `LINKS`; what a text of tier 1 goes over.
    """

    shape: int
    colour: int
    link: int = 0


def question(shape: int) -> str:
    """What is asked about a shape."""
    return f"What colour is the {SHAPES[shape]}?"


def typicality(tier: int) -> float:
    """How often the words of a text tier mean the colour they support; NaN where that is certain.

    Raises
    ------
    ValueError
        If there is no such tier.
    """
    level = _checked(tier) % SECOND_FACT - GRADED
    return float("nan") if level < 0 else TYPICALITIES[level]


def sentences(fact: Fact, tier: int) -> str:
    """One fact in the words of a tier.

    Tier 0 names the colour, tier 1 goes over another thing, tiers 2 to 6 name a thing of falling
    typicality; 10 and more are the tiers of texts with two facts, in the same words.
    """
    shape, colour = SHAPES[fact.shape], COLOURS[fact.colour]
    kind = _checked(tier) % SECOND_FACT
    if kind == DIRECT:
        return f"The {shape} is {colour}."
    if kind == LINKED:
        link = LINKS[fact.link]
        return f"The {shape} matches the {link}. The {link} is {colour}."
    thing = THINGS[fact.colour][kind - GRADED]
    return f"The {shape} has the colour of {'an' if thing[0] in 'aeiou' else 'a'} {thing}."


def text_of(facts: tuple[Fact, ...], tier: int) -> str:
    """Facts one after the other, in the words of a tier."""
    return " ".join(sentences(fact, tier) for fact in facts)


def supported_colours(
    rng: np.random.Generator, true: NDArray[np.int64], tiers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Colours that true texts about objects of known colours support.

    With things and colours used alike often, a thing of typicality p has its typical colour with
    probability p exactly when an object's text names a thing typical of its colour with probability p and
    a thing typical of one of the other five otherwise (Bayes).

    Parameters
    ----------
    rng
        Where chance comes from.
    true
        Numbers of the objects' colours (object,).
    tiers
        Tier of the text about each (object,).

    Returns
    -------
    int64 array (object,)
        The same colours where the text is certain.
    """
    level = tiers % SECOND_FACT - GRADED
    certain = np.array((1.0, *TYPICALITIES))
    p = certain[np.maximum(level + 1, 0)]
    away = rng.integers(1, len(COLOURS), size=true.shape)
    strays = rng.random(true.shape) >= p
    return np.where(strays, (true + away) % len(COLOURS), true)


def _checked(tier: int) -> int:
    if tier not in TEXT_TIERS:
        raise ValueError(f"text tier must be one of {TEXT_TIERS}, not {tier}")
    return tier
