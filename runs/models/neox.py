"""A small GPT-NeoX: its configuration, weights, learning rate, data order and kept steps.

Architecture and optimiser follow Pythia (arXiv:2304.01373 §2): untied embeddings, parallel residual,
rotary positions on a quarter of each head, AdamW with betas 0.9 and 0.95, cosine decay to a tenth.
Unlike Pythia, the learning rate of the first update is above 0, so steps 0 and 1 differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM


@dataclass(frozen=True)
class TrainConfig:
    """Everything but the text that decides the weights of a run.

    Attributes
    ----------
    layers, width, heads, mlp : int
        Blocks, hidden size, heads a block, and inner size of the MLP.
    vocabulary, length : int
        Tokens known to the tokenizer, and tokens in a sequence.
    rotary : float
        Share of each head's dimensions that carry rotary positions.
    initial_std : float
        Standard deviation of the initial weights.
    batch, steps : int
        Sequences an update, and updates.
    lr, lr_floor : float
        Highest learning rate, and the last one as a share of it.
    warmup : int
        Updates of linear warm-up; the first has lr / warmup.
    betas, weight_decay, clip
        AdamW's betas, its decay (matrices only), and the largest gradient norm.
    per_octave : int
        Checkpoints kept to each doubling of the step.
    seed : int
        Of the initial weights and of the data order.
    threads : int
        Threads of one operation; sums depend on them in the last bit.

    Raises
    ------
    ValueError
        If a value makes no model or no run.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    mlp: int = 512
    vocabulary: int = 2048
    length: int = 128
    rotary: float = 0.25
    initial_std: float = 0.02
    batch: int = 8
    steps: int = 1500
    lr: float = 3e-3
    lr_floor: float = 0.1
    warmup: int = 30
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    per_octave: int = 4
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "mlp", "batch", "steps", "warmup", "per_octave", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("rotary", "initial_std", "lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.width < 1 or self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads {self.heads}, not {self.width}")
        if self.length < 2:
            raise ValueError(f"length must be at least 2, not {self.length}")

    @property
    def tokens_per_step(self) -> int:
        """Tokens predicted in one update."""
        return self.batch * self.length


class Optimised(Protocol):
    """What a configuration of any model says of its optimiser; as in `TrainConfig`."""

    @property
    def steps(self) -> int:
        """Updates."""

    @property
    def warmup(self) -> int:
        """Updates of linear warm-up."""

    @property
    def lr(self) -> float:
        """Highest learning rate."""

    @property
    def lr_floor(self) -> float:
        """The last learning rate as a share of the highest."""

    @property
    def betas(self) -> tuple[float, float]:
        """AdamW's."""

    @property
    def weight_decay(self) -> float:
        """Of matrices."""


def build_model(config: TrainConfig) -> GPTNeoXForCausalLM:
    """Make the model with its initial weights, a pure function of `config.seed`.

    Returns
    -------
    GPTNeoXForCausalLM
        float32, scaled-dot-product attention, no dropout; 1 317 632 parameters by default.
    """
    architecture = GPTNeoXConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.mlp,
        max_position_embeddings=config.length,
        initializer_range=config.initial_std,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": config.rotary,
        },
        use_parallel_residual=True,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return GPTNeoXForCausalLM(architecture)


def build_optimizer(model: torch.nn.Module, config: Optimised) -> torch.optim.AdamW:
    """AdamW that decays matrices, and neither biases, norms nor temperatures."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim > 1 and not name.endswith("temperature")]
    known = {id(p) for p in matrices}
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if id(p) not in known], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def update(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    windows: NDArray[np.int64],
    *,
    lr: float,
    clip: float,
    extra: Callable[[], torch.Tensor] | None = None,
) -> tuple[float, float]:
    """Take one step of gradient descent.

    Parameters
    ----------
    model, optimizer
        Changed in place.
    windows : int array (batch, length + 1)
        Token ids; every token but the first is predicted.
    lr, clip
        Learning rate, and the norm the gradient is scaled down to.
    extra
        Called after the forward pass; what it gives is added to the loss that is minimised, and not to
        the one that is returned.

    Returns
    -------
    loss, norm
        Mean surprisal of the batch in nats, and norm of the gradient before clipping.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    tokens = torch.from_numpy(windows)
    logits = model(tokens[:, :-1]).logits
    loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    goal = loss if extra is None else loss + extra()
    optimizer.zero_grad()
    goal.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item(), norm.item()


def learning_rate(step: int, config: Optimised) -> float:
    """Learning rate of update `step`, 1…steps: linear from lr / warmup, then cosine to the floor."""
    if step < config.warmup:
        return config.lr * step / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    wave = (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.lr_floor + (1 - config.lr_floor) * wave)


def checkpoint_steps(steps: int, per_octave: int) -> tuple[int, ...]:
    """Steps at which weights are kept: 0, the rounded powers 2^(i / per_octave), and the last.

    Parameters
    ----------
    steps
        Updates in the run.
    per_octave
        Kept steps to each doubling, as far as they differ.

    Returns
    -------
    tuple of int
        Ascending; 40 of them for 1500 steps and 4 an octave.
    """
    powers = (round(2 ** (i / per_octave)) for i in range(per_octave * steps.bit_length()))
    return tuple(sorted({0, steps, *(p for p in powers if p <= steps)}))


def pack(documents: Sequence[Sequence[int]], *, length: int, end: int) -> NDArray[np.int64]:
    """Join documents, an end-of-text token after each, and cut them into windows.

    Parameters
    ----------
    documents
        Token ids of each document.
    length
        Tokens predicted in one window.
    end
        Id of the end-of-text token.

    Returns
    -------
    int64 array (window, length + 1)
        The last token of a window is the first of the next; what is left at the end is dropped.

    Raises
    ------
    ValueError
        If the documents do not fill one window.
    """
    stream = np.array([token for document in documents for token in (*document, end)], np.int64)
    count = (len(stream) - 1) // length
    if count < 1:
        raise ValueError(
            f"documents have {len(stream)} tokens, fewer than length + 1 = {length + 1}; give more"
        )
    starts = np.arange(count)[:, None] * length
    windows: NDArray[np.int64] = stream[starts + np.arange(length + 1)]
    return windows


def batch_rows(step: int, *, batch: int, count: int, seed: int) -> NDArray[np.int64]:
    """Windows read by update `step`, 1 and up: a pure function of the seed and the step.

    Every epoch is a permutation of all windows of its own; a batch may lie in two epochs.

    Returns
    -------
    int64 array (batch,)
        Each in 0…count − 1.
    """
    places = np.arange((step - 1) * batch, step * batch)
    epochs, offsets = np.divmod(places, count)
    orders = {e: np.random.default_rng((seed, e)).permutation(count) for e in np.unique(epochs)}
    return np.array([orders[e][o] for e, o in zip(epochs, offsets, strict=True)], np.int64)
