"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path to write, and rename it to `path` when the block ends well.

    Whoever looks sees the old content or the new, never a part, even if the process is killed.

    Parameters
    ----------
    path
        A file, or a folder that does not exist yet; its parent exists.

    Yields
    ------
    Path
        A hidden path beside it, on the same file system; nothing is there yet.
    """
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        _remove(partial)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
