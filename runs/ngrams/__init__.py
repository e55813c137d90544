"""∞-grams: an index of the text a model was trained on, and what it says of a set of inputs."""

from runs.ngrams.engine import Continuation, NgramIndex
from runs.ngrams.index import build_index
from runs.ngrams.source import NgramSource, ngram_source

__all__ = ["Continuation", "NgramIndex", "NgramSource", "build_index", "ngram_source"]
