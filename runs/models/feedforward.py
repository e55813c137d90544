"""A feed-forward predictor of the next word: the embeddings of nine words side by side, then layers.

In the style of arXiv 2302.07588, of which only the abstract could be read, after the first of its kind
(Bengio et al. 2003, JMLR 3:1137, §2): tanh layers on concatenated embeddings. Importing this module
registers `phasescope_feedforward` with transformers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from runs.models.training_run import Trainer
from runs.models.word_model import WordModel, WordModelConfig, WordModelForCausalLM
from runs.models.word_run import WordRun, WordTrainConfig


class FeedForwardConfig(WordModelConfig):
    """Sizes of `FeedForwardForCausalLM`; `context` is the number of words it reads."""

    model_type = "phasescope_feedforward"
    num_hidden_layers: int = 3


class FeedForwardLayer(nn.Module):
    """tanh of a linear map of the states of the last `span` positions, this one included.

    Before the first word there are zeros, so a state is there from the first position on.

    Parameters
    ----------
    width
        Of what it reads and of what it gives.
    span
        Positions it reads.
    """

    def __init__(self, width: int, span: int) -> None:
        super().__init__()
        self.span = span
        self.linear = nn.Linear(span * width, width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """States (sample, position, feature)."""
        before = nn.functional.pad(hidden_states, (0, 0, self.span - 1, 0))
        # (sample, position, feature, span): the oldest word first, so concatenated they are in order.
        windows = before.unfold(1, self.span, 1).transpose(2, 3).flatten(2)
        found: Tensor = self.linear(windows).tanh()
        return found


class FeedForwardModel(WordModel):
    """Embedding and layers; the first reads `context` words, the others its states."""

    config_class = FeedForwardConfig

    def __init__(self, config: FeedForwardConfig) -> None:
        spans = [config.context] + [1] * (config.num_hidden_layers - 1)
        super().__init__(config, [FeedForwardLayer(config.hidden_size, span) for span in spans])
        self.post_init()


class FeedForwardForCausalLM(WordModelForCausalLM):
    """Embedding, layers and unembedding."""

    config_class = FeedForwardConfig

    def __init__(self, config: FeedForwardConfig) -> None:
        super().__init__(config, FeedForwardModel(config))


@dataclass(frozen=True)
class FeedForwardTrainConfig(WordTrainConfig):
    """Hyper-parameters of the feed-forward model: those of `WordTrainConfig`; it reads `length` words."""

    layers: int = 3

    def build(self) -> FeedForwardForCausalLM:
        """The model, with weights as torch's generator stands."""
        return FeedForwardForCausalLM(
            FeedForwardConfig(
                vocab_size=self.vocabulary,
                hidden_size=self.width,
                num_hidden_layers=self.layers,
                context=self.length,
            )
        )


AutoConfig.register(FeedForwardConfig.model_type, FeedForwardConfig, exist_ok=True)
AutoModelForCausalLM.register(FeedForwardConfig, FeedForwardForCausalLM, exist_ok=True)

TRAINER = Trainer(
    FeedForwardTrainConfig, WordRun, "a feed-forward network on two centuries of speeches"
)
