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
    Cohere2Config, Cohere2ForCausalLM, Exaone4Config, Exaone4ForCausalLM, Gemma2Config, Gemma2ForCausalLM,
    Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig, GemmaConfig, GemmaForCausalLM, Glm4Config, Glm4ForCausalLM, GlmConfig,
    GlmForCausalLM, GPT2Config, GPT2LMHeadModel, GraniteConfig, GraniteForCausalLM, HunYuanDenseV1Config,
    HunYuanDenseV1ForCausalLM, LlamaConfig, LlamaForCausalLM, Ministral3Config, Ministral3ForCausalLM, MinistralConfig,
    MinistralForCausalLM, Mistral3Config, Mistral3ForConditionalGeneration, MistralConfig, Olmo2Config,
    Olmo2ForCausalLM, Olmo3Config, Olmo3ForCausalLM, Phi3Config, Phi3ForCausalLM, PixtralVisionConfig, Qwen2Config,
    Qwen2ForCausalLM, SeedOssConfig, SeedOssForCausalLM, SiglipVisionConfig, SmolLM3Config, SmolLM3ForCausalLM, Starcoder2Config,
    Starcoder2ForCausalLM)

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


def write_case(out, name, model_class, config, dtype, seed, prompt_length, half=None, form=None, names=None, more=None,
               **gains):
    """`names` makes a name in the file of a name in the model, `more` are tensors beside the model's."""
    model = random_model(model_class, config, dtype, seed, **gains)
    # What is no parameter stays in f32, as `from_pretrained` has it: frequencies of RoPE above all.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    tokens = torch.randint(3, config.get_text_config().vocab_size, (prompt_length,))
    with torch.no_grad():
        logits = model(tokens.unsqueeze(0), use_cache=False).logits[0].float()
        following = greedy(model, tokens[:half or prompt_length // 2])
    directory = out / name
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del weights[HEAD]
    if names:
        weights = {names(key): value for key, value in weights.items()}
    weights |= more or {}
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


def on_hub(name):
    """The name on the Hub of a tensor of a model with images."""
    for ours, theirs in (("model.language_model.", "language_model.model."), ("model.", ""),
                         ("lm_head.", "language_model.lm_head.")):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def gemma3_images(out):
    tower = SiglipVisionConfig(
        hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
    outer = dict(vision_config=tower, mm_tokens_per_image=1, image_token_index=3, tie_word_embeddings=True)
    text = GEMMA3 | dict(num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=4, head_dim=6)
    ropes = {FULL: dict(rope_type="linear", factor=4.0, rope_theta=5000.0),
             SLIDING: dict(rope_type="default", rope_theta=100.0)}

    def hub_form(settings):
        # What the class has anyway is left out, as on the Hub.
        absent = ("num_attention_heads", "num_key_value_heads", "max_position_embeddings", "layer_types",
                  "tie_word_embeddings")
        text = v4(settings["text_config"] | dict(dtype=settings["dtype"]), rope_theta=5000.0, rope_local_base_freq=100.0,
                  rope_scaling=dict(rope_type="linear", factor=4.0), sliding_window_pattern=2)
        text = {key: value for key, value in text.items() if key not in absent}
        del settings["tie_word_embeddings"]
        return settings | dict(text_config=text, torch_dtype=settings.pop("dtype"))

    types = [SLIDING, FULL, SLIDING]
    write_case(
        out, "gemma3-f32-images-v4", Gemma3ForConditionalGeneration,
        Gemma3Config(**outer, text_config=Gemma3TextConfig(**text | dict(max_position_embeddings=131072),
                                                           layer_types=types, rope_parameters=ropes)),
        torch.float32, 61, 50, form=hub_form, names=on_hub, norm_center=0.0, embedding_gain=0.2)
    write_case(
        out, "gemma3-bf16-images", Gemma3ForConditionalGeneration,
        Gemma3Config(**outer, text_config=Gemma3TextConfig(**text, rope_parameters=ropes)),
        torch.bfloat16, 66, 45, norm_center=0.0, embedding_gain=0.2)


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


def ministral3(out):
    grown = dict(YARN, original_max_position_embeddings=16, llama_4_scaling_beta=0.4, mscale=1.0, mscale_all_dim=1.0)
    write_case(
        out, "ministral3-f32-yarn", Ministral3ForCausalLM,
        Ministral3Config(**SMALL | dict(intermediate_size=34), rope_parameters=dict(grown)), torch.float32, 44, 70)
    write_case(
        out, "ministral3-bf16-window", Ministral3ForCausalLM,
        Ministral3Config(**SMALL | dict(num_hidden_layers=2), sliding_window=12, tie_word_embeddings=True,
                         rope_parameters=dict(grown, llama_4_scaling_beta=0.1, original_max_position_embeddings=20)),
        torch.bfloat16, 65, 45, embedding_gain=0.2)


def mistral3(out):
    tower = PixtralVisionConfig(
        hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
    outer = dict(vision_config=tower, image_token_index=3, spatial_merge_size=2)

    def hub_form(settings):
        text = v4(settings["text_config"] | dict(dtype=settings["dtype"]))
        del settings["tie_word_embeddings"], text["tie_word_embeddings"]
        return settings | dict(text_config=text, torch_dtype=settings.pop("dtype"))

    write_case(
        out, "mistral3-f32-images-v4", Mistral3ForConditionalGeneration,
        Mistral3Config(**outer, tie_word_embeddings=False,
                       text_config=MistralConfig(**SMALL | dict(intermediate_size=20), sliding_window=None,
                                                 rope_parameters=dict(DEFAULT_ROPE))),
        torch.float32, 46, 50, form=hub_form, names=on_hub)
    grown = dict(YARN, original_max_position_embeddings=20, attention_factor=1.0, llama_4_scaling_beta=0.1)
    write_case(
        out, "mistral3-bf16-ministral3", Mistral3ForConditionalGeneration,
        Mistral3Config(**outer, text_config=Ministral3Config(**SMALL, tie_word_embeddings=True, rope_parameters=grown)),
        torch.bfloat16, 59, 45, embedding_gain=0.2)


def llama(out):
    rope = dict(rope_type="dynamic", rope_theta=100.0, factor=3.0)
    # The base is that of a context of as many tokens as the prompt has, also for what follows its half: the longest
    # length that the module has seen counts.
    write_case(
        out, "llama-f32-dynamic", LlamaForCausalLM,
        LlamaConfig(**SMALL | dict(max_position_embeddings=24, intermediate_size=34), rope_parameters=dict(rope)),
        torch.float32, 48, 70)
    # This one is short.
    write_case(
        out, "llama-bf16-dynamic-short-v4", LlamaForCausalLM,
        LlamaConfig(**SMALL | dict(max_position_embeddings=64), rope_parameters=dict(rope)), torch.bfloat16, 49, 45,
        form=lambda it: v4(it, rope_theta=100.0, rope_scaling=dict(type="dynamic", factor=3.0)))


COHERE2 = {key: value for key, value in SMALL.items() if key != "head_dim"}


def cohere2(out):
    write_case(
        out, "cohere2-f32-windows", Cohere2ForCausalLM,
        Cohere2Config(**COHERE2 | dict(num_hidden_layers=4), logit_scale=0.3, sliding_window=8,
                      layer_types=[SLIDING, FULL, SLIDING, FULL], rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 50, 50, embedding_gain=0.5)
    write_case(
        out, "cohere2-bf16-bias-v4", Cohere2ForCausalLM,
        Cohere2Config(**COHERE2 | dict(hidden_size=40, num_key_value_heads=1), logit_scale=0.6, sliding_window=12,
                      attention_bias=True, sliding_window_pattern=2, rope_parameters=dict(DEFAULT_ROPE)),
        torch.bfloat16, 51, 45, embedding_gain=0.2,
        form=lambda it: {k: v for k, v in v4(it).items() if k != "layer_types"} | dict(sliding_window_pattern=2))


def starcoder2(out):
    write_case(
        out, "starcoder2-f32-window", Starcoder2ForCausalLM,
        Starcoder2Config(**COHERE2, sliding_window=12, rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 52, 50, embedding_gain=0.5)
    write_case(
        out, "starcoder2-bf16-v4", Starcoder2ForCausalLM,
        Starcoder2Config(**COHERE2 | dict(hidden_size=40, num_key_value_heads=1), use_bias=False,
                         tie_word_embeddings=False, rope_parameters=dict(DEFAULT_ROPE)),
        torch.bfloat16, 53, 45, form=v4)


GPT2 = dict(vocab_size=67, n_embd=24, n_layer=3, n_head=4, n_positions=64, eos_token_id=2, bos_token_id=2)


def gpt2(out):
    write_case(out, "gpt2-f32-inner", GPT2LMHeadModel, GPT2Config(**GPT2, n_inner=50), torch.float32, 54, 50)
    # The published files have names without a prefix, and masks.
    mask = torch.ones(64, 64).tril().view(1, 1, 64, 64)
    write_case(
        out, "gpt2-bf16-v4", GPT2LMHeadModel, GPT2Config(**GPT2 | dict(n_layer=2)), torch.bfloat16, 55, 45,
        form=lambda it: it | dict(torch_dtype=it.pop("dtype")), names=lambda it: it.removeprefix("transformer."),
        more={"h.0.attn.bias": mask})


def gemma2(out):
    # Other implementations of attention than this one ignore the bound of scores.
    bounds = dict(attn_logit_softcapping=1.5, final_logit_softcapping=8.0, attn_implementation="eager")
    write_case(
        out, "gemma2-f32-windows", Gemma2ForCausalLM,
        Gemma2Config(**SMALL | dict(intermediate_size=34), **bounds, sliding_window=8, query_pre_attn_scalar=7,
                     rope_parameters=dict(DEFAULT_ROPE)),
        torch.float32, 62, 50, norm_center=0.0, embedding_gain=0.2)
    write_case(
        out, "gemma2-bf16-v4", Gemma2ForCausalLM,
        Gemma2Config(**SMALL | dict(hidden_size=40, num_key_value_heads=1), **bounds, sliding_window=12,
                     rope_parameters=dict(DEFAULT_ROPE)),
        torch.bfloat16, 66, 45, norm_center=0.0, embedding_gain=0.2,
        form=lambda it: {k: v for k, v in v4(it).items() if k != "layer_types"})


FAMILIES = (qwen2, gemma3, gemma3_images, phi3, olmo3, granite, olmo2, gemma, seed_oss, ministral, glm, smollm3, exaone4, hunyuan,
            ministral3, mistral3, llama, cohere2, starcoder2, gpt2, gemma2)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT
    torch.set_num_threads(1)
    for family in FAMILIES:
        if family.__name__ in sys.argv[2:] or not sys.argv[2:]:
            family(out)


if __name__ == "__main__":
    main()
