"""Cost of capturing everything, against a bare forward pass of the same model.

python -m benchmarks.capture [--cases 512x4 2048x1] [--samples 8] [--repeats 7] [--threads 2]
                             [--memory 512 1024 2048 4096 8192] [--shares] [--seed 0]

A random GPT-NeoX (6 layers × 512, 8 heads, MLP 2048, vocabulary 50304) reads random tokens. Bare is
sdpa attention and the logits of every position; capture is `runs.passes.capture_set` with the
collectors of all products. Both walk the same set, one after the other, in one process; the ratio is
the median over pairs. What happens once a checkpoint (spectra of all folds) is reported apart.
With one thread the clock is processor time, which other work on the machine hardly touches.
Memory is the peak resident size of a process of its own, less what it held before the first pass.
"""

import argparse
import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from benchmarks.numbers import positive, ratio
from runs.architectures import find_modules, model_shape
from runs.attention_tap import register
from runs.backends.torch_hooks import TorchHooks
from runs.inputs import FOLDS, InputSet
from runs.loaded import LoadedModel
from runs.passes import blocks, capture_set
from runs.points import choose_points
from runs.products import PRODUCTS, Collector, Spec
from runs.tables import CaptureTable

MB = 2**20
VOCABULARY = 50304


def random_model(length: int, seed: int) -> LoadedModel:
    """The benchmark's model, ready for capture."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=2048,
        max_position_embeddings=max(length, 2048),
        architectures=["GPTNeoXForCausalLM"],
        attn_implementation=register(),
    )
    model = GPTNeoXForCausalLM(config).eval()
    shape = model_shape(model.config, where="the benchmark")
    parts = find_modules(model, shape.architecture)
    return LoadedModel(model, *parts, shape, torch.device("cpu"))


DEFAULT = CaptureTable().products  # what a recipe captures that names none


def random_set(samples: int, length: int, *, folds: int, seed: int) -> InputSet:
    """Random tokens without padding, in `folds` folds of equal size."""
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (samples, length), np.int32)
    fold = (1 + np.arange(samples) * folds // samples).astype(np.uint8)
    return InputSet(
        "random",
        tokens,
        np.full(samples, length, np.int32),
        fold,
        np.arange(samples, dtype=np.int32),
        digest=f"{seed:016x}",
    )


def fresh_collectors(
    loaded: LoadedModel, inputs: InputSet, names: Sequence[str]
) -> list[Collector]:
    points = choose_points(inputs, extra_positions=2)
    spec = Spec(inputs, points, loaded.shape, CaptureTable(), VOCABULARY)
    return [PRODUCTS[name].collector(spec, loaded.unembedding) for name in names]


def bare_pass(loaded: LoadedModel, inputs: InputSet, block: int) -> None:
    """What a user pays anyway: every logit of every position."""
    loaded.model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        for samples, _ in blocks(inputs.fold, block):
            tokens = torch.as_tensor(inputs.tokens[samples], dtype=torch.long)
            loaded.model(input_ids=tokens, use_cache=False)


def capture_pass(
    loaded: LoadedModel, inputs: InputSet, block: int, names: Sequence[str] = DEFAULT
) -> list[Collector]:
    loaded.model.set_attn_implementation(register())
    collectors = fresh_collectors(loaded, inputs, names)
    capture_set(TorchHooks(loaded), inputs, collectors, block=block)
    return collectors


def paired(
    bare: Callable[[], object], others: Mapping[str, Callable[[], object]], repeats: int
) -> tuple[float, dict[str, tuple[float, float]]]:
    """Median seconds of bare; of each other, median seconds and median ratio to the bare beside it."""
    seconds: dict[str, list[float]] = {name: [] for name in others}
    ratios: dict[str, list[float]] = {name: [] for name in others}
    alone = []
    for repeat in range(repeats + 1):  # the first round warms up
        for name, other in others.items():
            before, after = timed(bare), timed(other)
            if repeat:
                alone.append(before)
                seconds[name].append(after)
                ratios[name].append(after / before if before > 0 else math.nan)
    middle = statistics.median
    return middle(alone), {n: (middle(seconds[n]), middle(ratios[n])) for n in others}


def timed(action: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    action()
    return clock() - start


def load() -> str:
    return " ".join(f"{x:.2f}" for x in os.getloadavg())


def time_case(length: int, batch: int, args: argparse.Namespace) -> None:
    """One table: everything, and each product alone."""
    loaded = random_model(length, args.seed)
    inputs = random_set(args.samples, length, folds=1, seed=args.seed)
    choices: dict[str, tuple[str, ...]] = {"everything": DEFAULT}
    if args.shares:
        choices |= {"hooks alone": ()} | {f"{name} alone": (name,) for name in PRODUCTS}
    before = load()
    others = {
        name: (lambda names=names: capture_pass(loaded, inputs, batch, names))
        for name, names in choices.items()
    }
    alone, rows = paired(lambda: bare_pass(loaded, inputs, batch), others, args.repeats)
    print(
        f"\n{args.samples} samples × {length} tokens, {batch} at a time; load {before} → {load()}\n"
    )
    print("| pass | seconds | × bare |\n|---|---|---|")
    print(f"| bare, with logits | {alone:.3f} | 1 |")
    for name, (seconds, times) in rows.items():
        print(f"| {name} | {seconds:.3f} | {times:.2f} |")


def time_spectra(args: argparse.Namespace) -> None:
    """What all folds add once a checkpoint, however many tokens it reads."""
    loaded = random_model(128, args.seed)
    whole = random_set(4 * FOLDS, 128, folds=1, seed=args.seed)
    folded = random_set(4 * FOLDS, 128, folds=FOLDS, seed=args.seed)

    def run(inputs: InputSet, finish: bool) -> None:
        for collector in capture_pass(loaded, inputs, 4):
            if finish:
                collector.finish()

    found = [timed(lambda: run(folded, True)) - timed(lambda: run(whole, False)) for _ in range(3)]
    print(
        f"\nOnce a checkpoint, spectra of {FOLDS} folds and all: {statistics.median(found):.2f} s"
    )


def peak_mb(*, reset: bool = False) -> float:
    """Largest resident size of this process so far; since now if `reset`, where the system can.

    Linux hands what `getrusage` tells on to the processes that one starts, so a child of a large parent
    seems to need nothing: its own peak is in /proc. Elsewhere (macOS) `getrusage` counts bytes.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024


