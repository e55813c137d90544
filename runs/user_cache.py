"""Where data that is fetched once is kept, outside of any project."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "PHASESCOPE_CACHE"


def user_cache() -> Path:
    """`$PHASESCOPE_CACHE`, else `phasescope` in the user's cache folder; it need not exist."""
    own = os.environ.get(VARIABLE)
    if own:
        return Path(os.path.abspath(os.path.expanduser(own)))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "phasescope"
