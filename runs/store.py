"""Stores and studies, opened for reading."""

from runs.opening import open_store
from runs.study import open_study

__all__ = ["open_store", "open_study"]
