//! What goes wrong with a model's files, each fault done to a copy of a fixture.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::starts::{WEIGHTS, edit_config, edit_weights};

pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const GENERATION: &str = "generation_config.json";
pub(crate) const SHARD: &str = "model-00002-of-00003.safetensors";
pub(crate) const LFS: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n";
pub(crate) const PLAIN: &str = "qwen3-f32-tied";
pub(crate) const UNTIED: &str = "qwen3-bf16-untied-bias-v4";
pub(crate) const SHARDED: &str = "llama-f32-sharded";

/// What is done to a copy of a fixture.
pub(crate) type Fault = Box<dyn Fn(&Path)>;

fn write(file: &'static str, content: impl AsRef<[u8]> + 'static) -> Fault {
    Box::new(move |directory| fs::write(directory.join(file), &content).unwrap())
}

fn remove(file: &'static str) -> Fault {
    Box::new(move |directory| fs::remove_file(directory.join(file)).unwrap())
}

fn rename(from: &'static str, to: &'static str) -> Fault {
    Box::new(move |directory| fs::rename(directory.join(from), directory.join(to)).unwrap())
}

fn truncate(file: &'static str, len: usize) -> Fault {
    Box::new(move |directory| {
        let whole = fs::read(directory.join(file)).unwrap();
        fs::write(directory.join(file), &whole[..len]).unwrap();
    })
}

/// `config.json` as text with one piece of it replaced.
fn replace(from: &'static str, to: &'static str) -> Fault {
    Box::new(move |directory| {
        let path = directory.join(CONFIG);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    })
}

fn config(patch: Value) -> Fault {
    Box::new(move |directory| edit_config(directory, patch.clone()))
}

fn add(name: &'static str, shape: &'static [usize]) -> Fault {
    Box::new(move |directory| add_tensor(directory, name, shape))
}

pub(crate) fn add_tensor(directory: &Path, name: &str, shape: &[usize]) {
    edit_weights(directory, |tensors| {
        let tensor = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        tensors.insert(name.to_owned(), tensor);
    });
}

fn take_away(name: &'static str) -> Fault {
    Box::new(move |directory| {
        edit_weights(directory, |tensors| drop(tensors.remove(name).unwrap()))
    })
}

fn convert(name: &'static str, dtype: DType) -> Fault {
    Box::new(move |directory| {
        edit_weights(directory, |tensors| {
            let converted = tensors[name].to_dtype(dtype).unwrap();
            tensors.insert(name.to_owned(), converted);
        });
    })
}

/// The index with the files of some tensors replaced.
fn map(tensor: &'static str, file: &'static str) -> Fault {
    Box::new(move |directory| {
        let path = directory.join(INDEX);
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        index["weight_map"][tensor] = file.into();
        fs::write(path, index.to_string()).unwrap();
    })
}

fn all(faults: Vec<Fault>) -> Fault {
    Box::new(move |directory| faults.iter().for_each(|fault| fault(directory)))
}

pub(crate) const Q: &str = "model.layers.0.self_attn.q_proj.weight";

