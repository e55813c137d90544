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
