//! Models in GGUF files: those of the Hub's layout, converted as llama.cpp converts them, give the bits of the original.

#[path = "../../../maitre-gguf/tests/writer/mod.rs"]
pub(crate) mod writer;

use std::fs;
use std::path::Path;

use maitre_model::{LoadOptions, Model, ModelConfig, ModelSource};
use maitre_tensor::Backend;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;
use writer::{Writer, text};

use crate::starts::{copy, edit_config};
use crate::support::{fixture, prefill, runner};

/// What a module is called in a GGUF file, in the order of their being looked for.
const MODULES: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Rows of a matrix as the converter of Llama writes them: those of a head's halves take turns.
fn interleaved(bytes: &[u8], rows: usize, head_dim: usize) -> Vec<u8> {
    let row = bytes.len() / rows;
    let mut out = Vec::new();
    for head in 0..rows / head_dim {
        for pair in 0..head_dim / 2 {
            for half in 0..2 {
                let from = head * head_dim + half * head_dim / 2 + pair;
                out.extend_from_slice(&bytes[from * row..][..row]);
            }
        }
    }
    out
}

/// A fixture of one weight file as a GGUF file in the making.
fn converted(name: &str) -> Writer {
    converted_as(name, |tensors| tensors)
}

/// A tensor to be written: its name, sizes from the outermost, its kind and bytes.
type Tensor = (String, Vec<usize>, u32, Vec<u8>);

/// The same, with other tensors than the converter writes.
fn converted_as(name: &str, change: impl Fn(Vec<Tensor>) -> Vec<Tensor>) -> Writer {
    let read = |file: &str| fs::read(fixture(name).join(file)).unwrap();
    let config: Value = serde_json::from_slice(&read("config.json")).unwrap();
    let arch = match config["model_type"].as_str().unwrap() {
        "mistral" => "llama",
        arch => arch,
    };
    let count = |key: &str| config[key].as_u64();
    let heads = count("num_attention_heads").unwrap();
    let head_dim = count("head_dim").unwrap_or_else(|| count("hidden_size").unwrap() / heads);
    let mut writer = Writer::new(32);
    writer.set("general.architecture", 8, &text(arch));
    let mut set = |key: &str, setting: &str| {
        let value = match setting {
            "head_dim" => head_dim,
            setting => count(setting).unwrap(),
        };
        writer.set(&format!("{arch}.{key}"), 4, &(value as u32).to_le_bytes());
    };
    for (key, setting) in [
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("block_count", "num_hidden_layers"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("rope.dimension_count", "head_dim"),
        ("context_length", "max_position_embeddings"),
    ] {
        set(key, setting);
    }
    let theta = match &config["rope_theta"] {
        Value::Null => &config["rope_parameters"]["rope_theta"],
        theta => theta,
    };
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", &config["rms_norm_eps"]),
        ("rope.freq_base", theta),
    ] {
        let value = value.as_f64().unwrap() as f32;
        writer.set(&format!("{arch}.{key}"), 6, &value.to_le_bytes());
    }
    let weights = read("model.safetensors");
    let tensors = SafeTensors::deserialize(&weights).unwrap();
    let mut written = Vec::new();
    for (name, tensor) in tensors.tensors() {
        let renamed = match name.as_str() {
            "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
            "lm_head.weight" => "output.weight".to_owned(),
            "model.norm.weight" => "output_norm.weight".to_owned(),
            name => MODULES.iter().fold(
                name.replace("model.layers", "blk"),
                |name, (there, here)| name.replace(there, here),
            ),
        };
        let shape = tensor.shape();
        let is_turned =
            arch == "llama" && (renamed.contains("attn_q") || renamed.contains("attn_k"));
        let bytes = match is_turned {
            true => interleaved(tensor.data(), shape[0], head_dim as usize),
            false => tensor.data().to_vec(),
        };
        let kind = match tensor.dtype() {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            other => panic!("{other:?}"),
        };
        written.push((renamed, shape.to_vec(), kind, bytes));
    }
    for (name, shape, kind, bytes) in change(written) {
        let sizes: Vec<u64> = shape.iter().rev().map(|size| *size as u64).collect();
        writer.tensor(&name, &sizes, kind, &bytes);
    }
    writer
}

pub(crate) fn written(writer: &Writer) -> (TempDir, ModelSource) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    fs::write(&path, writer.file()).unwrap();
    (directory, ModelSource::Gguf(path))
}

fn logits(source: &ModelSource) -> Vec<Vec<f32>> {
    let mut runner = runner(source, &LoadOptions::default(), 2);
    let tokens: Vec<u32> = (0..40).map(|it| it * 7 % 60).collect();
    prefill(&mut runner, &tokens, 16)
}

