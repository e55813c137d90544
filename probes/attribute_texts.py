"""What the texts of the attribute set say: four tiers of templates for shape, material and position."""

from __future__ import annotations

import numpy as np

from probes.colour_texts import pick, with_article

# Things that tiers 1 and 3 speak of: none has a shape, material or place of its own.
OBJECTS = (
    "lantern", "toy", "ornament", "paperweight", "souvenir", "trophy", "prop", "charm", "gadget",
    "keepsake", "trinket", "exhibit",
)  # fmt: skip

# What has one shape, material or place, which tier 2 leaves to what the reader knows of the world.
INSTANCES: dict[str, dict[str, tuple[str, ...]]] = {
    "shape": {
        "sphere": ("a billiard ball", "a marble", "the planet Mars", "a soap bubble", "a tennis ball"),
        "cube": ("a casino die", "a toy alphabet block", "a Rubik's puzzle", "a playing die"),
        "cylinder": ("a soup can", "a torch battery", "a roll of paper towels", "a drinking straw"),
    },
    "material": {
        "metal": ("a coin", "an anvil", "a door key", "a church bell", "the blade of a knife", "a nail"),
        "rubber": ("a car tyre", "a pencil eraser", "a squash ball", "an inner tube", "a wetsuit"),
    },
    "position": {
        "left": ("the nine on the face of a clock", "the west on a map", "Alaska on a map of the US"),
        "right": ("the three on the face of a clock", "the east on a map", "Japan on a map of Asia"),
        "top": ("the twelve on the face of a clock", "the north on a map", "the headline on a page"),
        "bottom": ("the six on the face of a clock", "the south on a map", "the footnotes on a page"),
    },
}  # fmt: skip

_SHAPE = (
    (
        "A note beside the picture, written by whoever arranged the scene, says plainly that the "
        "{target} in it has the shape of a {answer} and no other shape.",
        "According to everyone who has walked around the table and looked at it from all "
        "directions, the {target} that stands there is, in its shape, a {answer}.",
    ),
    (
        "The shape of the {target} is the same as that of {a_thing} that was kept in the same "
        "room. The {thing} is a {answer}, as its owner has told every visitor who asked.",
        "Somebody modelled the {target} on {a_thing}, so that the two have one and the same "
        "shape. It is well known that the {thing} has the shape of a {answer}.",
    ),
    (
        "The shape of the {target} is the same as that of {known}, only the size may differ, as "
        "anyone would agree who has had both of them in front of the eyes.",
        "Whoever made the {target} had {known} in mind and gave it exactly that shape, so that "
        "people are reminded of it whenever they look at the picture.",
    ),
    (
        "There is {a_thing} with the shape of a {answer}, and {where} the {thing} is {a_second}. "
        "The {target} has the same shape as the object that is {back} the {second}.",
        "Imagine {a_thing} that has the shape of a {answer}; {where} the {thing} somebody put "
        "{a_second}. In shape the {target} equals the object which is {back} the {second}.",
    ),
)
_MATERIAL = (
    (
        "A note beside the picture, written by whoever arranged the scene, says plainly that the "
        "{target} in it is made of {answer} through and through and of nothing else.",
        "According to everyone who has been allowed to touch it and to tap on it with a finger, "
        "the {target} that stands there is made of {answer}.",
    ),
    (
        "The material of the {target} is the same as that of {a_thing} that was kept in the same "
        "room. The {thing} is made of {answer}, as its owner has told every visitor who asked.",
        "Somebody bought the {target} together with {a_thing}, and both are made of one material. "
        "It is well known that the {thing} is made of {answer}.",
    ),
    (
        "The material of the {target} is the same as that of {known}, as anyone would agree who "
        "has had both of them in the hand and felt their surface.",
        "Whoever made the {target} took for it the material that {known} is made of, and did not "
        "cover it with anything that would hide the fact.",
    ),
    (
        "There is {a_thing} made of {answer}, and {where} the {thing} is {a_second}. The {target} "
        "is made of the same material as the object that is {back} the {second}.",
        "Imagine {a_thing} that is made of {answer}; {where} the {thing} somebody put {a_second}. "
        "In material the {target} equals the object which is {back} the {second}.",
    ),
)
_POSITION = (
    (
        "A note that came with the picture, written by whoever arranged the scene, says plainly "
        "that the {target} is to be found at the {answer} of the picture.",
        "According to everyone who has seen the whole of the scene and was asked about it "
        "afterwards, the {target} stands at the {answer} of the picture.",
    ),
    (
        "The {target} is on the same side of the picture as {a_thing} that was drawn there first. "
        "The {thing} is at the {answer} of the picture, as the painter has told everybody.",
        "Somebody put the {target} on that side of the picture on which {a_thing} had been. It is "
        "well known that the {thing} was at the {answer} of the picture.",
    ),
    (
        "The {target} is on that side of the picture on which one would look for {known}, as "
        "everybody says who was asked to point at it with a finger.",
        "Whoever arranged the scene put the {target} on the side where people expect {known}, so "
        "that it is found at once by all who look for it.",
    ),
    (
        "There is {a_thing} at the {answer} of the picture, and {where} the {thing} is "
        "{a_second}. The {target} is on the same side as the object that is {back} the {second}.",
        "Imagine {a_thing} at the {answer} of the picture; {where} the {thing} somebody put "
        "{a_second}. The {target} shares its side with the object which is {back} the {second}.",
    ),
)
TEMPLATES = {"shape": _SHAPE, "material": _MATERIAL, "position": _POSITION}
TEXT_TIERS = 4
_PLACES = (("on the left of", "on the right of"), ("in front of", "behind"))


def attribute_text(
    subset: str, tier: int, *, target: str, answer: str, rng: np.random.Generator
) -> str:
    """One text that says, by what its tier allows, that the target has the answer's attribute.

    Tier 0 says it, tier 1 compares with a thing and says what that thing is like, tier 2 compares with
    something known and names no answer, tier 3 says where the thing it compares with stands.

    Raises
    ------
    ValueError
        If there is no such tier.
    """
    if not 0 <= tier < TEXT_TIERS:
        raise ValueError(f"text tier {tier}: the attribute set has tiers 0 to {TEXT_TIERS - 1}")
    thing, second = (OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:2])
    # Left and right are answers where positions are asked for.
    places = _PLACES[1:] if subset == "position" else _PLACES
    where, back = (str(p) for p in rng.permutation(places[int(rng.integers(len(places)))]))
    return pick(TEMPLATES[subset][tier], rng).format(
        target=target,
        answer=answer,
        thing=thing,
        a_thing=with_article(thing),
        second=second,
        a_second=with_article(second),
        known=pick(INSTANCES[subset][answer], rng),
        where=where,
        back=back,
    )
