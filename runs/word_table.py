"""Keys of `[inputs.NAME]` in mode `words`: windows of words before a word of a known class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from probes.brown_tags import COMMON_CLASSES
from runs.brown import cached_brown
from runs.tables import Table, Whole, in_mode

ClassName = Literal["NOUN", "VERB", "DET", "ADP", "ADJ", "PRON", "CONJ", "ADV", "PRT", "NUM", "X"]

_WORD_KEYS = ("source", "tagger", "context", "classes", "per_class")
_ELSEWHERE = ("answer", "min_length", "labels", "limit")
_OF_TEXT = ("text", "group", "tagger")
_LONGEST = 64


class WordKeys(Table):
    """What mode `words` adds to a table of inputs.

    `per_class` and `shuffle_seed` are required there. With `source = "brown"`, `path` is a folder or an
    archive of the Brown corpus and by default its place in the user's cache; with `source = "text"` it
    is a file as in the other modes, and `tagger` says the classes. `length` is the most tokens a window
    may have (64 unless given); `limit` follows.
    """

    source: Literal["brown", "text"] = "brown"
    tagger: Literal["denckring", "spacy"] = "denckring"
    context: Annotated[Whole, Field(ge=2, le=64)] = 9
    classes: Annotated[tuple[ClassName, ...], Field(min_length=2)] = COMMON_CLASSES  # type: ignore[assignment]  # strings from the kernel
    per_class: Annotated[Whole, Field(ge=2)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_words(cls, table: Any) -> Any:
        """Refuse keys of other modes in mode `words` and its own in others; fill in what follows."""
        if not in_mode(table, "words", own=_WORD_KEYS, foreign=_ELSEWHERE):
            return table
        for key in ("per_class", "shuffle_seed"):
            if table.get(key) is None:
                raise ValueError(f'`{key}` is required with mode = "words"')
        if table.get("source", "brown") == "brown":
            for key in _OF_TEXT:
                if key in table:
                    raise ValueError(f'`{key}` goes with source = "text": Brown has gold tags')
            table = {"path": cached_brown(), **table}
        return {"length": _LONGEST, **table, "limit": _limit(table)}

    @model_validator(mode="after")
    def _classes_differ(self) -> WordKeys:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("`classes` names a class twice")
        return self


def _limit(table: Mapping[str, Any]) -> int | None:
    """Samples of the set; None where values are of another kind, which is refused by name later."""
    count, classes = table["per_class"], table.get("classes", COMMON_CLASSES)
    if type(count) is not int or not 0 < count < 2**31 or not isinstance(classes, list | tuple):
        return None
    return max(count * len(classes), 8)