#[test]
fn a_converted_model_has_the_bits_of_the_original() {
    for name in ["llama-f16-untied", "qwen3-f32-tied"] {
        let original = ModelSource::Directory(fixture(name));
        let (_kept, file) = written(&converted(name));
        let (mine, its) = (
            ModelConfig::load(&file).unwrap(),
            ModelConfig::load(&original).unwrap(),
        );
        assert_eq!((mine.ropes, mine.layers), (its.ropes, its.layers), "{name}");
        assert_eq!(logits(&file), logits(&original), "{name}");
    }
}

/// Queries, keys and values of each layer below each other in one tensor.
fn fused(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let find = |name: &str| tensors.iter().find(|tensor| tensor.0 == name).cloned();
    let mut out = Vec::new();
    for tensor in &tensors {
        if tensor.0.contains("attn_k.") || tensor.0.contains("attn_v.") {
            continue;
        }
        let mut tensor = tensor.clone();
        if tensor.0.contains("attn_q.") {
            for other in ["attn_k.", "attn_v."] {
                let (_, shape, _, bytes) = find(&tensor.0.replace("attn_q.", other)).unwrap();
                tensor.1[0] += shape[0];
                tensor.3.extend(bytes);
            }
            tensor.0 = tensor.0.replace("attn_q.", "attn_qkv.");
        }
        out.push(tensor);
    }
    out
}

#[test]
fn fused_projections_come_apart() {
    for name in ["llama-f16-untied", "llama-f32-llama3-bias-v4"] {
        let (_kept, apart) = written(&converted(name));
        let (_kept_too, together) = written(&converted_as(name, fused));
        assert_eq!(logits(&together), logits(&apart), "{name}");
    }
}

/// What the converter calls `llama` is Mistral where it has a window.
#[test]
fn a_window_makes_a_llama_a_mistral() {
    let name = "mistral-f32-window";
    let mut writer = converted(name);
    writer.set("llama.attention.sliding_window", 4, &24_u32.to_le_bytes());
    let (_kept, file) = written(&writer);
    let original = ModelSource::Directory(fixture(name));
    assert_eq!(logits(&file), logits(&original));
    // Without one it is another model.
    let (_kept, file) = written(&converted(name));
    assert_ne!(logits(&file), logits(&original));
}

/// Biases of all projections: those of queries and keys lie in pairs, as their rows do.
#[test]
fn biases_are_found_and_turned() {
    let name = "llama-f32-llama3-bias-v4";
    let (_kept, file) = written(&converted(name));
    let original = copy(name);
    edit_config(original.path(), json!({"rope_scaling": null}));
    let original = ModelSource::Directory(original.path().to_owned());
    assert_eq!(logits(&file), logits(&original));
}

/// The message of a model that is not loaded.
fn refused(writer: &Writer) -> String {
    let (_kept, file) = written(writer);
    match Model::load(&file, &LoadOptions::default(), &Backend::cpu(1).unwrap()) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_file_that_is_no_model_says_why() {
    type Change = fn(&mut Writer);
    let cases: [(Change, &str); 6] = [
        (
            |it| {
                it.tensors
                    .retain(|entry| !entry.windows(9).any(|part| part == b"0.attn_v."))
            },
            "blk.0.attn_v.weight",
        ),
        (
            |it| it.tensor("blk.0.attn_sinks.weight", &[4], 0, &[0; 16]),
            "the tensor blk.0.attn_sinks.weight, for which its family has no use, which is not supported",
        ),
        (
            |it| it.tensor("rope_freqs.weight", &[4], 0, &[0; 16]),
            "4 factors in rope_freqs.weight for 12 pairs that are turned, which is not supported",
        ),
        (
            |it| it.set("llama.rope.scaling.type", 8, &text("longrope")),
            "llama.rope.scaling.type = longrope without rope_factors_short.weight, which is not supported",
        ),
        (
            |it| {
                it.settings[0] = [
                    &text("general.architecture")[..],
                    &8_u32.to_le_bytes(),
                    &text("tea"),
                ]
                .concat()
            },
            "tea",
        ),
        (|it| it.data.truncate(100), "ends at byte"),
    ];
    for (change, expected) in cases {
        let mut writer = converted("llama-f16-untied");
        change(&mut writer);
        let message = refused(&writer);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let absent = ModelSource::Gguf(Path::new("no/such.gguf").to_owned());
    let message = ModelConfig::load(&absent).unwrap_err().to_string();
    assert!(message.contains("no/such.gguf"), "{message}");
}
