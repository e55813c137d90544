"""Keys of `[inputs.NAME]` in mode `scenes`: images and texts that contradict each other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from runs.tables import Seed, Table, Whole, in_mode

Subset = Literal["colour", "shape", "material", "position"]
Kind = Literal["conflict", "agreement", "irrelevant_text", "irrelevant_image"]

_SCENE_KEYS = ("style", "subset", "groups", "visual_tiers", "text_tiers", "kinds")
_MADE_HERE = ("style", "groups", "shuffle_seed")
_OF_TEXT = ("length", "text", "answer", "min_length", "add_bos", "labels", "group")
_LONGEST = 256


class SceneKeys(Table):
    """What mode `scenes` adds to a table of inputs.

    Either `groups` and `shuffle_seed` are given and scenes of a `style` are made here, or `path` names
    a Parquet file that `phasescope scenes` wrote. `subset`, tiers, `kinds` and `limit` choose among
    the cases either way. `length` is whatever the longest prompt has.
    """

    style: Literal["paper", "tiny"] | None = None
    subset: Annotated[tuple[Subset, ...], Field(min_length=1)] | None = None
    groups: Annotated[Whole, Field(ge=8, le=20_000)] | None = None
    visual_tiers: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    text_tiers: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = (
        "conflict",
        "irrelevant_text",
        "irrelevant_image",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_scenes(cls, table: Any) -> Any:
        """Refuse keys of other modes in mode `scenes` and its own in others; fill in what follows."""
        if not in_mode(table, "scenes", own=_SCENE_KEYS, foreign=_OF_TEXT):
            return table
        filled = {**table, "length": _LONGEST}
        if isinstance(table.get("subset"), str):
            filled["subset"] = (table["subset"],)
        if "path" in table:
            made = [key for key in _MADE_HERE if key in table]
            if made:
                raise ValueError(f"`{made[0]}` does not go with `path`: the file's scenes are made")
            return filled
        for key in ("groups", "shuffle_seed"):
            if table.get(key) is None:
                raise ValueError(f'`{key}` (or `path`) is required with mode = "scenes"')
        return {"style": "paper", **filled, "path": "."}

    @model_validator(mode="after")
    def _each_once(self) -> SceneKeys:
        for key in ("subset", "visual_tiers", "text_tiers", "kinds"):
            values = getattr(self, key)
            if values is not None and len(set(values)) < len(values):
                raise ValueError(f"`{key}` names one twice")
        return self