def peak_of(kind: str, length: int, batch: int, threads: int, seed: int) -> float:
    """Growth of the peak by one pass; runs in a process of its own."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    loaded = random_model(length, seed)
    capture_pass(loaded, random_set(1, 16, folds=1, seed=seed), 1)
    bare_pass(loaded, random_set(1, 16, folds=1, seed=seed), 1)
    inputs = random_set(batch, length, folds=1, seed=seed)
    before = peak_mb()
    (bare_pass if kind == "bare" else capture_pass)(loaded, inputs, batch)
    return peak_mb() - before


def memory(cases: Sequence[tuple[int, int]], args: argparse.Namespace) -> None:
    print(
        "\n| length × batch | bare MB | capture MB | × bare | capture KB a token |\n|---|---|---|---|---|"
    )
    for length, batch in cases:
        found = {}
        for kind in ("bare", "capture"):
            with get_context("spawn").Pool(1) as pool:
                job = (kind, length, batch, args.threads, args.seed)
                found[kind] = pool.apply(peak_of, job)
        bare, ours = found["bare"], found["capture"]
        token = ours * 1024 / (length * batch)
        print(
            f"| {length} × {batch} | {bare:.0f} | {ours:.0f} | {ratio(ours, bare)} | {token:.0f} |"
        )


def case(text: str) -> tuple[int, int]:
    length, batch = text.split("x")
    return int(length), int(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description="Capture of everything against a bare forward")
    parser.add_argument("--cases", nargs="*", type=case, default=[(512, 4), (2048, 1)])
    parser.add_argument("--samples", type=positive, default=8)
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--memory", nargs="*", type=positive, default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--shares", action="store_true", help="also time each product alone")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    threadpool_limits(args.threads)  # the BLAS of SciPy has threads of its own
    print(f"torch {torch.__version__}, {args.threads} threads of {os.cpu_count()}, load {load()}")
    for length, batch in args.cases:
        time_case(length, batch, args)
    if args.cases:
        time_spectra(args)
    if args.memory:
        memory([*args.cases, *((length, 1) for length in args.memory)], args)


if __name__ == "__main__":
    main()
