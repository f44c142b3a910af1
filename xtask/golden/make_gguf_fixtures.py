#!/usr/bin/env python3
"""Write fixtures of other formats as GGUF files: what llama.cpp's converter makes of the same models.

usage: make_gguf_fixtures.py [FIXTURES]      (default: crates/maitre-model/tests/fixtures)
needs: gguf 0.19.0, numpy

`FIXTURES/gguf/NAME.gguf` has the weights of `FIXTURES/NAME`, whose expected logits are its own. The names of tensors are
those of gguf-py's map, the bytes of the file its writer's. What the converter does to each family is done here again
(`conversion/*.py` of llama.cpp): rows of queries and keys of Llama and its kin in pairs, 1 added to Gemma's norms, scalings of RoPE
as settings or tensors. Vectors are always F32 there, matrices keep their type.
"""
import json
import math
import pathlib
import struct
import sys

import gguf
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "crates/maitre-model/tests/fixtures"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Fixtures, and changes of their configurations: what a file can't say is what it says by saying nothing.
CASES = {
    "cohere2-f32-windows": dict(layer_types=None, sliding_window_pattern=4),
    "exaone4-f32-windows": {},
    "gemma-bf16-v4": {},
    "gemma2-f32-windows": dict(query_pre_attn_scalar=10),
    "gemma3-f32-linear": dict(query_pre_attn_scalar=12),
    "glm4-bf16-v4": {},
    "gpt2-bf16-v4": {},
    "granite-bf16-bias-v4": {},
    "hunyuan-f32-alpha": {},
    "llama-bf16-llama3-tied-as-head": {},
    "ministral3-f32-yarn": {},
    "mistral3-f32-images-v4": {},
    "olmo2-f32": {},
    "olmo3-bf16-yarn-v4": {},
    "olmo3-f32-yarn": {},
    "phi3-bf16-longrope-short-v4": {},
    "phi3-f32-longrope": {},
    "qwen2-bf16-yarn": {},
    "seed-oss-f32-bias": {},
    "smollm3-bf16-bias-v4": dict(no_rope_layer_interval=4),
    "starcoder2-f32-window": dict(sliding_window=None),
}
ARCHITECTURES = dict(
    cohere2="cohere2", exaone4="exaone4", gemma="gemma", gemma2="gemma2", gemma3_text="gemma3", glm4="glm4", gpt2="gpt2",
    granite="granite", hunyuan_v1_dense="hunyuan-dense", llama="llama", ministral3="mistral3", mistral="mistral3",
    olmo2="olmo2", olmo3="olmo2", phi3="phi3", qwen2="qwen2", seed_oss="seed_oss", smollm3="smollm3",
    starcoder2="starcoder2")
# Those that the converter takes for kinds of Llama.
LIKE_LLAMA = ("granite", "llama", "mistral3", "smollm3")
# The names of sizes in transformers and in GPT-2.
SIZES = dict(
    hidden_size="n_embd", num_hidden_layers="n_layer", num_attention_heads="n_head", max_position_embeddings="n_positions")
TRANSPOSED = ("c_attn.weight", "attn.c_proj.weight", "c_fc.weight", "mlp.c_proj.weight")


def read_safetensors(path):
    """Arrays by name; bf16 as bits in 16-bit integers."""
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    kinds = dict(F32="<f4", F16="<f2", BF16="<u2")
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            array = numpy.frombuffer(data[8 + length + begin:8 + length + end], kinds[entry["dtype"]])
            arrays[name] = array.reshape(entry["shape"])
    return arrays


def widened(array):
    if array.dtype == numpy.uint16:
        return (array.astype(numpy.uint32) << 16).view(numpy.float32)
    return array.astype(numpy.float32)


def add_tensor(writer, name, array):
    if array.ndim == 1:
        writer.add_tensor(name, widened(array))
    elif array.dtype == numpy.uint16:
        writer.add_tensor(name, array.view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, array)


