//! Files as they really go wrong: each fault says what was found, where, and what to do.
//!
//! The messages of all faults are one snapshot, `bad_files.txt`; `UPDATE_EXPECT=1` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use expect_test::expect_file;
use maitre_model::{GenerationDefaults, LoadOptions, Model, ModelConfig, ModelSource};
use serde_json::json;

use crate::file_faults::{
    CONFIG, GENERATION, INDEX, PLAIN, Q, SHARD, SHARDED, add_tensor, file_faults, tensor_faults,
    text_faults,
};
use crate::starts::{WEIGHTS, copy, edit_weights, load};
use crate::support::{prefill, runner};

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
