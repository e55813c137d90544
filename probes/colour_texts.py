"""What the texts of the colour set say: templates of three tiers, and things whose colour is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Things of any colour, which tier 1 compares with before it names the colour.
OBJECTS = (
    "bicycle", "lamp", "mug", "umbrella", "scarf", "suitcase", "notebook", "bucket", "kite", "teapot",
    "cushion", "raincoat", "guitar", "door", "curtain", "backpack", "balloon", "towel",
)  # fmt: skip

# Things that have one colour, which tier 2 leaves to what the reader knows of the world.
INSTANCES: dict[str, tuple[str, ...]] = {
    "red": ("a ripe tomato", "a fire engine", "a stop sign", "a ripe strawberry", "fresh blood",
            "a cooked lobster", "the maple leaf on the flag of Canada", "the flag of China"),
    "yellow": ("a ripe lemon", "a school bus in the US", "the yolk of an egg", "a canary",
               "the petals of a sunflower", "a rubber duck", "the peel of a ripe banana", "a dandelion"),
    "blue": ("a clear sky at noon", "a cornflower", "a sapphire", "a letter box in the US",
             "the flag of the European Union", "the wings of a morpho butterfly", "lapis lazuli",
             "the neck of a peacock"),
    "green": ("fresh grass in spring", "an emerald", "a leaf of spinach", "the skin of a cucumber",
              "a garden pea", "a tree frog", "broccoli", "a four-leaf clover"),
    "purple": ("the skin of an aubergine", "a field of lavender", "an amethyst", "lilac blossom",
               "grape juice", "the robe of a Roman emperor", "a ripe Concord grape", "a ripe fig's skin"),
    "orange": ("a carrot", "a ripe pumpkin", "a basketball", "a ripe tangerine", "a ripe apricot",
               "the jerseys of the Dutch football team", "a goldfish", "the fur of a fox"),
}  # fmt: skip

_DIRECT = (
    "In the scene that is described here, there is one {shape} to look for, and anyone who sees "
    "it will say at once that the {shape} is {answer}.",
    "Whoever made this picture chose the paint with care, and so it can be stated without any "
    "doubt that the {shape} is {answer}.",
    "A short note that came with the picture says the following about what it shows: the {shape} "
    "is {answer}, all of it and evenly.",
    "Among the things that were drawn on the sheet there is a {shape}, and according to the "
    "record kept of it the {shape} is {answer}.",
    "The {shape} is {answer}, and that is how it was meant to look from the beginning, as "
    "everybody who worked on the drawing agrees.",
    "For readers who cannot see the picture at the moment, here is what matters about it: the "
    "{shape} in it is {answer}.",
)
_COMPARED = (
    "The colour of the {shape} is the same as that of {a_thing}. The {thing} is {answer}, as one "
    "can see from the far end of the room.",
    "Put {a_thing} beside the {shape} and nobody could tell their colours apart. As for the "
    "{thing} itself, it is {answer} all over.",
    "The {shape} was painted to match {a_thing} that stood nearby, down to the very shade. The "
    "{thing} in question is {answer}.",
    "Somebody bought {a_thing} that is {answer}. The {shape} has exactly the colour that the "
    "{thing} has, neither lighter nor darker.",
    "In colour the {shape} and {a_thing} are alike in every respect. It is also known for certain "
    "that the {thing} is {answer}.",
    "There is {a_thing} whose colour was copied faithfully for the {shape}. That {thing}, the one "
    "that was copied, is {answer}.",
)
_KNOWN = (
    "The colour of the {shape} is the same as that of {known}, when one sees it in good light and "
    "without any shadow falling on it.",
    "Think of {known} and of the colour that comes to mind: the {shape} in this picture has "
    "exactly that colour and no other.",
    "Whoever painted the {shape} took the colour from {known} and did not change it in the least "
    "while working on the picture.",
    "If you held the {shape} next to {known}, you would not be able to see any difference between "
    "the two colours at all.",
    "Asked about the {shape}, the painter only said that its colour is the one that everybody "
    "knows from {known}.",
    "The {shape} has been given the same colour as {known}, so that people would be reminded of "
    "it when they see the picture.",
)
TEMPLATES: tuple[tuple[str, ...], ...] = (_DIRECT, _COMPARED, _KNOWN)


def with_article(noun: str) -> str:
    """A noun with `a` or `an`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def colour_text(tier: int, *, shape: str, answer: str, rng: np.random.Generator) -> str:
    """One text that says, by what its tier allows, that the shape has the answer's colour.

    Tier 0 says it, tier 1 compares with a thing and names that thing's colour, tier 2 compares with
    something of known colour and names none.

    Raises
    ------
    ValueError
        If there is no such tier.
    """
    if not 0 <= tier < len(TEMPLATES):
        raise ValueError(f"text tier {tier}: the colour set has tiers 0 to {len(TEMPLATES) - 1}")
    thing = pick(OBJECTS, rng)
    slots = {"thing": thing, "a_thing": with_article(thing), "known": pick(INSTANCES[answer], rng)}
    return pick(TEMPLATES[tier], rng).format(shape=shape, answer=answer, **slots)


def pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    """One of several, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
