"""Series: the checkpoints of one training run, in order; where they come from, one name each."""

from runs.checkpoints import Checkpoint, Series
from runs.families import hub, olmo, olmo2, olmo3, pythia, stages
from runs.folders import gguf, local

__all__ = [
    "Checkpoint",
    "Series",
    "gguf",
    "hub",
    "local",
    "olmo",
    "olmo2",
    "olmo3",
    "pythia",
    "stages",
]
