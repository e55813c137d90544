"""Next-word predictors without attention: what the recurrent and the feed-forward model share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput


class WordModelConfig(PreTrainedConfig):  # type: ignore[misc]  # untyped
    """Sizes of a predictor of the next word.

    Attributes
    ----------
    vocab_size, hidden_size, num_hidden_layers : int
        Words known, width of the embedding and of every layer, and layers after the embedding.
    context : int
        Words the model is made for.
    num_attention_heads : int
        None: there is no attention.
    initializer_range : float
        Standard deviation of the embedding's initial weights.
    """

    vocab_size: int = 8192
    hidden_size: int = 128
    num_hidden_layers: int = 2
    context: int = 9
    num_attention_heads: int = 0
    initializer_range: float = 0.1
    tie_word_embeddings: bool = False


class WordModel(PreTrainedModel):  # type: ignore[misc]  # untyped
    """An embedding and layers, each of which reads states of this position and of earlier ones.

    Layer 0 is the embedding, layer i what layer i gives. There is no norm: what the unembedding reads is
    what the last layer gives, passed through `norm`, which leaves it as it is.

    Parameters
    ----------
    config
        Sizes.
    layers
        From states (sample, position, feature) to states of the same shape, one after the other.
    """

    config_class = WordModelConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config: WordModelConfig, layers: list[nn.Module]) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.Identity()

    def _init_weights(self, module: nn.Module) -> None:
        _initialise(self, module)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """States (sample, position, feature); with `output_hidden_states` those of all layers.

        Parameters
        ----------
        input_ids
            Words (sample, position).
        attention_mask
            1 at words, 0 at padding (sample, position). Padding on the left is moved to the right while
            the layers read, so that the first word has nothing before it.
        """
        order = None if attention_mask is None else _words_first(attention_mask)
        ids = input_ids if order is None else input_ids.gather(1, order)
        state: Tensor = self.embed_tokens(ids)
        states = [state]
        for layer in self.layers:
            state = layer(state)
            states.append(state)
        states[-1] = state = self.norm(state)
        if order is not None:
            back = order.argsort(1)[..., None]
            states = [s.gather(1, back.expand_as(s)) for s in states]
        kept = tuple(states) if output_hidden_states else None
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=kept)


class WordModelForCausalLM(PreTrainedModel):  # type: ignore[misc]  # untyped
    """A `WordModel` and its unembedding.

    Parameters
    ----------
    config
        Sizes.
    model
        The layers.
    """

    config_class = WordModelConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config: WordModelConfig, model: WordModel) -> None:
        super().__init__(config)
        self.model = model
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        _initialise(self, module)

    def get_input_embeddings(self) -> nn.Module:
        """The words' embedding."""
        found: nn.Module = self.model.embed_tokens
        return found

    def get_output_embeddings(self) -> nn.Module:
        """The unembedding."""
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Logits (sample, position, vocabulary); arguments as `WordModel.forward`."""
        out = self.model(
            input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states
        )
        logits = self.lm_head(out.last_hidden_state)
        return CausalLMOutput(logits=logits, hidden_states=out.hidden_states)


def _initialise(model: Any, module: nn.Module) -> None:
    """Matrices of linear layers so that sums keep their size; the rest as transformers has it."""
    if isinstance(module, nn.Linear):
        initialization.normal_(module.weight, mean=0.0, std=module.in_features**-0.5)
        if module.bias is not None:
            initialization.zeros_(module.bias)
    else:
        PreTrainedModel._init_weights(model, module)


def _words_first(mask: Tensor) -> Tensor | None:
    """An order of positions with padding last; None if it is that already."""
    mask = mask.bool()
    if bool((mask[:, :-1] >= mask[:, 1:]).all()):
        return None
    return torch.argsort(~mask, dim=1, stable=True)
