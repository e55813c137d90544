"""What other ways of looking inside cost, each beside a bare forward pass in the same process.

python -m benchmarks.peers [--cases 512x4 2048x1] [--samples 4] [--repeats 5] [--threads 2] [--seed 0]

The model, the inputs and the bare pass are those of `benchmarks.capture`. Peers hand over raw states and
patterns and compute no statistic of them, so the work left to the user is not counted. Each runs in a
process of its own, and so does its memory: peak resident size less what was held before the first pass.
"""

import argparse
import copy
import importlib.metadata
import os
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from threadpoolctl import threadpool_limits
from transformers.utils import logging

from benchmarks.capture import (
    bare_pass,
    capture_pass,
    case,
    load,
    paired,
    peak_mb,
    random_model,
    random_set,
)
from benchmarks.numbers import positive
from runs.inputs import InputSet
from runs.loaded import LoadedModel
from runs.passes import blocks

Pass = Callable[[InputSet, int], object]


class Peer(NamedTuple):
    """One way of looking inside; `package` is the distribution it needs."""

    gives: str
    package: str
    build: Callable[[LoadedModel], Pass]


def each_block(look: Callable[[torch.Tensor], object]) -> Pass:
    """Walk the set as capture does; what `look` returns is dropped after each block."""

    def run(inputs: InputSet, block: int) -> None:
        with torch.inference_mode():
            for samples, _ in blocks(inputs.fold, block):
                look(torch.as_tensor(inputs.tokens[samples], dtype=torch.long))

    return run


def build_phasescope(loaded: LoadedModel) -> Pass:
    return lambda inputs, block: capture_pass(loaded, inputs, block)


def build_eager(loaded: LoadedModel) -> Pass:
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")
    return each_block(
        lambda tokens: model(
            input_ids=tokens, use_cache=False, output_attentions=True, output_hidden_states=True
        )
    )


def build_bridge(loaded: LoadedModel) -> Pass:
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    # A bridge changes the model it is given.
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")
    bridge = build_bridge_from_module(model, "GPTNeoXForCausalLM", hf_config=model.config)
    return each_block(bridge.run_with_cache)


def build_nnsight(loaded: LoadedModel) -> Pass:
    from nnsight import NNsight

    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("sdpa")
    traced: Any = NNsight(model)

    def look(tokens: torch.Tensor) -> list[torch.Tensor]:
        states: list[torch.Tensor] = []
        with traced.trace(input_ids=tokens, use_cache=False):
            states.append(traced.gpt_neox.embed_in.output.save())
            for layer in traced.gpt_neox.layers:
                states.append(layer.output.save())
            states.append(traced.gpt_neox.final_layer_norm.output.save())
        if len(states) != len(loaded.blocks) + 2:
            raise RuntimeError(f"nnsight kept {len(states)} hidden states")
        return states

    return each_block(look)


PEERS = {
    "phasescope": Peer("all four products", "phasescope", build_phasescope),
    "transformers, eager": Peer("hidden states, patterns", "transformers", build_eager),
    "TransformerLens": Peer("every activation", "transformer-lens", build_bridge),
    "nnsight": Peer("hidden states", "nnsight", build_nnsight),
}


def prepare(args: argparse.Namespace, length: int, name: str) -> tuple[LoadedModel, Pass]:
    torch.set_num_threads(args.threads)
    threadpool_limits(args.threads)
    logging.set_verbosity_error()
    loaded = random_model(length, args.seed)
    return loaded, PEERS[name].build(loaded)


def time_peer(args: argparse.Namespace, length: int, batch: int, name: str) -> list[float]:
    """Median seconds of bare and peer, and median ratio."""
    loaded, peer = prepare(args, length, name)
    inputs = random_set(args.samples, length, folds=1, seed=args.seed)
    alone, found = paired(
        lambda: bare_pass(loaded, inputs, batch),
        {name: lambda: peer(inputs, batch)},
        args.repeats,
    )
    return [alone, *found[name]]


def peer_memory(args: argparse.Namespace, length: int, batch: int, name: str | None) -> float:
    """Growth of the peak by one block; bare if there is no name."""
    loaded, peer = prepare(args, length, name or "phasescope")
    small, inputs = (random_set(b, n, folds=1, seed=0) for b, n in ((1, 16), (batch, length)))

    def look(inputs: InputSet) -> None:
        if name is None:
            bare_pass(loaded, inputs, batch)
        else:
            peer(inputs, batch)

    look(small)
    before = peak_mb()
    look(inputs)
    return peak_mb() - before


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Call in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def row(args: argparse.Namespace, length: int, batch: int, name: str, bare: float) -> str:
    peer = PEERS[name]
    try:
        version = importlib.metadata.version(peer.package)
    except importlib.metadata.PackageNotFoundError:
        return f"| {name} | {peer.package} is not installed | | | | | |"
    plain, seconds, ratio = alone(time_peer, args, length, batch, name)
    memory = alone(peer_memory, args, length, batch, name)
    return (
        f"| {name} {version} | {peer.gives} | {plain:.3f} | {seconds:.3f} | {ratio:.2f} "
        f"| {memory:.0f} | {ratio(memory, bare)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="peers beside a bare forward pass")
    parser.add_argument("--cases", nargs="+", type=case, default=[(512, 4), (2048, 1)])
    parser.add_argument("--samples", type=positive, default=4)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {args.threads} threads of {os.cpu_count()}")
    for length, batch in args.cases:
        bare = alone(peer_memory, args, length, batch, None)
        print(f"\n{args.samples} × {length} tokens, {batch} at a time; bare peak {bare:.0f} MB")
        print(f"load {load()}\n")
        print("| | gives | bare s | s | × bare | peak MB | × bare |\n|---|---|---|---|---|---|---|")
        for name in PEERS:
            print(row(args, length, batch, name, bare), flush=True)
        print(f"\nload {load()}")


if __name__ == "__main__":
    main()
