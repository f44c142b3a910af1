//! Families in GGUF files that another writer wrote (`make_gguf_fixtures.py`): logits are those of transformers, and
//! where nothing is rounded anew, the bits of the same model in safetensors.

use std::fs;
use std::path::PathBuf;

use maitre_gguf::GgufIndex;
use maitre_model::{LoadOptions, Model, ModelConfig, ModelSource, Reads, RopeScaling};
use maitre_tensor::{Backend, WeightFormat};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parity_transformers::{expected, relative_error};
use crate::starts::{copy, edit_config};
use crate::support::{Host, fixture, greedy, options_of, prefill};

pub(crate) fn path(name: &str) -> PathBuf {
    fixture("gguf").join(format!("{name}.gguf"))
}

/// Fixtures whose files say all that their configurations do, and whether they hold the same numbers.
pub(crate) const WHOLE: [(&str, bool); 15] = [
    ("exaone4-f32-windows", true),
    ("gemma-bf16-v4", true),
    ("glm4-bf16-v4", true),
    ("gpt2-bf16-v4", true),
    ("granite-bf16-bias-v4", false),
    ("hunyuan-f32-alpha", false),
    ("llama-bf16-llama3-tied-as-head", false),
    ("ministral3-f32-yarn", true),
    ("mistral3-f32-images-v4", true),
    ("olmo2-f32", true),
    ("olmo3-bf16-yarn-v4", true),
    ("olmo3-f32-yarn", true),
    ("phi3-bf16-longrope-short-v4", true),
    ("phi3-f32-longrope", true),
    ("seed-oss-f32-bias", true),
];

fn logits(source: &ModelSource, name: &str, tokens: &[u32]) -> Vec<Vec<f32>> {
    let host = Host::new(source, &options_of(name), 2);
    prefill(&mut host.runner(), tokens, 16)
}

#[test]
fn logits_and_greedy_ids_are_those_of_transformers() {
    for (name, same_numbers) in WHOLE {
        let expected = expected(name);
        let (file, original) = (
            ModelSource::Gguf(path(name)),
            ModelSource::Directory(fixture(name)),
        );
        let host = Host::new(&file, &options_of(name), 2);
        let is_wide = host.model().dtype() == WeightFormat::F32;
        let tolerance = if is_wide { 1e-4 } else { 2e-2 };
        let found = prefill(&mut host.runner(), &expected.tokens, 16);
        let error = relative_error(&found, &expected.logits);
        assert!(error <= tolerance, "{name}: {error:e}");
        let its = logits(&original, name, &expected.tokens);
        match same_numbers {
            true => assert_eq!(found, its, "{name}"),
            // Factors of frequencies are rounded once more.
            false => assert!(relative_error(&found, &its.concat()) < 1e-3, "{name}"),
        }
        if is_wide {
            let prompt = &expected.tokens[..expected.tokens.len() / 2];
            let count = expected.greedy.len();
            let ids = greedy(&mut host.runner(), prompt, 16, count, &[]);
            assert_eq!(ids, expected.greedy, "{name}");
        }
    }
}

/// What the converter leaves out of a file is what the file says by that; so the originals are changed to say it.
#[test]
fn what_a_file_cannot_say_has_its_usual_value() {
    let yarn = json!({
        "rope_type": "yarn", "rope_theta": 10.0, "factor": 4.0, "original_max_position_embeddings": 32,
        "beta_fast": 2.0, "beta_slow": 0.5
    });
    for (name, change) in [
        // Scores are divided by the root of the head's width.
        ("gemma2-f32-windows", json!({"query_pre_attn_scalar": 10})),
        ("gemma3-f32-linear", json!({"query_pre_attn_scalar": 12})),
        // Every fourth layer turns nothing.
        (
            "smollm3-bf16-bias-v4",
            json!({"no_rope_layers": null, "no_rope_layer_interval": 4}),
        ),
        (
            "cohere2-f32-windows",
            json!({"layer_types": null, "sliding_window_pattern": 4}),
        ),
        ("starcoder2-f32-window", json!({"sliding_window": null})),
        // Bounds of YaRN are whole pairs.
        ("qwen2-bf16-yarn", json!({"rope_parameters": yarn})),
    ] {
        let tokens = expected(name).tokens;
        let original = copy(name);
        edit_config(original.path(), change);
        let original = ModelSource::Directory(original.path().to_owned());
        let file = ModelSource::Gguf(path(name));
        assert_eq!(
            logits(&file, name, &tokens),
            logits(&original, name, &tokens),
            "{name}"
        );
    }
}

