#!/usr/bin/env python3
"""Make the fixtures of the families that make_fixtures.py does not have, in the same form.

usage: make_family_fixtures.py [OUT_DIR [FAMILY..]]      (default: crates/maitre-model/tests/fixtures, all families)
needs: torch, transformers 5.19, safetensors, tokenizers

`expected.safetensors` has one more tensor here: `greedy` (i64, [N]), the ids that follow the first half of `tokens`
one by one. Prompts are longer than the windows and than the trained contexts, so that each rule that depends on
a position shows on both of its sides.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import (
    Exaone4Config, Exaone4ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GemmaConfig, GemmaForCausalLM, Glm4Config,
    Glm4ForCausalLM, GlmConfig, GlmForCausalLM, GraniteConfig, GraniteForCausalLM, HunYuanDenseV1Config,
    HunYuanDenseV1ForCausalLM, MinistralConfig, MinistralForCausalLM, Olmo2Config, Olmo2ForCausalLM, Olmo3Config,
    Olmo3ForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, SeedOssConfig, SeedOssForCausalLM,
    SmolLM3Config, SmolLM3ForCausalLM)

from make_fixtures import DEFAULT_OUT, HEAD, LLAMA3_ROPE, random_model, write_weights

NUM_GREEDY = 16
SLIDING, FULL = "sliding_attention", "full_attention"

QWEN2 = dict(
    vocab_size=71, hidden_size=24, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=160, eos_token_id=2)
GEMMA3 = dict(
    vocab_size=67, hidden_size=16, intermediate_size=18, num_hidden_layers=6, num_attention_heads=4,
    num_key_value_heads=1, head_dim=12, max_position_embeddings=160, sliding_window=8, query_pre_attn_scalar=10,
    eos_token_id=2)
PHI3 = dict(
    vocab_size=67, hidden_size=32, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=128, eos_token_id=2, pad_token_id=0, bos_token_id=1)
OLMO3 = dict(
    vocab_size=67, hidden_size=24, intermediate_size=36, num_hidden_layers=4, num_attention_heads=3,
    num_key_value_heads=1, max_position_embeddings=128, sliding_window=8, eos_token_id=2)
# What the others have in common: a quarter of the heads share a key, and heads are not hidden / heads wide.
SMALL = dict(
    vocab_size=67, hidden_size=24, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=10, max_position_embeddings=128, eos_token_id=2, pad_token_id=0)
DEFAULT_ROPE = dict(rope_type="default", rope_theta=500.0)
# Bounds that lie within the few pairs of these heads.
YARN = dict(
    rope_type="yarn", rope_theta=10.0, factor=4.0, original_max_position_embeddings=32, beta_fast=2.0, beta_slow=0.5)
SHORT = [1.0, 1.05, 1.1, 1.3, 1.6, 2.0]
LONG = [1.0, 1.4, 2.0, 3.1, 5.0, 7.5]


def greedy(model, tokens):
    """The ids that follow `tokens`, each computed from all before it."""
    for _ in range(NUM_GREEDY):
        logits = model(tokens.unsqueeze(0), use_cache=False).logits[0, -1]
        tokens = torch.cat([tokens, logits.argmax().unsqueeze(0)])
    return tokens[-NUM_GREEDY:].clone()


def v4(settings, **changes):
    """The settings as transformers 4 wrote them: RoPE outside or in `rope_scaling`, `torch_dtype`."""
    rope = settings.pop("rope_parameters")
    settings |= changes
    if not changes:
        settings["rope_theta"] = rope.pop("rope_theta")
        settings["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    settings["torch_dtype"] = settings.pop("dtype")
    return settings


def write_case(out, name, model_class, config, dtype, seed, prompt_length, half=None, form=None, **gains):
    model = random_model(model_class, config, dtype, seed, **gains).to(dtype)
    tokens = torch.randint(3, config.vocab_size, (prompt_length,))
    with torch.no_grad():
        logits = model(tokens.unsqueeze(0), use_cache=False).logits[0].float()
        following = greedy(model, tokens[:half or prompt_length // 2])
    directory = out / name
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del weights[HEAD]
    write_weights(directory, weights, 1)
    save_file({"tokens": tokens, "logits": logits, "greedy": following}, directory / "expected.safetensors")
    settings = json.loads(model.config.to_json_string())
    settings["architectures"] = [model_class.__name__]
    settings["dtype"] = str(dtype).removeprefix("torch.")
    if form:
        settings = form(settings)
    (directory / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    print(f"{name}: {sum(f.stat().st_size for f in directory.iterdir())} bytes, {following.tolist()}")


def qwen2(out):
    write_case(
        out, "qwen2-f32-windows-v4", Qwen2ForCausalLM,
        Qwen2Config(**QWEN2, use_sliding_window=True, sliding_window=12, max_window_layers=1, tie_word_embeddings=True,
                    rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        torch.float32, 11, 70, form=lambda it: {k: v for k, v in v4(it).items() if k != "layer_types"})
    write_case(
        out, "qwen2-bf16-yarn", Qwen2ForCausalLM, Qwen2Config(**QWEN2, rope_parameters=dict(YARN, truncate=False)),
        torch.bfloat16, 12, 60)


def gemma3(out):
    ropes = {FULL: dict(rope_type="linear", factor=4.0, rope_theta=5000.0),
             SLIDING: dict(rope_type="default", rope_theta=100.0)}
    write_case(
        out, "gemma3-f32-linear", Gemma3ForCausalLM, Gemma3TextConfig(**GEMMA3, rope_parameters=ropes),
        torch.float32, 13, 50, norm_center=0.0, embedding_gain=0.2)
    types = [SLIDING, FULL, SLIDING, FULL]
    write_case(
        out, "gemma3-bf16-v4", Gemma3ForCausalLM,
        Gemma3TextConfig(**GEMMA3 | dict(num_hidden_layers=4, hidden_size=40, intermediate_size=32, num_key_value_heads=2),
                         layer_types=types, attention_bias=True,
                         rope_parameters={FULL: dict(rope_type="default", rope_theta=5000.0),
                                          SLIDING: dict(rope_type="default", rope_theta=100.0)}),
        torch.bfloat16, 14, 45, norm_center=0.0, embedding_gain=0.2,
        form=lambda it: {k: v for k, v in v4(
            it, rope_theta=5000.0, rope_local_base_freq=100.0, rope_scaling=None, sliding_window_pattern=2).items()
            if k != "layer_types"})


def phi3(out):
    longrope = dict(rope_type="longrope", rope_theta=500.0, partial_rotary_factor=0.75, short_factor=SHORT,
                    long_factor=LONG)
    # transformers computes each prompt by its length: this one, and the half that greedy ids follow, are long.
    write_case(
        out, "phi3-f32-longrope", Phi3ForCausalLM,
        Phi3Config(**PHI3, original_max_position_embeddings=24, rope_parameters=dict(longrope)),
        torch.float32, 15, 70, half=35)
    # These are short, with what follows them.
    write_case(
        out, "phi3-bf16-longrope-short-v4", Phi3ForCausalLM,
        Phi3Config(**PHI3, original_max_position_embeddings=64, sliding_window=24, tie_word_embeddings=True,
                   rope_parameters=dict(longrope)),
        torch.bfloat16, 16, 45, embedding_gain=0.2, form=lambda it: v4(
            it, rope_theta=500.0, partial_rotary_factor=0.75,
            rope_scaling=dict(type="longrope", short_factor=SHORT, long_factor=LONG)))


def olmo3(out):
    ropes = {FULL: dict(YARN), SLIDING: dict(rope_type="default", rope_theta=100.0)}
    write_case(
        out, "olmo3-f32-yarn", Olmo3ForCausalLM, Olmo3Config(**OLMO3, rope_parameters=ropes), torch.float32, 17, 48)
    truncated = dict(YARN, attention_factor=1.2)
    write_case(
        out, "olmo3-bf16-yarn-v4", Olmo3ForCausalLM,
        Olmo3Config(**OLMO3 | dict(hidden_size=30, num_attention_heads=5, num_key_value_heads=5), attention_bias=True,
                    layer_types=[FULL, SLIDING, SLIDING, FULL], tie_word_embeddings=True,
                    rope_parameters={FULL: dict(truncated), SLIDING: dict(rope_type="default", rope_theta=10.0)}),
        torch.bfloat16, 18, 45, embedding_gain=0.2, form=lambda it: v4(
            it, rope_theta=10.0,
            rope_scaling={key: value for key, value in truncated.items() if key != "rope_theta"}))


def granite(out):
    multipliers = dict(embedding_multiplier=3.5, attention_multiplier=0.4, residual_multiplier=0.3, logits_scaling=1.7)
    write_case(
        out, "granite-f32-tied", GraniteForCausalLM,
        GraniteConfig(**SMALL, **multipliers, tie_word_embeddings=True, rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 19, 50, embedding_gain=0.2)
    write_case(
        out, "granite-bf16-bias-v4", GraniteForCausalLM,
        GraniteConfig(**SMALL | dict(head_dim=6), **multipliers, attention_bias=True, mlp_bias=True,
                      rope_parameters=dict(DEFAULT_ROPE, rope_type="linear", factor=2.0)),
        torch.bfloat16, 20, 45, embedding_gain=0.2, form=v4)


def olmo2(out):
    write_case(
        out, "olmo2-f32", Olmo2ForCausalLM, Olmo2Config(**SMALL, rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 21, 50)
    write_case(
        out, "olmo2-bf16-bias-v4", Olmo2ForCausalLM,
        Olmo2Config(**SMALL | dict(num_key_value_heads=1), attention_bias=True, tie_word_embeddings=True,
                    rope_parameters=dict(YARN)),
        torch.bfloat16, 22, 45, embedding_gain=0.2, form=v4)


def gemma(out):
    write_case(
        out, "gemma-f32-tied", GemmaForCausalLM, GemmaConfig(**SMALL, rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 23, 50, norm_center=0.0, embedding_gain=0.2)
    # The published models say `gelu` and mean its approximation.
    write_case(
        out, "gemma-bf16-v4", GemmaForCausalLM,
        GemmaConfig(**SMALL | dict(hidden_size=40, num_key_value_heads=1), rope_parameters=dict(DEFAULT_ROPE)),
        torch.bfloat16, 24, 45, norm_center=0.0, embedding_gain=0.2, form=lambda it: v4(it) | dict(hidden_act="gelu"))


def seed_oss(out):
    write_case(
        out, "seed-oss-f32-bias", SeedOssForCausalLM,
        SeedOssConfig(**SMALL | dict(intermediate_size=34), attention_out_bias=True, mlp_bias=True,
                      rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 25, 50)
    write_case(
        out, "seed-oss-bf16-v4", SeedOssForCausalLM, SeedOssConfig(**SMALL, rope_parameters=dict(DEFAULT_ROPE)),
        torch.bfloat16, 26, 45, form=lambda it: {k: v for k, v in v4(it).items() if k != "attention_bias"})


def ministral(out):
    types = [SLIDING, FULL, SLIDING]
    write_case(
        out, "ministral-f32-windows", MinistralForCausalLM,
        MinistralConfig(**SMALL, sliding_window=8, layer_types=types, rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 27, 50)
    write_case(
        out, "ministral-bf16-v4", MinistralForCausalLM,
        MinistralConfig(**SMALL, sliding_window=12, tie_word_embeddings=True, rope_parameters=dict(LLAMA3_ROPE)),
        torch.bfloat16, 41, 45,
        form=lambda it: {k: v for k, v in v4(it).items() if k != "layer_types"})


def glm(out):
    half, quarter = dict(DEFAULT_ROPE, partial_rotary_factor=0.6), dict(DEFAULT_ROPE, partial_rotary_factor=0.25)
    for seed, name, model_class, config_class in (
            (29, "glm", GlmForCausalLM, GlmConfig), (31, "glm4", Glm4ForCausalLM, Glm4Config)):
        write_case(
            out, f"{name}-f32-partial", model_class, config_class(**SMALL, rope_parameters=dict(half)),
            torch.float32, seed, 50)
        write_case(
            out, f"{name}-bf16-v4", model_class,
            config_class(**SMALL | dict(head_dim=16, num_hidden_layers=2), attention_bias=False,
                         tie_word_embeddings=True, rope_parameters=dict(quarter)),
            torch.bfloat16, seed + 1, 45,
            form=lambda it: v4(it, rope_theta=500.0, partial_rotary_factor=0.25))


def smollm3(out):
    write_case(
        out, "smollm3-f32-windows", SmolLM3ForCausalLM,
        SmolLM3Config(**SMALL | dict(num_hidden_layers=4, intermediate_size=20), no_rope_layer_interval=2,
                      use_sliding_window=True, sliding_window=8, rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 33, 50, embedding_gain=0.2)
    write_case(
        out, "smollm3-bf16-bias-v4", SmolLM3ForCausalLM,
        SmolLM3Config(**SMALL, no_rope_layers=[0, 1, 0], attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
                      rope_parameters=dict(YARN)),
        torch.bfloat16, 43, 45, form=lambda it: {k: v for k, v in v4(it).items() if k != "layer_types"})


def exaone4(out):
    write_case(
        out, "exaone4-f32-windows", Exaone4ForCausalLM,
        Exaone4Config(**SMALL | dict(num_hidden_layers=4, intermediate_size=20), tie_word_embeddings=True,
                      sliding_window=8, sliding_window_pattern=2, rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 35, 50, embedding_gain=0.2)
    write_case(
        out, "exaone4-bf16-v4", Exaone4ForCausalLM,
        Exaone4Config(**SMALL, sliding_window=None, layer_types=[FULL] * 3, tie_word_embeddings=True,
                      rope_parameters=dict(LLAMA3_ROPE)),
        torch.bfloat16, 36, 45, form=lambda it: v4(it) | dict(sliding_window_pattern="LLLG"))


def hunyuan(out):
    alpha = dict(rope_type="dynamic", rope_theta=100.0, alpha=50.0, factor=1.0, beta_fast=32, beta_slow=1, mscale=1.0,
                 mscale_all_dim=1.0)
    write_case(
        out, "hunyuan-f32-alpha", HunYuanDenseV1ForCausalLM, HunYuanDenseV1Config(**SMALL, rope_parameters=dict(alpha)),
        torch.float32, 37, 50)
    write_case(
        out, "hunyuan-bf16-bias-v4", HunYuanDenseV1ForCausalLM,
        HunYuanDenseV1Config(**SMALL | dict(num_key_value_heads=1), attention_bias=True, tie_word_embeddings=True,
                             rope_parameters=dict(DEFAULT_ROPE)),
        torch.bfloat16, 38, 45, embedding_gain=0.2, form=v4)


FAMILIES = (qwen2, gemma3, phi3, olmo3, granite, olmo2, gemma, seed_oss, ministral, glm, smollm3, exaone4, hunyuan)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT
    torch.set_num_threads(1)
    for family in FAMILIES:
        if family.__name__ in sys.argv[2:] or not sys.argv[2:]:
            family(out)


if __name__ == "__main__":
    main()
