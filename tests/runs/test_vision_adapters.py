"""Every family that reads images, tiny and random, against what the model says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runs.attention_tap import attention_as, register
from runs.backends.torch_hooks import TorchHooks
from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.loading import load_model, read_shape
from runs.selfcheck import own_view, self_check
from runs.vision.adapters import ProcessorAdapter, adapter_of, first_tokens
from tests.runs.vision_zoo import FAMILIES, pictures, save_tiny
from tests.runs.zoo import tiny

TEXTS = ["the circle is red. what colour is the circle?", "what colour is the square?", "what?"]
TEMPLATE = (
    "{% for m in messages %}[ask]{% for c in m['content'] %}{% if c['type'] == 'image' %}PICTURE"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}[/ask]{% endfor %}"
)


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(request.param, tmp_path_factory.mktemp("vision") / "step0")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(folder)


def test_a_family_loads_with_the_sizes_of_its_decoder(folder: Path, loaded: LoadedModel) -> None:
    shape = read_shape(folder)
    assert shape == loaded.shape
    assert shape.reads_images
    assert (shape.blocks, shape.width, shape.heads) == (3, 32, 4)
    assert len(loaded.blocks) == 3
    assert type(loaded.blocks[0]).__name__.endswith("DecoderLayer")
    assert loaded.unembedding.weight.shape == (shape.vocabulary, 32)


def test_text_alone_passes_the_self_check(loaded: LoadedModel) -> None:
    products = ["hidden", "moments", "attention", "tokens"]
    self_check(TorchHooks(loaded), own_view(loaded), products)
    assert loaded.model.config.text_config._attn_implementation == register()
    assert loaded.model.config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("seen", [True, False])
def test_states_and_logits_are_the_models_own(
    folder: Path, loaded: LoadedModel, seen: bool
) -> None:
    adapter = adapter_of(loaded, folder)
    inputs = adapter.inputs(TEXTS, pictures(3) if seen else None)
    assert ("pixel_values" in inputs) == seen
    states = adapter.final_states(inputs)
    assert states.shape == (5, 3, 32)
    with torch.inference_mode(), attention_as(loaded.model, "eager"):
        own = loaded.model(**inputs, output_hidden_states=True)
    hidden = torch.stack([state[:, -1] for state in own.hidden_states])
    torch.testing.assert_close(states[[0, 1, 2, 4]], hidden, atol=1e-5, rtol=1e-5)
    logits = own.logits[:, -1]
    torch.testing.assert_close(adapter.final_logits(states[4]), logits, atol=1e-5, rtol=1e-5)
    # The lens of the last block is the output itself.
    torch.testing.assert_close(adapter.lens_logits(states[3]), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seen", [True, False])
def test_a_batch_is_as_good_as_one_by_one(folder: Path, loaded: LoadedModel, seen: bool) -> None:
    adapter, images = adapter_of(loaded, folder), pictures(3)
    together = adapter.final_states(adapter.inputs(TEXTS, images if seen else None))
    for number, text in enumerate(TEXTS):
        alone = adapter.inputs([text], images[number : number + 1] if seen else None)
        states = adapter.final_states(alone)
        torch.testing.assert_close(states[:, 0], together[:, number], atol=1e-5, rtol=1e-5)


def test_the_image_matters(folder: Path, loaded: LoadedModel) -> None:
    adapter = adapter_of(loaded, folder)
    one, other = (
        adapter.final_states(adapter.inputs(TEXTS[:1], pictures(1, seed=seed))) for seed in (0, 1)
    )
    assert float((one - other)[-1].abs().max()) > 1e-3


def test_the_prompt_and_the_answers_first_token(folder: Path, loaded: LoadedModel) -> None:
    adapter = adapter_of(loaded, folder)
    assert isinstance(adapter, ProcessorAdapter)
    prompts = adapter.prompts
    prompt = prompts.render("what colour?", image=False)
    assert "what colour? Please use one word to answer this question." in prompt
    assert prompts.family.picture in prompts.render("what colour?", image=True)
    assert prompts.family.picture not in prompt
    tokenizer = prompts.processor.tokenizer
    answer = "red" if prompt.endswith("\n") else " red"
    ids = tokenizer.encode(prompt + answer, add_special_tokens=True)
    start = len(tokenizer.encode(prompt, add_special_tokens=True))
    assert adapter.first_token("red") == ids[start]
    assert answer.startswith(tokenizer.decode([ids[start]]))


def test_a_chat_template_goes_first(tmp_path: Path) -> None:
    folder = save_tiny("LLaVA-1.5", tmp_path, template=TEMPLATE.replace("PICTURE", "<image>"))
    adapter = adapter_of(load_model(folder), folder, command="")
    assert isinstance(adapter, ProcessorAdapter)
    assert adapter.prompts.render("what?", image=True) == "[ask]<image>what?[/ask]"


def test_answers_that_begin_alike_are_refused(tmp_path: Path) -> None:
    folder, name = save_tiny("Qwen2-VL", tmp_path), "Qwen2VLForConditionalGeneration"
    assert len(set(first_tokens(name, folder, ["red", "green", "blue"]))) == 3
    with pytest.raises(InputError, match=r"'red' and 'reddish' begin with the same token"):
        first_tokens(name, folder, ["red", "reddish"])


def test_a_model_without_eyes_is_refused(tmp_path: Path) -> None:
    from runs.loaded import wrap

    with pytest.raises(InputError, match="LlamaForCausalLM reads text only"):
        adapter_of(wrap(tiny("Llama")), tmp_path)


def test_a_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    folder = save_tiny("Qwen2-VL", tmp_path)
    loaded = load_model(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"image processor cannot be read.*series\.tokenizer"):
        adapter_of(loaded, folder)
