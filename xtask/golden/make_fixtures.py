#!/usr/bin/env python3
"""Make what Maitre's forward pass is compared with: numbers that transformers computes.

usage: make_fixtures.py [OUT_DIR]      (default: crates/maitre-model/tests/fixtures)
needs: torch, transformers 5, safetensors, tokenizers

Each tiny model is a Hugging Face directory with random weights and `expected.safetensors`:
`tokens` (i64, [T]) and `logits` (f32, [T, vocab]) of the same weights, computed in the type they
are stored in. The sizes are odd on purpose: heads that are not hidden / heads wide, one KV head,
more embedding rows than a power of two. Weights are drawn wider than for training, so that attention
is sharp and an error anywhere shows in the logits. The same torch version gives the same files.

`perplexity.json` holds, for each bundled model, the summed negative log-likelihood (in nats) of each
window of the held-out text: ids 0..=59,391 in 116 windows of 512, each predicting its last 511 ids.
"""
import json
import math
import pathlib
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import (
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM)

CRATES = pathlib.Path(__file__).resolve().parents[2] / "crates"
DEFAULT_OUT = CRATES / "maitre-model/tests/fixtures"
BUNDLED = CRATES / "maitre-bundled"
WINDOW, NUM_WINDOWS = 512, 116
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PROMPT_LENGTH = 45

QWEN3 = dict(
    vocab_size=71, hidden_size=40, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=1, head_dim=24, max_position_embeddings=64, eos_token_id=2)
LLAMA = dict(
    vocab_size=67, hidden_size=48, intermediate_size=52, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=64, eos_token_id=2)
# A prompt of several windows, the first of which lie in tiles of attention that no token sees whole.
MISTRAL = dict(
    vocab_size=67, hidden_size=48, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=160, sliding_window=24, eos_token_id=2)
MISTRAL_PROMPT_LENGTH = 150
# Short enough that the prompt crosses it, with frequencies on either side of both bounds.
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16)


def random_model(model_class, config, dtype, seed, norm_center=1.0, embedding_gain=1.0):
    """A model whose weights are large enough that every one of them matters, and in 16 bits not so
    large that the reference's own rounding of activations drowns the comparison."""
    gain = 1.5 if dtype == torch.float32 else 1.0
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn_like(parameter))
            elif parameter.ndim == 1:
                parameter.copy_(norm_center + 0.2 * torch.randn_like(parameter))
            elif name == EMBEDDING:
                parameter.copy_(embedding_gain * torch.randn_like(parameter))
            else:
                parameter.copy_(gain * torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
    return model


def v4_form(config):
    """The configuration as transformers 4 wrote it: rope at the top level, `torch_dtype`, and for
    Llama and Mistral no `head_dim`."""
    if config["model_type"] in ("llama", "mistral"):
        del config["head_dim"]
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    return config


def write_case(out, name, model_class, config, dtype, seed, tied_as=None, v4=False, shards=1,
               prompt_length=PROMPT_LENGTH):
    model = random_model(model_class, config, dtype, seed).to(dtype)
    tokens = torch.randint(3, config.vocab_size, (prompt_length,))
    with torch.no_grad():
        logits = model(tokens.unsqueeze(0)).logits[0].float()

    directory = out / name
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del weights[HEAD]
        if tied_as == HEAD:
            weights[HEAD] = weights.pop(EMBEDDING)
    write_weights(directory, weights, shards)
    save_file({"tokens": tokens, "logits": logits}, directory / "expected.safetensors")
    settings = json.loads(model.config.to_json_string())
    settings["architectures"] = [model_class.__name__]
    settings["dtype"] = str(dtype).removeprefix("torch.")
    if v4:
        settings = v4_form(settings)
    (directory / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    print(f"{name}: {sum(f.stat().st_size for f in directory.iterdir())} bytes")


def write_weights(directory, weights, shards):
    if shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(weights)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())},
             "weight_map": dict(sorted(weight_map.items()))}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_perplexity(out):
    tokenizer = Tokenizer.from_file(str(BUNDLED / "model/target/tokenizer.json"))
    ids = torch.tensor(tokenizer.encode((BUNDLED / "heldout.txt").read_text()).ids)
    windows = ids[:NUM_WINDOWS * WINDOW].view(NUM_WINDOWS, WINDOW)
    losses = {}
    for name in ("target", "draft"):
        model = Qwen3ForCausalLM.from_pretrained(BUNDLED / "model" / name, dtype=torch.float32)
        with torch.no_grad():
            losses[name] = [
                torch.nn.functional.cross_entropy(
                    model(window.unsqueeze(0)).logits[0, :-1].double(), window[1:], reduction="sum").item()
                for window in windows]
        mean = sum(losses[name]) / (NUM_WINDOWS * (WINDOW - 1))
        print(f"{name}: perplexity {math.exp(mean):.4f}")
    (out / "perplexity.json").write_text(json.dumps(losses, indent=1) + "\n")


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT
    torch.set_num_threads(1)
    default_rope = dict(rope_type="default", rope_theta=10000.0)
    write_case(
        out, "qwen3-f32-tied", Qwen3ForCausalLM,
        Qwen3Config(**QWEN3, tie_word_embeddings=True, rope_parameters=default_rope),
        torch.float32, seed=1)
    write_case(
        out, "qwen3-bf16-untied-bias-v4", Qwen3ForCausalLM,
        Qwen3Config(**QWEN3 | dict(head_dim=48, num_attention_heads=3), attention_bias=True,
                    rope_parameters=dict(rope_type="default", rope_theta=1e6)),
        torch.bfloat16, seed=2, v4=True)
    write_case(
        out, "llama-f32-llama3-bias-v4", LlamaForCausalLM,
        LlamaConfig(**LLAMA, rope_parameters=dict(LLAMA3_ROPE), attention_bias=True, mlp_bias=True),
        torch.float32, seed=3, v4=True)
    write_case(
        out, "llama-bf16-llama3-tied-as-head", LlamaForCausalLM,
        LlamaConfig(**LLAMA, rope_parameters=dict(LLAMA3_ROPE), tie_word_embeddings=True),
        torch.bfloat16, seed=4, tied_as=HEAD)
    write_case(
        out, "llama-f32-sharded", LlamaForCausalLM,
        LlamaConfig(**LLAMA | dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2,
                                   head_dim=48), rope_parameters=default_rope),
        torch.float32, seed=5, shards=3)
    write_case(
        out, "llama-f16-untied", LlamaForCausalLM,
        LlamaConfig(**LLAMA, rope_parameters=default_rope), torch.float16, seed=6)
    write_case(
        out, "mistral-f32-window", MistralForCausalLM,
        MistralConfig(**MISTRAL, rope_parameters=default_rope), torch.float32, seed=7, v4=True,
        prompt_length=MISTRAL_PROMPT_LENGTH)
    write_perplexity(out)


if __name__ == "__main__":
    main()
