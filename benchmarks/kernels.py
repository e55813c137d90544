"""Cost of the capture kernels beside what a bare forward pass computes anyway.

python -m benchmarks.kernels [--threads 2] [--repeats 15] [--vocabulary 50304] [--rows 2048] [--seed 0]

Prints a markdown table. The two sides of a pair take turns in one process; the difference is that of
the fastest runs, because other work on the machine can only add time. With one thread the clock is the
processor time of that thread, which other work hardly touches.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from attention.streaming import attend_with_statistics
from benchmarks.numbers import positive
from probes.tokens import token_statistics

SHAPES = ((4, 8, 128, 64), (4, 8, 512, 64), (1, 8, 2048, 64))  # batch, head, position, feature


class Pair(NamedTuple):
    """Seconds of each run of the bare operation and of the one with statistics."""

    bare: list[float]
    ours: list[float]


def seconds(job: Callable[[], object]) -> float:
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    job()
    return clock() - start


def pair(bare: Callable[[], object], ours: Callable[[], object], repeats: int) -> Pair:
    """Take turns; the first turn of each only warms up."""
    runs = [(seconds(bare), seconds(ours)) for _ in range(repeats + 1)][1:]
    return Pair([a for a, _ in runs], [b for _, b in runs])


def row(name: str, found: Pair, error: float) -> str:
    bare, ours = (1e3 * min(x) for x in found)
    medians = " | ".join(f"{1e3 * statistics.median(x):.1f}" for x in found)
    return f"| {name} | {bare:.1f} | {ours:.1f} | {ours - bare:+.1f} | {medians} | {error:.1e} |"


def attention(shape: tuple[int, int, int, int], repeats: int) -> str:
    batch, heads, length, width = shape
    # Projections leave heads inside positions, as transformers hands them over.
    q, k, v = (torch.randn(batch, length, heads, width).transpose(1, 2) for _ in range(3))

    def bare() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def ours() -> Tensor:
        return attend_with_statistics(q, k, v, scaling=width**-0.5)[0]

    error = float((bare() - ours()).abs().max())
    return row(f"attention {batch}×{heads}×{length}×{width}", pair(bare, ours, repeats), error)


def tokens(rows: int, vocabulary: int, width: int, repeats: int) -> str:
    hidden = torch.randn(rows, width) * 0.1
    weight, targets = torch.randn(vocabulary, width), torch.randint(0, vocabulary, (rows,))
    buffer = torch.empty(rows, vocabulary)

    def bare() -> Tensor:
        return torch.mm(hidden, weight.T, out=buffer)

    def ours() -> Tensor:
        return token_statistics(hidden, weight, targets)["surprisal"]

    wanted = F.cross_entropy(bare(), targets, reduction="none")
    error = float((wanted - ours()).abs().max())
    return row(f"tokens {rows}×{vocabulary}×{width}", pair(bare, ours, repeats), error)


def main() -> None:
    parser = argparse.ArgumentParser(description="attention and token kernels against bare ones")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--repeats", type=positive, default=15)
    parser.add_argument("--rows", type=positive, default=2048, help="of the token kernel")
    parser.add_argument("--vocabulary", type=positive, default=50304)
    parser.add_argument("--width", type=positive, default=512, help="of the hidden state")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    print(f"{args.threads} threads, {args.repeats} turns, milliseconds\n")
    print("| kernel | bare min | with statistics min | extra | medians: bare | with | max error |")
    print("|---|---|---|---|---|---|---|")
    with torch.inference_mode():
        for shape in SHAPES:
            print(attention(shape, args.repeats), flush=True)
        repeats = max(3, args.repeats // 3)
        print(tokens(args.rows, args.vocabulary, args.width, repeats), flush=True)


if __name__ == "__main__":
    main()
