"""What attention statistics add to a forward pass, and to the attention alone.

python -m benchmarks.attention [--cases 512x4 2048x1] [--lengths 512 2048 8192] [--repeats 9]
                               [--threads 2] [--seed 0]

The model of `benchmarks.capture` reads random tokens three ways: sdpa; the registered attention
function with no listener; and with a listener that drops what it is given. The forward is the same, so
the difference is what the statistics cost, first with the logits of every position, then without an
unembedding. Kernels run at 1 × 8 × length × 64. Pairs take turns in one process and ratios are medians
over pairs. With one thread the clock is processor time, which other work hardly touches. Memory is the
growth of the peak of a process of its own, output included.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from attention.fused import attend_with_fused_statistics, fused_statistics
from attention.streaming import attend_with_statistics, row_statistics
from benchmarks.capture import VOCABULARY, case, load, paired, peak_mb, random_model
from benchmarks.numbers import positive
from runs.attention_tap import AttentionTap, register
from runs.loaded import LoadedModel

HEADS, WIDTH = 8, 64
SCALING = WIDTH**-0.5


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> object:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor], object]] = {
    "sdpa": sdpa,
    "streaming": lambda q, k, v: attend_with_statistics(q, k, v, scaling=SCALING),
    "fused": lambda q, k, v: attend_with_fused_statistics(q, k, v, scaling=SCALING),
    "streaming, no output": lambda q, k, _: row_statistics(q, k, scaling=SCALING),
    "fused, no output": lambda q, k, _: fused_statistics(q, k, scaling=SCALING),
}


def forward(loaded: LoadedModel, tokens: Tensor, how: str, *, logits: bool) -> None:
    model = loaded.model if logits else loaded.model.base_model
    loaded.model.set_attn_implementation("sdpa" if how == "sdpa" else register())
    listener = (lambda _, __: None) if how == "statistics" else None
    with torch.inference_mode(), AttentionTap(listener=listener):
        model(input_ids=tokens, use_cache=False)


def time_forward(length: int, batch: int, logits: bool, args: argparse.Namespace) -> None:
    loaded = random_model(length, args.seed)
    tokens = torch.randint(0, VOCABULARY, (batch, length))

    def job(how: str) -> Callable[[], None]:
        return lambda: forward(loaded, tokens, how, logits=logits)

    before = load()
    others = {how: job(how) for how in ("tap", "statistics")}
    alone, rows = paired(job("sdpa"), others, args.repeats)
    name = "with logits" if logits else "no unembedding"
    (_, tap), (seconds, ratio) = rows["tap"], rows["statistics"]
    print(
        f"| {length} × {batch}, {name} | {1e3 * alone:.0f} | {1e3 * seconds:.0f} | "
        f"{100 * (ratio - 1):+.0f} % | {100 * (tap - 1):+.0f} % | {before} → {load()} |",
        flush=True,
    )


def random_heads(length: int) -> list[Tensor]:
    # Projections leave heads inside positions, as transformers hands them over.
    return [torch.randn(1, length, HEADS, WIDTH).transpose(1, 2) for _ in range(3)]


def peak_of(name: str, length: int, threads: int) -> float:
    """Growth of the peak by one call; runs in a process of its own."""
    torch.set_num_threads(threads)
    KERNELS[name](*random_heads(64))
    heads = random_heads(length)
    before = peak_mb(reset=True)
    KERNELS[name](*heads)
    return peak_mb() - before


def kernels(length: int, args: argparse.Namespace) -> None:
    heads = random_heads(length)
    before = load()
    with torch.inference_mode():
        alone, rows = paired(
            lambda: sdpa(*heads),
            {n: partial(job, *heads) for n, job in KERNELS.items() if n != "sdpa"},
            max(3, args.repeats * 2048 // max(2048, length)),
        )
    for name, (seconds, ratio) in {"sdpa": (alone, 1.0), **rows}.items():
        with get_context("spawn").Pool(1) as pool:
            peak = pool.apply(peak_of, (name, length, args.threads))
        print(
            f"| {length} | {name} | {1e3 * seconds:.1f} | {ratio:.2f} | {peak:.0f} | "
            f"{before} → {load()} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Attention statistics against bare attention")
    parser.add_argument("--cases", nargs="*", type=case, default=[(512, 4), (2048, 1)])
    parser.add_argument("--lengths", nargs="*", type=positive, default=[512, 2048, 8192])
    parser.add_argument("--repeats", type=positive, default=9)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    threadpool_limits(args.threads)
    torch.manual_seed(args.seed)
    print(f"torch {torch.__version__}, {args.threads} threads of {os.cpu_count()}, load {load()}\n")
    if args.cases:
        print("| forward | sdpa, ms | with statistics, ms | statistics add | the tap adds | load |")
        print("|---|---|---|---|---|---|")
        for length, batch in args.cases:
            for logits in (True, False):
                time_forward(length, batch, logits, args)
    if args.lengths:
        print("\n| length | kernel | ms | × sdpa | peak MB | load |\n|---|---|---|---|---|---|")
        for length in args.lengths:
            kernels(length, args)


if __name__ == "__main__":
    main()
