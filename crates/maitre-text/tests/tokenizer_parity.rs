//! Ids equal those that the models' own tokenizers give: recorded ids for the bundled tokenizer, and
//! with `MAITRE_TEST_DATA` those of Qwen3, GPT-2, Qwen2 and two small Llamas.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod data;

use maitre_text::Tokenizer;
use serde_json::Value;

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Ids from transformers 5.19 with the same tokenizer.json.
#[test]
fn the_bundled_tokenizer_gives_the_recorded_ids() {
    let tokenizer = data::bundled();
    let prompt = "<|im_start|>user\nWhat alarms do I have set at the moment?<|im_end|>\n<|im_start|>assistant\n";
    let expected = [
        1, 289, 205, 392, 548, 316, 1695, 383, 318, 399, 1320, 332, 295, 1545, 37, 2, 205, 1, 291,
        205,
    ];
    assert_eq!(tokenizer.encode(prompt).unwrap(), expected);
    assert_eq!(tokenizer.decode(&expected, false).unwrap(), prompt);
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("fixtures/bundled_ids.json")).unwrap();
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        assert_eq!(
            tokenizer.encode(text).unwrap(),
            ids(&case["ids"]),
            "{text:?}"
        );
        assert_eq!(tokenizer.decode(&ids(&case["ids"]), false).unwrap(), text);
    }
}

#[test]
fn the_vocabulary_is_described() {
    let tokenizer = data::bundled();
    assert_eq!(tokenizer.num_tokens(), 4096);
    assert_eq!(tokenizer.token_to_id("<|im_end|>"), Some(2));
    assert!(
        tokenizer.is_special(2) && !tokenizer.is_special(205) && !tokenizer.is_special(u32::MAX)
    );
    assert_eq!(tokenizer.token_bytes(205), Some(&b"\n"[..]));
    assert_eq!(tokenizer.token_text(2).as_deref(), Some("<|im_end|>"));
    assert_eq!(
        (tokenizer.token_text(4096), tokenizer.token_bytes(u32::MAX)),
        (None, None)
    );
    assert_eq!(tokenizer.special_tokens()["eos_token"], "<|im_end|>");
    // A token that is part of a character: its bytes are exact, its text is a replacement character.
    let emoji = tokenizer.encode("😀").unwrap();
    let bytes: Vec<u8> = emoji
        .iter()
        .flat_map(|&id| tokenizer.token_bytes(id).unwrap().to_vec())
        .collect();
    assert_eq!(bytes, "😀".as_bytes());
    assert!(tokenizer.token_text(emoji[0]).unwrap().contains('\u{fffd}'));
}

#[test]
fn qwen3_prompts() {
    let Some(tokenizer) = data::shared_tokenizer("tokenizers/qwen3-rebuilt") else {
        return;
    };
    for name in ["short", "multi_turn_with_tools"] {
        let case: Value = serde_json::from_slice(
            &data::shared(&format!("tokenizers/qwen3-parity/{name}.json")).unwrap(),
        )
        .unwrap();
        let text = case["prompt_text"].as_str().unwrap();
        let expected = ids(&case["expected_token_ids"]);
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{name}");
        assert_eq!(tokenizer.decode(&expected, false).unwrap(), text, "{name}");
    }
}

/// llama.cpp's vocabulary tests: texts with a separator line between, ids a line each.
#[test]
fn ggml_vocabulary_cases() {
    for (name, folder) in [
        ("gpt-2", "tokenizers/gpt2"),
        ("qwen2", "tokenizers/qwen3-rebuilt"),
    ] {
        let Some(tokenizer) = data::shared_tokenizer(folder) else {
            return;
        };
        let read = |ending: &str| {
            String::from_utf8(
                data::shared(&format!("gguf-vocab/ggml-vocab-{name}.gguf.{ending}")).unwrap(),
            )
            .unwrap()
        };
        let (texts, lines) = (read("inp"), read("out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        // The last text is followed by a separator, so the split ends with an empty piece.
        assert_eq!(texts.len(), lines.lines().count() + 1, "{name}");
        assert!(texts.len() > 40, "{name}: {} cases", texts.len());
        for (text, line) in texts.iter().zip(lines.lines()) {
            let expected: Vec<u32> = line
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            assert_eq!(
                tokenizer.encode(text).unwrap(),
                expected,
                "{name}: {text:?}"
            );
            assert_eq!(
                tokenizer.encode_plain(text).unwrap(),
                expected,
                "{name}: {text:?}"
            );
        }
    }
}

/// The prompts of the golden greedy runs, with the beginning-of-text token where the model wants one.
#[test]
fn golden_prompts() {
    for model in ["models/tinystories-656k-bf16", "models/stories260k-hf"] {
        let Some(tokenizer) = data::shared_tokenizer(model) else {
            return;
        };
        let golden: Value =
            serde_json::from_slice(&data::shared(&format!("{model}/golden_greedy.json")).unwrap())
                .unwrap();
        let prompt = golden["prompt"].as_str().unwrap_or_default();
        assert_eq!(
            tokenizer.encode(prompt).unwrap(),
            ids(&golden["prompt_ids"]),
            "{model}"
        );
        let text = tokenizer.decode(&ids(&golden["greedy_ids"]), true).unwrap();
        assert_eq!(text, golden["text"].as_str().unwrap(), "{model}");
    }
}

const TINY: &str = r#"{
  "added_tokens": [{"id": 2, "content": "<s>", "special": true, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false}],
  "post_processor": POST,
  "decoder": {"type": "Fuse"},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}"#;

/// The post-processor's word counts; the configuration can only add what it does not do.
#[test]
fn the_beginning_of_text_token_is_added_once() {
    let adds = r#"{"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}}}"#;
    let asks = br#"{"bos_token": "<s>", "add_bos_token": true}"#.as_slice();
    let declines = br#"{"bos_token": "<s>", "add_bos_token": false}"#.as_slice();
    let names_none = br#"{"bos_token": null, "add_bos_token": true}"#.as_slice();
    for (post_processor, config, expected) in [
        (adds, None, &[2, 0, 1][..]),
        (adds, Some(asks), &[2, 0, 1]),
        (adds, Some(declines), &[2, 0, 1]),
        ("null", None, &[0, 1]),
        ("null", Some(asks), &[2, 0, 1]),
        ("null", Some(declines), &[0, 1]),
        ("null", Some(names_none), &[0, 1]),
    ] {
        let json = TINY.replace("POST", post_processor);
        let tokenizer = Tokenizer::from_bytes(json.as_bytes(), config, None).unwrap();
        assert_eq!(
            tokenizer.encode("ab").unwrap(),
            expected,
            "{post_processor} {config:?}"
        );
        assert_eq!(tokenizer.encode_plain("ab").unwrap(), [0, 1]);
    }
}

#[test]
fn truncation_and_padding_of_the_file_are_ignored() {
    let json = TINY.replace("POST", "null").replacen(
        '{',
        r#"{"truncation": {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 2, "pad_type_id": 0, "pad_token": "<s>"},"#,
        1,
    );
    let tokenizer = Tokenizer::from_bytes(json.as_bytes(), None, None).unwrap();
    assert_eq!(tokenizer.encode("abab").unwrap(), [0, 1, 0, 1]);
}