pub(crate) fn text_faults() -> Vec<(&'static str, &'static str, Fault)> {
    vec![
        ("config: empty", PLAIN, write(CONFIG, " \n")),
        ("config: LFS pointer", PLAIN, write(CONFIG, LFS)),
        (
            "config: web page",
            PLAIN,
            write(CONFIG, "<!DOCTYPE html><html>404</html>"),
        ),
        ("config: UTF-16", PLAIN, write(CONFIG, b"\xff\xfe{\0}\0")),
        (
            "config: not UTF-8",
            PLAIN,
            write(CONFIG, b"{\"a\": \"\xe4\"}"),
        ),
        ("config: trailing comma", PLAIN, replace("\n}", ",\n}")),
        (
            "config: comment",
            PLAIN,
            replace("{", "{ // made by hand\n"),
        ),
        ("config: cut", PLAIN, truncate(CONFIG, 100)),
        ("config: a list", PLAIN, write(CONFIG, "[1]")),
        (
            "config: NaN that is used",
            PLAIN,
            replace("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": NaN"),
        ),
        (
            "config: Infinity that is used",
            PLAIN,
            replace("\"hidden_size\": 40", "\"hidden_size\": Infinity"),
        ),
        (
            "config: lacks a setting",
            PLAIN,
            config(json!({"hidden_size": null})),
        ),
        (
            "config: text for a number",
            PLAIN,
            config(json!({"vocab_size": "512"})),
        ),
        (
            "config: unknown class",
            PLAIN,
            config(json!({"architectures": ["PhiForCausalLM"]})),
        ),
        (
            "config: unknown type",
            PLAIN,
            config(json!({"model_type": "mpt"})),
        ),
        (
            "config: not supported",
            PLAIN,
            config(json!({"quantization_config": {"bits": 4}})),
        ),
        ("generation: LFS pointer", PLAIN, write(GENERATION, LFS)),
        ("generation: cut", PLAIN, write(GENERATION, "{\"top_p\": ")),
        ("generation: a list", PLAIN, write(GENERATION, "[]")),
        (
            "generation: text for a number",
            PLAIN,
            write(GENERATION, "{\"top_p\": \"0.9\"}"),
        ),
        (
            "generation: NaN that is used",
            PLAIN,
            write(GENERATION, "{\"temperature\": NaN}"),
        ),
        (
            "generation: top_k",
            PLAIN,
            write(GENERATION, "{\"top_k\": -2}"),
        ),
        (
            "generation: penalty of greedy",
            PLAIN,
            write(
                GENERATION,
                "{\"do_sample\": false, \"repetition_penalty\": \"1\"}",
            ),
        ),
        (
            "generation: do_sample",
            PLAIN,
            write(GENERATION, "{\"do_sample\": \"no\"}"),
        ),
        (
            "generation: eos",
            PLAIN,
            write(GENERATION, "{\"eos_token_id\": \"</s>\"}"),
        ),
        (
            "config: eos",
            PLAIN,
            config(json!({"eos_token_id": "</s>"})),
        ),
    ]
}

pub(crate) fn file_faults() -> Vec<(&'static str, &'static str, Fault)> {
    vec![
        (
            "no files but an adapter",
            PLAIN,
            all(vec![
                remove(CONFIG),
                rename(WEIGHTS, "adapter_model.safetensors"),
            ]),
        ),
        (
            "no files but GGUF",
            PLAIN,
            all(vec![remove(CONFIG), rename(WEIGHTS, "model-Q4_K_M.gguf")]),
        ),
        ("only .bin", PLAIN, rename(WEIGHTS, "pytorch_model.bin")),
        ("only .gguf", PLAIN, rename(WEIGHTS, "model-Q4_K_M.gguf")),
        (
            "only consolidated",
            PLAIN,
            rename(WEIGHTS, "consolidated.safetensors"),
        ),
        ("another name", PLAIN, rename(WEIGHTS, "tiny.safetensors")),
        ("shards without index", SHARDED, remove(INDEX)),
        ("weights: empty", PLAIN, write(WEIGHTS, "")),
        ("weights: LFS pointer", PLAIN, write(WEIGHTS, LFS)),
        (
            "weights: web page",
            PLAIN,
            write(WEIGHTS, "<html>Too many requests</html>"),
        ),
        (
            "weights: zip",
            PLAIN,
            write(WEIGHTS, b"PK\x03\x04 and so on and on"),
        ),
        (
            "weights: pickle",
            PLAIN,
            write(WEIGHTS, b"\x80\x02}q\x00X and so on"),
        ),
        (
            "weights: GGUF",
            PLAIN,
            write(WEIGHTS, b"GGUF\x03\0\0\0\0\0\0\0"),
        ),
        ("weights: noise", PLAIN, write(WEIGHTS, [0x5a; 64])),
        ("weights: cut in the header", PLAIN, truncate(WEIGHTS, 100)),
        (
            "weights: cut in the tensors",
            PLAIN,
            truncate(WEIGHTS, 20_000),
        ),
        ("shard: cut", SHARDED, truncate(SHARD, 9_000)),
        ("shard: LFS pointer", SHARDED, write(SHARD, LFS)),
        ("shard: missing", SHARDED, remove(SHARD)),
        (
            "shard: missing, single file",
            SHARDED,
            all(vec![remove(SHARD), write(WEIGHTS, "x")]),
        ),
        ("index: LFS pointer", SHARDED, write(INDEX, LFS)),
        ("index: cut", SHARDED, truncate(INDEX, 100)),
        ("index: no map", SHARDED, write(INDEX, "{\"metadata\": {}}")),
        (
            "index: number for a file",
            SHARDED,
            write(INDEX, "{\"weight_map\": {\"a\": 1}}"),
        ),
        (
            "index: leads elsewhere",
            SHARDED,
            map("a", "../a.safetensors"),
        ),
        (
            "index: names a shard that is missing",
            SHARDED,
            map("a", "model-00004-of-00004.safetensors"),
        ),
    ]
}

pub(crate) fn tensor_faults() -> Vec<(&'static str, &'static str, Fault)> {
    vec![
        ("F64", PLAIN, convert(Q, DType::F64)),
        ("U8", PLAIN, convert(Q, DType::U8)),
        ("no lm_head", UNTIED, take_away("lm_head.weight")),
        (
            "no embedding",
            UNTIED,
            take_away("model.embed_tokens.weight"),
        ),
        (
            "tied, neither",
            PLAIN,
            take_away("model.embed_tokens.weight"),
        ),
        ("missing norm", PLAIN, take_away("model.norm.weight")),
        (
            "missing from its shard",
            SHARDED,
            Box::new(|directory| {
                let path = directory.join(SHARD);
                let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
                let first = tensors.keys().min().unwrap().clone();
                tensors.remove(&first);
                candle_core::safetensors::save(&tensors, path).unwrap();
            }),
        ),
        (
            "twice",
            SHARDED,
            Box::new(|directory| {
                fs::copy(
                    directory.join("model-00001-of-00003.safetensors"),
                    directory.join(SHARD),
                )
                .unwrap();
            }),
        ),
        ("vocab_size", PLAIN, config(json!({"vocab_size": 500}))),
        (
            "num_key_value_heads",
            PLAIN,
            config(json!({"num_key_value_heads": 4})),
        ),
        (
            "more layers",
            PLAIN,
            config(json!({"num_hidden_layers": 1})),
        ),
        (
            "fewer layers",
            PLAIN,
            config(json!({"num_hidden_layers": 3})),
        ),
        (
            "bias of a projection",
            PLAIN,
            add("model.layers.0.self_attn.q_proj.bias", &[96]),
        ),
        ("bias of the head", PLAIN, add("lm_head.bias", &[512])),
        (
            "bias of the last norm",
            PLAIN,
            add("model.norm.bias", &[40]),
        ),
        (
            "bias of attention",
            PLAIN,
            add("model.layers.0.self_attn.bias", &[40]),
        ),
        ("sinks", PLAIN, add("model.layers.1.self_attn.sinks", &[4])),
        ("unknown module", PLAIN, add("extra.weight", &[4])),
        (
            "LoRA",
            PLAIN,
            add(
                "model.layers.0.self_attn.q_proj.lora_A.default.weight",
                &[4, 40],
            ),
        ),
        (
            "PEFT",
            PLAIN,
            add("base_model.model.model.norm.weight", &[40]),
        ),
        (
            "GPTQ",
            PLAIN,
            all(vec![
                take_away(Q),
                add("model.layers.0.self_attn.q_proj.qweight", &[5, 96]),
                add("model.layers.0.self_attn.q_proj.scales", &[1, 96]),
            ]),
        ),
        (
            "MLX",
            PLAIN,
            add("model.layers.0.self_attn.q_proj.scales", &[96, 1]),
        ),
        (
            "compressed-tensors",
            PLAIN,
            add("model.layers.0.self_attn.q_proj.weight_scale", &[96, 1]),
        ),
        (
            "FP8 blocks",
            PLAIN,
            add("model.layers.0.mlp.up_proj.weight_scale_inv", &[1, 1]),
        ),
        (
            "bitsandbytes",
            PLAIN,
            add("model.layers.0.mlp.up_proj.weight.absmax", &[4]),
        ),
        (
            "experts",
            PLAIN,
            add("model.layers.0.mlp.experts.0.up_proj.weight", &[4, 40]),
        ),
        ("compiled", PLAIN, add("_orig_mod.model.norm.weight", &[40])),
        (
            "vision",
            PLAIN,
            add("model.visual.patch_embed.weight", &[40]),
        ),
        ("reward model", PLAIN, add("score.weight", &[1, 40])),
        (
            "authors' layout",
            PLAIN,
            add("tok_embeddings.weight", &[512, 40]),
        ),
        ("base class", PLAIN, add("embed_tokens.weight", &[512, 40])),
    ]
}
