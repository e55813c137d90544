"""What can go wrong, sorted by who has to mend it."""


class PhasescopeError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(PhasescopeError):
    """The user's input cannot be used: one line that names the file, the key and the mend.

    The command line prints the line and exits with code 2.
    """


class HubError(InputError):
    """A hub cannot be reached: what is on this disk can still be done."""


class CheckpointError(PhasescopeError):
    """One checkpoint cannot be captured: it is marked with the reason and the run goes on."""


def line_of(error: BaseException) -> str:
    """The first line of what an error says, for a message of one line."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