def in_pairs(array, heads):
    """Rows of a head's halves by turns, as `LlamaModel.permute` has them."""
    return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def rope_of(config):
    """The settings of RoPE for layers without a window, and the base of those with one."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    windowed = None
    if "full_attention" in rope:
        windowed = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    rope.setdefault("rope_type", rope.get("type", "default"))
    for key in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
        if key in config:
            rope[key] = config[key]
    return rope, windowed


def add_sizes(writer, config):
    heads = config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(heads)
    if "num_key_value_heads" in config:
        writer.add_head_count_kv(config["num_key_value_heads"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    for key in ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"):
        if key in config:
            writer.add_layer_norm_eps(config[key])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def add_rope(writer, rope, windowed, head_dim):
    """As `TextModel.set_gguf_parameters`, and `HunYuanModel` where the base is made larger."""
    if rope["rope_type"] == "dynamic":
        rope["rope_theta"] *= rope["alpha"] ** (head_dim / (head_dim - 2))
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        writer.add_rope_scaling_factor(1)
    writer.add_rope_freq_base(rope["rope_theta"])
    if windowed is not None:
        writer.add_rope_freq_base_swa(windowed)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "attention_factor" in rope:
            writer.add_rope_scaling_yarn_attn_factor(rope["attention_factor"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def llama3_factors(rope, dims):
    """As `LlamaModel.generate_extra_tensors`: what each frequency is divided by."""
    context, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for pair in range(dims // 2):
        turns = context * rope["rope_theta"] ** (-2 * pair / dims) / (2 * math.pi)
        smooth = min(max((turns - low) / (high - low), 0), 1)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return numpy.array(factors, numpy.float32)


def convert(source, path, changes):
    config = json.loads((source / "config.json").read_text())
    config = config.get("text_config", config) | changes
    if config["model_type"] == "gpt2":
        config |= {ours: config[theirs] for ours, theirs in SIZES.items()}
        config["intermediate_size"] = 4 * config["hidden_size"]
    rope, windowed = rope_of(config)
    arch = ARCHITECTURES[config["model_type"]]
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer = gguf.GGUFWriter(path, arch)
    add_sizes(writer, config)
    extra = {}
    if arch == "phi3":
        writer.add_rope_freq_base(rope["rope_theta"])
        original, dims = rope["original_max_position_embeddings"], int(rope["partial_rotary_factor"] * head_dim)
        scale = config["max_position_embeddings"] / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_dimension_count(dims)
        writer.add_sliding_window(config.get("sliding_window") or 0)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        for kind in ("long", "short"):
            extra[f"rope_factors_{kind}.weight"] = numpy.array(rope[f"{kind}_factor"], numpy.float32)
    elif arch != "gpt2":
        add_rope(writer, rope, windowed, head_dim)
        if "head_dim" in config:
            writer.add_key_length(head_dim)
            writer.add_value_length(head_dim)
    if arch in LIKE_LLAMA:
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(head_dim)
        if rope["rope_type"] == "llama3":
            extra["rope_freqs.weight"] = llama3_factors(rope, head_dim)
    if arch == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if config["model_type"] == "ministral3":
        writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
    if arch == "cohere2":
        writer.add_logit_scale(config["logit_scale"])
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    if arch == "glm4":
        writer.add_rope_dimension_count(int(head_dim * rope["partial_rotary_factor"]))
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch in ("exaone4", "gemma2", "gemma3", "olmo2") and "sliding_window" in config:
        writer.add_sliding_window(config["sliding_window"])
    if arch in ("exaone4", "olmo2") and "sliding_window" in config:
        layers = config["num_hidden_layers"]
        types = config.get("layer_types")
        writer.add_sliding_window_pattern(
            [kind == "sliding_attention" for kind in types] if types else [(it + 1) % 4 != 0 for it in range(layers)])
    for name, array in extra.items():
        writer.add_tensor(name, array)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper().replace("-", "_")], config["num_hidden_layers"])
    weights = read_safetensors(source / "model.safetensors")
    if HEAD in weights and EMBEDDING not in weights:
        # Tied, and stored as the other.
        weights[EMBEDDING] = weights.pop(HEAD)
    for name, array in weights.items():
        if name.startswith(("vision_tower.", "multi_modal_projector.")) or name.endswith(".attn.bias"):
            continue
        name = name.removeprefix("language_model.")
        if arch == "gpt2" and name.endswith(TRANSPOSED):
            array = numpy.ascontiguousarray(array.T)
        if arch in LIKE_LLAMA and name.rsplit(".", 1)[0].endswith(("q_proj", "k_proj")):
            array = in_pairs(array, heads if "q_proj" in name else kv_heads)
        if arch in ("gemma", "gemma2", "gemma3") and name.endswith("norm.weight"):
            array = widened(array) + numpy.float32(1)
        add_tensor(writer, names.get_name(name, try_suffixes=(".weight", ".bias")), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{path.name}: {path.stat().st_size} bytes")


def main():
    fixtures = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    out = fixtures / "gguf"
    out.mkdir(exist_ok=True)
    for name, changes in CASES.items():
        convert(fixtures / name, out / f"{name}.gguf", changes)


if __name__ == "__main__":
    main()
