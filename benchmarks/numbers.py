"""What the benchmarks share: counts that are asked for, and ratios of what was measured."""

import argparse


def positive(text: str, least: int = 1) -> int:
    """A count from the command line; of nothing there is nothing to measure."""
    count = int(text)
    if count < least:
        raise argparse.ArgumentTypeError(f"{count} is below {least}")
    return count


def several(text: str) -> int:
    """A count of draws whose spread is told: one has none."""
    return positive(text, least=2)


def ratio(over: float, under: float, digits: int = 2) -> str:
    """A ratio as a table shows it; "—" where the lower one is too small to be seen.

    A peak of memory grows by nothing where a pass fits into what was there before, and a clock may
    stand still over a short one.
    """
    return f"{over / under:.{digits}f}" if under > 0 else "—"
