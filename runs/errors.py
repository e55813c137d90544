"""What can go wrong, sorted by who has to mend it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 1200


class PhasescopeError(Exception):
    """Base of every error this project raises on purpose; what it says is one printable line."""

    def __init__(self, line: str) -> None:
        super().__init__(_one_line(line))


class InputError(PhasescopeError):
    """The user's input cannot be used: one line that names the file, the key and the mend.

    The command line prints the line and exits with code 2.
    """


class HubError(InputError):
    """A hub cannot be reached: what is on this disk can still be done."""


class CheckpointError(PhasescopeError):
    """One checkpoint cannot be captured: it is marked with the reason and the run goes on."""


class GoneError(CheckpointError):
    """The hub itself says that a revision or a file of it is not there."""


class BytesError(CheckpointError):
    """A file is not the bytes that the hub publishes; `path` is where it lies."""

    def __init__(self, line: str, path: Path) -> None:
        super().__init__(line)
        self.path = path


def line_of(error: BaseException) -> str:
    """The first line of what an error says, for a message of one line."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


@contextmanager
def concerning(source: Path) -> Iterator[None]:
    """Name the recipe in front of what is wrong with the files and values it names."""
    try:
        yield
    except InputError as error:
        line = str(error)
        if line.startswith(f"{source}:"):
            raise
        raise type(error)(f"{source}: {line}") from None
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        raise InputError(f"{source}: {place}{error.strerror or error}") from None


def shown(value: object) -> str:
    """A value as a message quotes it, cut short."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:80]}…{text[-10:]}"


def _one_line(text: str) -> str:
    # Names of files, keys and checkpoints are quoted, and may hold line breaks or terminal codes.
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(plain) <= _LONGEST:
        return plain
    return f"{plain[: _LONGEST // 2]} … {plain[-_LONGEST // 2 :]}"
