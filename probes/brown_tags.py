"""Coarse word classes: from the tags of the Brown corpus, and from universal ones."""

from __future__ import annotations

import re
from functools import cache

WORD_CLASSES = ("NOUN", "VERB", "DET", "ADP", "ADJ", "PRON", "CONJ", "ADV", "PRT", "NUM", "X")
PUNCTUATION = "PUNCT"
# The eight that have more than four in a hundred of Brown's words each, the commonest first.
COMMON_CLASSES = WORD_CLASSES[:8]

_MARKED = re.compile(r"-(tl|hl|nc)\b")
_CLASSES = {
    "NOUN": "nn nn$ nns nns$ np np$ nps nps$ nr nr$ nrs",
    "VERB": "vb vbd vbg vbn vbz md be bed bedz beg bem ben ber bez do dod doz hv hvd hvg hvn hvz",
    "DET": "at dt dt$ dti dts dtx abn abl abx ap ap$ wdt",
    "ADP": "in",
    "ADJ": "jj jj$ jjr jjs jjt od",
    "PRON": "pps ppss ppo pp$ pp$$ ppl ppls pn pn$ ex wps wpo wp$",
    "CONJ": "cc cs",
    "ADV": "rb rb$ rbr rbt rn ql qlp wrb wql",
    "PRT": "to rp *",
    "NUM": "cd cd$",
    "X": "uh nil",
    PUNCTUATION: ". , `` '' -- ( ) : '",
}
_BROWN = {tag: name for name, tags in _CLASSES.items() for tag in tags.split()}
_UNIVERSAL = {
    **{name: name for name in ("NOUN", "VERB", "DET", "ADP", "ADJ", "PRON", "ADV", "NUM", "PUNCT")},
    **{"PROPN": "NOUN", "AUX": "VERB", "CCONJ": "CONJ", "SCONJ": "CONJ", "PART": "PRT"},
    **{"INTJ": "X", "SYM": "X", "X": "X"},
}


@cache
def brown_class(tag: str) -> str:
    """Coarse class of a Brown tag.

    Marks of titles, headlines and cited words (`-tl`, `-hl`, `-nc`) and of foreign words (`fw-`) are
    dropped; of two words written as one (`pps+bez`: "he's") the first counts, and a negation written
    onto a verb (`do*`) leaves it a verb. The particle of the infinitive, particles of verbs and "not"
    are PRT, possessive pronouns PRON, ordinals ADJ, interjections and untagged words X.

    Parameters
    ----------
    tag
        As the corpus writes it, in any case.

    Returns
    -------
    str
        One of `WORD_CLASSES`, or PUNCT.

    Raises
    ------
    ValueError
        If the tag is not one of the Brown corpus.
    """
    plain = _MARKED.sub("", tag.lower().removeprefix("fw-")).split("+")[0]
    found = _BROWN.get(plain) or _BROWN.get(plain.removesuffix("*"))
    if found is None:
        raise ValueError(f"{tag!r} is not a tag of the Brown corpus")
    return found


def universal_class(tag: str) -> str:
    """Coarse class of a tag of Universal Dependencies.

    Proper nouns are nouns, auxiliaries verbs, and both kinds of conjunction CONJ. Other corpora draw
    other lines than Brown: there, "up" of "give up" is PRT; here it is what its tagger says.

    Raises
    ------
    ValueError
        If the tag is not a universal one.
    """
    try:
        return _UNIVERSAL[tag]
    except KeyError:
        raise ValueError(f"{tag!r} is not a tag of Universal Dependencies") from None
