"""Checkpoints as they are published: old key names, tied heads, .bin, GGUF, models larger than memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from runs.backends import TorchHooks
from runs.errors import CheckpointError, InputError
from runs.inputs import load_tokenizer
from runs.integrity import fingerprint
from runs.loading import load_model, quiet_transformers, read_shape
from runs.selfcheck import own_view, self_check
from runs.series import gguf as gguf_series
from tests.runs.zoo import batch, tiny

PRODUCTS = ("hidden", "attention", "tokens")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_transformers():
        yield


def saved(folder: Path, name: str, **changes: Any) -> torch.Tensor:
    """Save a tiny model; its logits."""
    model = tiny(name, **changes)
    model.save_pretrained(folder)
    with torch.inference_mode():
        logits: torch.Tensor = model(batch()[0]).logits
    return logits


def logits_of(path: Path, **options: Any) -> torch.Tensor:
    loaded = load_model(path, **options)
    with torch.inference_mode():
        found: torch.Tensor = loaded.model(batch()[0]).logits
    return found


def to_legacy(folder: Path) -> None:
    """Rename to the keys that Pythia's files have, buffers of the time included."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    old = {k.replace("lm_head.weight", "embed_out.weight"): v for k, v in weights.items()}
    for block in range(3):
        base = f"gpt_neox.layers.{block}.attention"
        old[f"{base}.bias"] = torch.ones(1, 1, 128, 128, dtype=torch.bool).tril()
        old[f"{base}.masked_bias"] = torch.tensor(-1e9)
        old[f"{base}.rotary_emb.inv_freq"] = torch.ones(2)
    save_file(old, file, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_legacy_pythia_names_load_to_the_same_logits(tmp_path: Path, kind: str) -> None:
    logits = saved(tmp_path, "GPT-NeoX parallel")
    to_legacy(tmp_path)
    assert "embed_out.weight" in load_file(tmp_path / "model.safetensors")
    if kind == "bin":
        file = tmp_path / "model.safetensors"
        torch.save(load_file(file), tmp_path / "pytorch_model.bin")
        file.unlink()
    torch.testing.assert_close(logits_of(tmp_path), logits)
    loaded = load_model(tmp_path)
    self_check(TorchHooks(loaded), own_view(loaded), PRODUCTS)


@pytest.mark.parametrize("name", ["Qwen2", "GPT-2", "Gemma-2"])
def test_a_tied_head_is_the_embedding(tmp_path: Path, name: str) -> None:
    logits = saved(tmp_path, name, tie_word_embeddings=True)
    assert not any("lm_head" in key for key in load_file(tmp_path / "model.safetensors"))
    torch.testing.assert_close(logits_of(tmp_path), logits)
    loaded = load_model(tmp_path)
    assert loaded.unembedding.weight is loaded.model.get_input_embeddings().weight
    assert (loaded.unembedding.softcap == 3.0) == (name == "Gemma-2")


def test_a_head_that_is_missing_is_not_made_up(tmp_path: Path) -> None:
    saved(tmp_path, "Llama", tie_word_embeddings=False)
    file = tmp_path / "model.safetensors"
    weights = {k: v for k, v in load_file(file).items() if k != "lm_head.weight"}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="missing weights: lm_head"):
        load_model(tmp_path)


def test_a_code_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    saved(tmp_path, "OLMo-2")
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.down_proj.weight"][3, 4] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.down_proj\.weight holds NaN"):
        load_model(tmp_path)


