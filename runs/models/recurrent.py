"""A recurrent predictor of the next word: LSTM layers over words.

In the style of arXiv 2302.07588, of which only the abstract could be read: the corpus, sizes and
optimiser here are our own. Importing this module registers `phasescope_lstm` with transformers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from runs.models.training_run import Trainer
from runs.models.word_model import WordModel, WordModelConfig, WordModelForCausalLM
from runs.models.word_run import WordRun, WordTrainConfig


class LstmConfig(WordModelConfig):
    """Sizes of `LstmForCausalLM`."""

    model_type = "phasescope_lstm"


class LstmLayer(nn.Module):
    """One LSTM that starts from zeros; its states go on, its cells stay inside.

    Parameters
    ----------
    width
        Of what it reads and of what it gives.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """States (sample, position, feature), each of this position and those before it."""
        found: Tensor = self.lstm(hidden_states)[0]
        return found


class LstmModel(WordModel):
    """Embedding and LSTM layers."""

    config_class = LstmConfig

    def __init__(self, config: LstmConfig) -> None:
        layers = [LstmLayer(config.hidden_size) for _ in range(config.num_hidden_layers)]
        super().__init__(config, [*layers])
        self.post_init()


class LstmForCausalLM(WordModelForCausalLM):
    """Embedding, LSTM layers and unembedding."""

    config_class = LstmConfig

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config, LstmModel(config))


@dataclass(frozen=True)
class LstmTrainConfig(WordTrainConfig):
    """Hyper-parameters of the recurrent model; those of `WordTrainConfig`."""

    def build(self) -> LstmForCausalLM:
        """The model, with weights as torch's generator stands."""
        return LstmForCausalLM(
            LstmConfig(
                vocab_size=self.vocabulary,
                hidden_size=self.width,
                num_hidden_layers=self.layers,
                context=self.length,
            )
        )


AutoConfig.register(LstmConfig.model_type, LstmConfig, exist_ok=True)
AutoModelForCausalLM.register(LstmConfig, LstmForCausalLM, exist_ok=True)

TRAINER = Trainer(LstmTrainConfig, WordRun, "a recurrent network on two centuries of speeches")
