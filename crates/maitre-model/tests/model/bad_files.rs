//! Files as they really go wrong: each fault says what was found, where, and what to do.
//!
//! The messages of all faults are one snapshot, `bad_files.txt`; `UPDATE_EXPECT=1` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use expect_test::expect_file;
use maitre_model::{GenerationDefaults, LoadOptions, Model, ModelConfig, ModelSource};
use serde_json::{Value, json};

use crate::starts::{WEIGHTS, copy, edit_config, edit_weights, load};
use crate::support::{prefill, runner};

const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const SHARD: &str = "model-00002-of-00003.safetensors";
const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n";
const PLAIN: &str = "qwen3-f32-tied";
const UNTIED: &str = "qwen3-bf16-untied-bias-v4";
const SHARDED: &str = "llama-f32-sharded";

/// What is done to a copy of a fixture.
type Fault = Box<dyn Fn(&Path)>;

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

fn add_tensor(directory: &Path, name: &str, shape: &[usize]) {
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

const Q: &str = "model.layers.0.self_attn.q_proj.weight";

fn text_faults() -> Vec<(&'static str, &'static str, Fault)> {
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
            config(json!({"model_type": "granite"})),
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

fn file_faults() -> Vec<(&'static str, &'static str, Fault)> {
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

fn tensor_faults() -> Vec<(&'static str, &'static str, Fault)> {
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

#[test]
fn every_fault_is_named() {
    let mut messages = String::new();
    let faults = [text_faults(), file_faults(), tensor_faults()];
    for (name, fixture, fault) in faults.into_iter().flatten() {
        let directory = copy(fixture);
        fs::remove_file(directory.path().join("expected.safetensors")).unwrap();
        fault(directory.path());
        let message = match load(directory.path(), &LoadOptions::default()) {
            Ok(_) => "LOADED".to_owned(),
            Err(error) => {
                // A message says its cause itself, so that no reader of the chain says it again.
                assert!(std::error::Error::source(&error).is_none(), "{name}");
                error.to_string()
            }
        };
        let directory = directory.path().display().to_string();
        let message = message.replace(&directory, "DIR");
        writeln!(messages, "{name}\n    {message}").unwrap();
    }
    expect_file!["bad_files.txt"].assert_eq(&messages);
}

#[test]
fn a_check_without_reading_weights_says_the_same() {
    for (name, fixture, fault) in tensor_faults() {
        let directory = copy(fixture);
        fault(directory.path());
        let source = ModelSource::Directory(directory.path().to_owned());
        let config = ModelConfig::load(&source).unwrap();
        let checked = Model::check_weights(&source, &config).unwrap_err();
        let loaded = load(directory.path(), &LoadOptions::default()).unwrap_err();
        assert_eq!(checked.to_string(), loaded.to_string(), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_named() {
    for file in [CONFIG, WEIGHTS] {
        let directory = copy(PLAIN);
        let path = directory.path().join(file);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("../../blobs/4d7a", &path).unwrap();
        let error = load(directory.path(), &LoadOptions::default()).unwrap_err();
        let message = error
            .to_string()
            .replace(&path.display().to_string(), "FILE");
        assert_eq!(
            message,
            "FILE is a symbolic link to ../../blobs/4d7a, which does not exist; copy the model with its links \
             followed (`cp -rL`), or download it again"
        );
    }
}

/// The logits of a model in a directory.
fn logits(directory: &Path) -> Vec<Vec<f32>> {
    let source = ModelSource::Directory(directory.to_owned());
    let tokens: Vec<u32> = (3..30).collect();
    prefill(&mut runner(&source, &LoadOptions::default(), 1), &tokens, 8)
}

#[test]
fn buffers_that_older_files_carry_are_ignored() {
    let directory = copy(PLAIN);
    let before = logits(directory.path());
    for layer in [0, 1, 7] {
        for (name, shape) in [
            ("self_attn.rotary_emb.inv_freq", &[12][..]),
            ("self_attn.rotary_emb.cos_cached", &[1, 1, 64, 24]),
            ("self_attn.rotary_emb.sin_cached", &[1, 1, 64, 24]),
            ("self_attn.cos_cached", &[64, 24]),
            ("self_attn.sin_cached", &[64, 24]),
            ("self_attn.rotary_pos_emb.inv_freq", &[12]),
            ("attention.masked_bias", &[]),
            ("self_attn.masked_bias", &[1]),
            ("attn.masked_bias", &[]),
            ("attn.bias", &[1, 1, 8, 8]),
            ("self_attn.attn.bias", &[4]),
            ("attention.bias", &[1, 1, 8, 8]),
            ("self_attn.bias", &[1, 1, 8, 8]),
            ("self_attn.core_attention._extra_state", &[1]),
        ] {
            add_tensor(
                directory.path(),
                &format!("model.layers.{layer}.{name}"),
                shape,
            );
        }
    }
    for name in [
        "model.rotary_emb.inv_freq",
        "model.rotary_emb.original_inv_freq",
        "rope.freqs",
        "model.position_ids",
    ] {
        add_tensor(directory.path(), name, &[12]);
    }
    // Heads beside the model change nothing of what it predicts.
    add_tensor(directory.path(), "v_head.summary.weight", &[1, 40]);
    add_tensor(
        directory.path(),
        "mtp.layers.0.mlp.up_proj.weight",
        &[4, 40],
    );
    assert_eq!(logits(directory.path()), before);
    // A buffer may be of any type: it is not read.
    let mask = Tensor::ones((1, 1, 8, 8), DType::U8, &Device::Cpu).unwrap();
    edit_weights(directory.path(), |tensors| {
        tensors.insert("model.layers.0.attn.bias".to_owned(), mask);
    });
    assert_eq!(logits(directory.path()), before);
}

#[test]
fn an_index_counts_for_more_than_a_single_file() {
    let directory = copy(SHARDED);
    let before = logits(directory.path());
    let single = directory.path().join(WEIGHTS);
    fs::write(&single, "not even safetensors").unwrap();
    assert_eq!(logits(directory.path()), before);

    // An index none of whose shards is there was left behind itself.
    let directory = copy(PLAIN);
    let before = logits(directory.path());
    let index =
        json!({"weight_map": {Q: SHARD, "lm_head.weight": "model-00003-of-00003.safetensors"}});
    fs::write(directory.path().join(INDEX), index.to_string()).unwrap();
    assert_eq!(logits(directory.path()), before);
    // One that names the single file says the same as none.
    let index = json!({"weight_map": {Q: WEIGHTS}});
    fs::write(directory.path().join(INDEX), index.to_string()).unwrap();
    assert_eq!(logits(directory.path()), before);
}

#[test]
fn json_is_read_as_python_reads_it() {
    let directory = copy(SHARDED);
    let before = logits(directory.path());
    for file in [CONFIG, INDEX] {
        let path = directory.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        // A byte order mark, numbers that are not finite, and a key that stands twice.
        let odd = format!(
            "\u{feff}{{\"time_step_limit\": [0.0, Infinity], \"a\": NaN, \"b\": -Infinity, \"c\": 1e999, \
             \"vocab_size\": 3, \"weight_map\": 4, {}",
            text.trim_start().trim_start_matches('{')
        );
        fs::write(path, odd).unwrap();
    }
    fs::write(
        directory.path().join(GENERATION),
        "\u{feff}{\"a\": NaN, \"top_p\": 2, \"top_p\": 0.5}",
    )
    .unwrap();
    assert_eq!(logits(directory.path()), before);
    let source = ModelSource::Directory(directory.path().to_owned());
    assert_eq!(GenerationDefaults::load(&source).unwrap().top_p, Some(0.5));
    let strict = source.read_json(GENERATION).unwrap().unwrap();
    assert_eq!(
        strict.as_ref(),
        br#"{"a": "NaN", "top_p": 2, "top_p": 0.5}"#
    );
}

#[test]
fn settings_of_sampling_do_not_matter_to_greedy_answers() {
    let directory = copy(PLAIN);
    let source = ModelSource::Directory(directory.path().to_owned());
    let read = |json: &str| {
        fs::write(directory.path().join(GENERATION), json).unwrap();
        GenerationDefaults::load(&source).unwrap()
    };
    let greedy = read(
        r#"{"do_sample": false, "temperature": "hot", "top_p": NaN, "top_k": 1.5, "min_p": [],
            "repetition_penalty": 1.1, "transformers_version": "4.31.0", "typical_p": "?"}"#,
    );
    assert_eq!((greedy.temperature, greedy.top_p), (None, None));
    assert_eq!((greedy.top_k, greedy.min_p), (None, None));
    assert_eq!(greedy.repetition_penalty, Some(1.1));
    for (json, expected) in [
        ("-1", 0),
        ("0", 0),
        ("50.0", 50),
        ("20", 20),
        ("1e12", u32::MAX),
    ] {
        let kept = read(&format!(r#"{{"do_sample": true, "top_k": {json}}}"#));
        assert_eq!(kept.top_k, Some(expected), "{json}");
    }
    let silent = read(r#"{"do_sample": null, "top_k": null, "eos_token_id": [7, null]}"#);
    assert_eq!((silent.do_sample, silent.top_k), (None, None));
    assert_eq!(
        (silent.eos_token_ids, silent.eos_file),
        (vec![7], GENERATION)
    );
}