def test_a_model_larger_than_memory_is_spread_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate is told of 30 kB of memory, so that most weights stay on disk until they are used."""
    saved(tmp_path, "Llama", tie_word_embeddings=False)
    import accelerate.utils.modeling as modeling
    import transformers.integrations.accelerate as ours

    def small(*_: object, **__: object) -> dict[str, int]:
        return {"cpu": 30_000}

    monkeypatch.setattr(modeling, "get_max_memory", small)
    monkeypatch.setattr(ours, "get_max_memory", small)
    spread = load_model(tmp_path, device_map="auto")
    assert "disk" in spread.model.hf_device_map.values()
    assert any(parameter.is_meta for parameter in spread.model.parameters())
    whole = load_model(tmp_path)
    ids, mask = batch("left")
    seen: list[dict[int, torch.Tensor]] = []
    for loaded in (whole, spread):
        states: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            TorchHooks(loaded).observe(
                ids,
                mask,
                layers=frozenset(range(5)),
                hidden=lambda i, x, states=states: states.update({i: x.clone()}),
            )
        seen.append(states)
    for layer in range(5):
        torch.testing.assert_close(seen[0][layer], seen[1][layer])
    torch.testing.assert_close(whole.unembedding.weight, spread.unembedding.weight)
    self_check(TorchHooks(spread), own_view(spread), PRODUCTS)


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path, "Llama")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"capture\.device: 'cuda' cannot be used"):
            load_model(tmp_path, device="cuda")


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """A Llama of two blocks in a GGUF file with a byte-level tokenizer inside; its tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    width, heads, vocabulary, inner = 32, 4, 64, 48
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_rope_dimension_count(width // heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    tokens = ["<s>", *(chr(i) for i in range(65, 65 + vocabulary - 2)), "ab"]
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (vocabulary - 1)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    generator = np.random.default_rng(0)
    shapes = {"token_embd.weight": (vocabulary, width), "output.weight": (vocabulary, width)}
    shapes["output_norm.weight"] = (width,)
    for block in range(2):
        rows = {"attn_q": width, "attn_k": width // 2, "attn_v": width // 2, "attn_output": width}
        shapes |= {f"blk.{block}.{name}.weight": (n, width) for name, n in rows.items()}
        shapes |= {f"blk.{block}.{name}.weight": (inner, width) for name in ("ffn_gate", "ffn_up")}
        shapes[f"blk.{block}.ffn_down.weight"] = (width, inner)
        shapes |= {f"blk.{block}.{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
    tensors = {n: generator.normal(size=s).astype(np.float32) / 4 for n, s in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_gguf_file_is_a_series_of_one(tmp_path: Path) -> None:
    tensors = write_gguf(tmp_path / "tiny.gguf")
    series = gguf_series(tmp_path / "tiny.gguf", step=7, tokens=70)
    (checkpoint,) = series.checkpoints
    assert (checkpoint.label, checkpoint.tokens, series.name) == ("main/step7", 70, "tiny")
    shape = read_shape(checkpoint.path)
    assert (shape.architecture, shape.blocks, shape.width) == ("LlamaForCausalLM", 2, 32)
    loaded = load_model(checkpoint.path)
    embedding = loaded.model.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_array_equal(embedding, tensors["token_embd.weight"])
    np.testing.assert_array_equal(loaded.unembedding.weight.detach(), tensors["output.weight"])
    self_check(TorchHooks(loaded), own_view(loaded), PRODUCTS)
    assert load_tokenizer(series.tokenizer)(["abc"], add_special_tokens=False)["input_ids"]
    assert len(fingerprint(checkpoint.path).digest) == 64


def test_what_is_no_gguf_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.gguf: cannot be read"):
        gguf_series(tmp_path / "gone.gguf")
    (tmp_path / "text.gguf").write_text(json.dumps({}))
    with pytest.raises(InputError, match="is not a GGUF file"):
        gguf_series(tmp_path / "text.gguf")
    with pytest.raises(InputError, match="`no_such_package` is not installed"):
        gguf_series("a.gguf", package="no_such_package")


def test_a_reader_of_gguf_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("runs.packages._installed", lambda name: None)
    with pytest.raises(InputError, match=r"a\.gguf: .+ pip install 'phasescope\[gguf\]'"):
        gguf_series(tmp_path / "a.gguf")