/// A file's bytes with one more setting, which takes the place of any of that name.
fn with_setting(file: &[u8], key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut added = [&text(key)[..], &kind.to_le_bytes(), value].concat();
    // A text that fills up to the alignment, so that the data stay where they are behind the index.
    let filler = |len: usize| {
        [
            &text("filler")[..],
            &8_u32.to_le_bytes(),
            &text(&"x".repeat(len)),
        ]
        .concat()
    };
    let missing =
        (added.len() + filler(0).len()).next_multiple_of(32) - added.len() - filler(0).len();
    added.extend(filler(missing));
    let mut out = file.to_vec();
    let settings = u64::from_le_bytes(file[16..24].try_into().unwrap()) + 2;
    out[16..24].copy_from_slice(&settings.to_le_bytes());
    out.splice(24..24, added);
    out
}

/// A setting's name is another one's, of the same length.
fn renamed(file: &[u8], key: &str) -> Vec<u8> {
    let at = file
        .windows(key.len())
        .position(|part| part == key.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {key}"));
    let mut out = file.to_vec();
    out[at + key.len() - 1] = b'_';
    out
}

fn written(bytes: &[u8]) -> (TempDir, ModelSource) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    (directory, ModelSource::Gguf(path))
}

/// A setting that is added: its name, kind and bytes.
type Setting = (&'static str, u32, Vec<u8>);

fn float(name: &'static str, value: f32) -> Setting {
    (name, 6, value.to_le_bytes().to_vec())
}

fn whole(name: &'static str, value: u32) -> Setting {
    (name, 4, value.to_le_bytes().to_vec())
}

fn word(name: &'static str, value: &str) -> Setting {
    let bytes = [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat();
    (name, 8, bytes)
}

fn list(name: &'static str, kind: u32, values: &[u8]) -> Setting {
    let count = values.len() as u64;
    (
        name,
        9,
        [&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat(),
    )
}

/// `fixture` with these settings in place of those of the same names.
fn changed(fixture: &str, settings: &[Setting]) -> (TempDir, ModelSource) {
    let mut bytes = fs::read(path(fixture)).unwrap();
    for (name, kind, value) in settings {
        let index = GgufIndex::read(&bytes).unwrap();
        let arch = index.text("general.architecture").unwrap().unwrap();
        let key = format!("{arch}.{name}");
        if index.get(&key).is_some() {
            bytes = renamed(&bytes, &key);
        }
        bytes = with_setting(&bytes, &key, *kind, value);
    }
    written(&bytes)
}

#[test]
fn what_changes_the_mathematics_is_refused_by_name() {
    let cases: [(&str, Vec<Setting>, &str); 16] = [
        (
            "gemma3-f32-linear",
            vec![float("final_logit_softcapping", 30.0)],
            "gemma3.final_logit_softcapping = 30, which is not supported",
        ),
        (
            "gemma3-f32-linear",
            vec![list("attention.sliding_window_pattern", 7, &[1, 0])],
            "`layer_types` = a list of 2; expected one entry per layer, 6",
        ),
        (
            "gemma3-f32-linear",
            vec![list(
                "attention.sliding_window_pattern",
                0,
                &[1, 0, 7, 1, 1, 1],
            )],
            "gemma3.attention.sliding_window_pattern = a list of 6 that are not all true or false",
        ),
        (
            "gemma3-f32-linear",
            vec![whole("attention.value_length", 16)],
            "gemma3.attention.value_length = 16 beside keys of 12",
        ),
        (
            "gemma3-f32-linear",
            vec![word("rope.scaling.type", "spiral")],
            "gemma3.rope.scaling.type = \"spiral\"",
        ),
        (
            "gemma3-f32-linear",
            vec![float("rope.freq_base", f32::NAN)],
            "gemma3.rope.freq_base = NaN",
        ),
        (
            "gemma3-f32-linear",
            vec![float("rope.scaling.attn_factor", 1.5)],
            "gemma3.rope.scaling.attn_factor = 1.5",
        ),
        (
            "gemma3-f32-linear",
            vec![("attention.causal", 7, vec![0])],
            "gemma3.attention.causal = false",
        ),
        (
            "qwen2-bf16-yarn",
            vec![whole("attention.sliding_window", 8)],
            "qwen2.attention.sliding_window = 8",
        ),
        (
            "qwen2-bf16-yarn",
            vec![float("rope.scaling.yarn_ext_factor", 0.5)],
            "qwen2.rope.scaling.yarn_ext_factor = 0.5",
        ),
        (
            "qwen2-bf16-yarn",
            vec![word("rope.scaling.type", "longrope")],
            "qwen2.rope.scaling.type = longrope without rope_factors_short.weight",
        ),
        (
            "llama-bf16-llama3-tied-as-head",
            vec![whole("expert_count", 8)],
            "llama.expert_count = 8",
        ),
        (
            "llama-bf16-llama3-tied-as-head",
            vec![float("rope.scaling.factor", 2.0)],
            "rope_freqs.weight beside another scaling of RoPE",
        ),
        (
            "llama-bf16-llama3-tied-as-head",
            vec![whole("rope.dimension_count", 12)],
            "in the words of config.json, says `partial_rotary_factor`",
        ),
        (
            "phi3-f32-longrope",
            vec![whole("rope.dimension_count", 16)],
            "`rope_parameters.short_factor` = 6 numbers; expected 8 numbers above 0",
        ),
        (
            "olmo3-f32-yarn",
            vec![whole("block_count", u32::MAX)],
            "absurdly large",
        ),
    ];
    for (fixture, settings, expected) in cases {
        let (_kept, source) = changed(fixture, &settings);
        let loaded = Model::load(&source, &LoadOptions::default(), &Backend::cpu(1).unwrap());
        let message = match loaded {
            Ok(_) => panic!("{fixture} was loaded; expected {expected:?}"),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "{expected:?}: {message}");
    }
}

fn config(fixture: &str, settings: &[Setting]) -> ModelConfig {
    let (_kept, source) = changed(fixture, settings);
    ModelConfig::load(&source).unwrap()
}

#[test]
fn settings_mean_what_llama_cpp_takes_them_for() {
    // Neutral values change nothing.
    let plain = config("olmo3-f32-yarn", &[]);
    for setting in [
        float("logit_scale", 0.0),
        float("rope.scaling.attn_factor", 1.0),
        float("rope.scaling.yarn_ext_factor", -1.0),
        whole("expert_count", 0),
    ] {
        assert_eq!(config("olmo3-f32-yarn", &[setting]), plain);
    }
    // 0 is no window, and so is none.
    let reads = |config: &ModelConfig| -> Vec<Reads> {
        config
            .layers
            .iter()
            .map(|layer| layer.attention.reads)
            .collect()
    };
    let open = config("olmo3-f32-yarn", &[whole("attention.sliding_window", 0)]);
    assert_eq!(reads(&open), [Reads::Full; 4]);
    // A number says which layers read all: every Nth.
    let pattern = config(
        "gemma3-f32-linear",
        &[whole("attention.sliding_window_pattern", 2)],
    );
    let [near, all] = [Reads::Window(8), Reads::Full];
    assert_eq!(reads(&pattern), [near, all, near, all, near, all]);
    // A factor without a type is a linear scaling.
    let linear = |settings: &[Setting]| match config("gemma3-f32-linear", settings).ropes[0].scaling
    {
        RopeScaling::Linear(factor) => Some(factor),
        _ => None,
    };
    assert_eq!(linear(&[]), Some(4.0));
    assert_eq!(linear(&[float("rope.scaling.factor", 2.0)]), Some(2.0));
    assert_eq!(linear(&[word("rope.scaling.type", "none")]), None);
    // The two factors of cosines and sines are one.
    let attention =
        |settings: &[Setting]| match &config("qwen2-bf16-yarn", settings).ropes[0].scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            other => panic!("{other:?}"),
        };
    let paper = attention(&[]);
    let twice = attention(&[float("rope.scaling.attn_factor", 2.0)]);
    assert!((twice / paper - 2.0).abs() < 1e-6);
    assert_eq!(
        attention(&[float("rope.scaling.yarn_log_multiplier", 1.0)]),
        1.0
    );
    assert_eq!(
        attention(&[float("rope.scaling.yarn_attn_factor", 1.5)]),
        1.5
    );
}

/// The 27B model of 62 layers divides scores by another number, which files do not tell.
#[test]
fn the_scale_of_scores_of_the_large_gemma_is_known_by_its_layers() {
    let scale = |settings: &[Setting]| {
        config("gemma3-f32-linear", settings).layers[0]
            .attention
            .scale
    };
    assert_eq!(scale(&[]), 1.0 / 12_f32.sqrt());
    assert_eq!(scale(&[whole("block_count", 62)]), 1.0 / 4_f32.sqrt());
}

/// A bound of 0 is none.
#[test]
fn bounds_and_windows_of_gemma_2_are_read() {
    let bounds = |settings: &[Setting]| {
        let config = config("gemma2-f32-windows", settings);
        (config.layers[0].attention.score_bound, config.logit_bound)
    };
    assert_eq!(bounds(&[]), (Some(1.5), Some(8.0)));
    let none = |name: &'static str| bounds(&[float(name, 0.0)]);
    assert_eq!(none("attn_logit_softcapping"), (None, Some(8.0)));
    assert_eq!(none("final_logit_softcapping"), (Some(1.5), None));
    let layers = &config("gemma2-f32-windows", &[]).layers;
    let reads: Vec<Reads> = layers.iter().map(|layer| layer.attention.reads).collect();
    assert_eq!(reads, [Reads::Window(8), Reads::Full, Reads::Window(8)]);
}

/// The numbers of a file are the model's where its settings name no value at all.
#[test]
fn the_width_of_a_head_follows_from_the_sizes() {
    let stated = config("phi3-f32-longrope", &[]);
    assert_eq!((stated.head_dim, stated.ropes[0].dims), (16, 12));
    let value: Value = serde_json::from_slice(
        &ModelSource::Gguf(path("phi3-f32-longrope"))
            .read("config.json")
            .unwrap()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(value["head_dim"], 16);
}
