"""The training run of the tiny vision-language model: questions about pictures, texts, and both."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig

from runs.models.neox import build_optimizer, learning_rate
from runs.models.tiny_vlm import (
    END,
    PAD,
    PATCHES,
    VOCABULARY,
    TinyVlmConfig,
    TinyVlmForConditionalGeneration,
    build_tokenizer,
)
from runs.models.tokenizer import has_tokenizer, save_tokenizer
from runs.models.training_run import Trainer
from runs.models.vlm_batches import Batch, Material, branch_mask

_SHAPE_WORD = -2  # of a question: "… the circle ?"


@dataclass(frozen=True)
class VlmConfig:
    """Everything that decides the weights of a run.

    Attributes
    ----------
    layers, width, heads, mlp : int
        Blocks of the decoder, hidden size, heads a block, and inner size of the MLP.
    channels : tuple of int
        After the first and second convolution of the stem.
    initial_std : float
        Standard deviation of the initial weights; 0.02 does not learn to see in time.
    images, vision_questions, text_questions : int
        Pictures an update, questions about each alone (and one more beside a text), and questions about
        texts alone.
    easy_share : float
        Share of the updates, from the first, that see only pictures in which no shape is hidden.
    patch_weight, shape_word_weight : float
        Of two aids against a long plateau: naming the object in each patch, and answering already at
        the word of the shape.
    irrelevant_share : float
        Share of texts beside a picture that speak of other shapes than the one asked for.
    text_facts : int
        1, or 2: a text that speaks of another shape too, before or after.
    steps, lr, lr_floor, warmup, betas, weight_decay, clip, per_octave, seed, threads
        As in the demo's configuration.

    Raises
    ------
    ValueError
        If a value makes no model or no run.
    """

    layers: int = 4
    width: int = 96
    heads: int = 4
    mlp: int = 256
    channels: tuple[int, int] = (24, 48)
    initial_std: float = 0.1
    images: int = 48
    vision_questions: int = 4
    text_questions: int = 16
    easy_share: float = 0.25
    patch_weight: float = 0.5
    shape_word_weight: float = 0.5
    irrelevant_share: float = 0.0
    text_facts: int = 1
    steps: int = 1200
    lr: float = 2e-3
    lr_floor: float = 0.05
    warmup: int = 30
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    per_octave: int = 1
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        counts = ("layers", "heads", "mlp", "images", "vision_questions", "text_questions")
        for name in (*counts, "steps", "warmup", "per_octave", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("initial_std", "lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("easy_share", "irrelevant_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 … 1, not {getattr(self, name)}")
        for name in ("patch_weight", "shape_word_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.width < 2 or self.width % (2 * self.heads):
            raise ValueError(
                f"width must be a multiple of twice heads {self.heads}, not {self.width}"
            )
        if min(self.channels) < 1:
            raise ValueError(f"channels must be at least 1, not {self.channels}")
        if self.text_facts not in (1, 2):
            raise ValueError(f"text_facts must be 1 or 2, not {self.text_facts}")

    @property
    def tokens_per_step(self) -> int:
        """Answers predicted in one update."""
        return self.images * (self.vision_questions + 1) + self.text_questions


def build_model(config: VlmConfig) -> TinyVlmForConditionalGeneration:
    """Make the model with its initial weights, a pure function of `config.seed`.

    Returns
    -------
    TinyVlmForConditionalGeneration
        float32, scaled-dot-product attention, no dropout; 542 942 parameters by default.
    """
    ids = {word: number for number, word in enumerate(VOCABULARY)}
    text = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=config.width,
        intermediate_size=config.mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=128,
        initializer_range=config.initial_std,
        pad_token_id=ids[PAD],
        bos_token_id=None,
        eos_token_id=ids[END],
        use_cache=False,
    )
    architecture = TinyVlmConfig(
        text_config=text,
        channels=config.channels,
        initializer_range=config.initial_std,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TinyVlmForConditionalGeneration(architecture)


def losses(model: TinyVlmForConditionalGeneration, batch: Batch) -> dict[str, Tensor]:
    """Mean losses in nats: `answer` over all answers, and the aids `shape_word` and `patch`."""
    images, questions, asked = batch.vision_ids.shape
    seen = model.vision(batch.pixels)
    words = torch.cat([batch.vision_ids.flatten(1), batch.both_ids], dim=1)
    states = torch.cat([seen, model.get_input_embeddings()(words)], dim=1)
    mask, places = branch_mask(questions, asked, batch.both_ids.shape[1])
    out = model(inputs_embeds=states, attention_mask=mask, position_ids=places).logits
    start = PATCHES + questions * asked
    vision = out[:, PATCHES:start].unflatten(1, (questions, asked))
    both = out[torch.arange(images), start + batch.both_last]
    text = model(input_ids=batch.text_ids).logits
    text = text[torch.arange(len(text)), batch.text_last]
    logits = torch.cat([vision[:, :, -1].flatten(0, 1), both, text])
    right = torch.cat([batch.vision_answer.flatten(), batch.both_answer, batch.text_answer])
    at_shape = vision[:, :, _SHAPE_WORD].flatten(0, 1)
    shape = cross_entropy(model.patch_shape(seen).flatten(0, 1), batch.patch_shape.flatten())
    colour = cross_entropy(model.patch_colour(seen).flatten(0, 1), batch.patch_colour.flatten())
    return {
        "answer": cross_entropy(logits, right),
        "shape_word": cross_entropy(at_shape, batch.vision_answer.flatten()),
        "patch": shape + colour,
    }


class VlmRun:
    """A tiny vision-language model on pictures and texts that are drawn as they are needed.

    Parameters
    ----------
    config
        Hyper-parameters.
    """

    def __init__(self, config: VlmConfig) -> None:
        self.config = config
        self.name = f"tiny-vlm-{config.layers}x{config.width}"
        self._material = Material(build_tokenizer())

    def settings(self) -> dict[str, Any]:
        """Hyper-parameters, and a digest of what the first and the last update read."""
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.config).items()}
        state = hashlib.sha256()
        for step in (1, self.config.steps):
            for part in vars(self._material.batch(step, self.config)).values():
                state.update(f"{tuple(part.shape)}".encode() + part.numpy().tobytes())
        return {**found, "material_sha256": state.hexdigest()}

    def prepare(self, root: Path) -> None:
        """Write the tokenizer unless it is there."""
        if not self.prepared(root):
            save_tokenizer(build_tokenizer(), root)

    def prepared(self, root: Path) -> bool:
        """Whether the tokenizer is there."""
        return has_tokenizer(root)

    def build(self) -> TinyVlmForConditionalGeneration:
        """The model with its initial weights."""
        return build_model(self.config)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW that decays matrices."""
        return build_optimizer(model, self.config)

    def update(
        self, model: Any, optimizer: torch.optim.Optimizer, step: int
    ) -> tuple[float, float, float]:
        """One batch; the loss that is given is that of the answers, without the aids."""
        config = self.config
        lr = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = lr
        found = losses(model, self._material.batch(step, config))
        goal = found["answer"] + config.shape_word_weight * found["shape_word"]
        goal = goal + config.patch_weight * found["patch"]
        optimizer.zero_grad()
        goal.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        return found["answer"].item(), lr, norm.item()


TRAINER = Trainer(VlmConfig, VlmRun, "a tiny vision-language model on coloured shapes")
