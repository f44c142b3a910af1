//! Speculation from the command line: what is refused, what is counted, and that answers stay the same.

use std::fs;

use maitre_bundled::{DRAFT, TARGET};
use serde_json::Value;
use tempfile::TempDir;

use crate::{edit, fails, maitre, model_directory, stderr, stdout};

const GENERATE: [&str; 5] = ["generate", "-v", "--raw", "--prompt", "Once upon a time"];

/// One answer of 48 tokens as JSON.
fn answer(arguments: &[&str]) -> Value {
    let length = ["--max-tokens", "48", "--ignore-eos", "--json"];
    let output = maitre(&[&GENERATE[..], &length, arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn path(folder: &TempDir) -> &str {
    folder.path().to_str().unwrap()
}

#[test]
fn an_answer_is_the_same_whoever_drafts_it() {
    for choice in [
        &["--temperature", "0"][..],
        &["--temperature", "1", "--seed", "7"],
    ] {
        let plain = answer(&[choice, &["--speculate", "off"]].concat());
        assert_eq!(plain["usage"]["drafted_tokens"], 0);
        assert_eq!(plain["usage"]["accepted_tokens"], 0);
        for who in ["ngram", "suffix", "draft", "auto"] {
            let drafted = answer(&[choice, &["--speculate", who]].concat());
            assert_eq!(drafted["token_ids"], plain["token_ids"], "{who} {choice:?}");
            assert_eq!(drafted["text"], plain["text"], "{who} {choice:?}");
            if who == "draft" {
                let count = |name: &str| drafted["usage"][name].as_u64().unwrap();
                let (drafted, accepted) = (count("drafted_tokens"), count("accepted_tokens"));
                assert!(
                    0 < accepted && accepted < drafted,
                    "{accepted} of {drafted}"
                );
            }
        }
    }
}

#[test]
fn usage_counts_what_the_draft_model_did() {
    // The model that drafts for itself is always right.
    let itself = model_directory(&TARGET);
    let draft = ["--speculate", "draft", "--draft-model", path(&itself)];
    let four = [&draft[..], &["--draft-tokens", "4", "--temperature", "0"]].concat();
    let usage = &answer(&four)["usage"];
    assert_eq!(usage["drafted_tokens"], usage["accepted_tokens"], "{usage}");
    assert!(usage["drafted_tokens"].as_u64().unwrap() >= 30, "{usage}");
}

#[test]
fn greedy_answers_stay_the_same_under_rejection_too() {
    let greedy = ["--temperature", "0"];
    let plain = answer(&[&greedy[..], &["--speculate", "off"]].concat());
    let flags = ["--speculate", "draft", "--accept", "rejection"];
    let drafted = answer(&[&greedy[..], &flags].concat());
    assert_eq!(drafted["token_ids"], plain["token_ids"]);
}

#[test]
fn the_banner_says_who_drafts() {
    let banner = |arguments: &[&str]| {
        let output = maitre(&[&GENERATE[..], &["--max-tokens", "1"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let folder = model_directory(&TARGET);
    let elsewhere = ["--model", path(&folder)];
    for (arguments, expected) in [
        // The bundled model has a draft model by itself.
        (
            &[][..],
            "speculation: auto, up to 8 tokens, accepted by coupling, draft model bundled-draft",
        ),
        (&["--speculate", "off"], "speculation: off"),
        (
            &[
                "--speculate",
                "suffix",
                "--draft-tokens",
                "3",
                "--accept",
                "rejection",
            ],
            "speculation: suffix, up to 3 tokens, accepted by rejection, draft model none",
        ),
        (
            &elsewhere,
            "speculation: auto, up to 8 tokens, accepted by coupling, draft model none",
        ),
        (
            &[&elsewhere[..], &["--draft-model", "bundled"]].concat(),
            "draft model bundled-draft",
        ),
        // A draft model that does not draft is not loaded.
        (
            &["--speculate", "off", "--draft-model", "no/such"],
            "draft 0.0 MiB",
        ),
    ] {
        let said = banner(arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn flags_that_cannot_work_are_bad_usage() {
    let folder = model_directory(&TARGET);
    for (arguments, expected) in [
        (
            &["--speculate", "maybe"][..],
            &[
                "maybe",
                "[possible values: off, ngram, suffix, draft, auto]",
            ][..],
        ),
        (
            &["--accept", "always"],
            &["always", "[possible values: coupling, rejection]"],
        ),
        (&["--draft-tokens", "many"], &["--draft-tokens", "many"]),
        (
            &["--draft-tokens", "0"],
            &["--draft-tokens is 0", "at least 1 and at most 64"],
        ),
        (
            &["--draft-tokens", "65"],
            &["--draft-tokens is 65", "at most 64"],
        ),
        (
            &["--speculate", "draft", "--model", path(&folder)],
            &[
                "--speculate is draft",
                "a --draft-model",
                "auto, suffix, ngram or off",
            ],
        ),
    ] {
        let said = fails(&[&GENERATE[..], arguments].concat(), 2);
        for word in expected {
            assert!(
                said.contains(word),
                "{arguments:?}: {word:?} is missing in: {said}"
            );
        }
    }
}

#[test]
fn a_draft_model_that_cannot_draft_is_refused_by_name() {
    let refused = |draft: &str| fails(&[&GENERATE[..], &["--draft-model", draft]].concat(), 1);
    let said = refused("./no/such/draft");
    assert!(said.contains("./no/such/draft does not exist"), "{said}");

    let other = model_directory(&DRAFT);
    edit(&other.path().join("tokenizer.json"), |json| {
        let mut tokenizer: Value = serde_json::from_str(&json).unwrap();
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let id = vocabulary.remove("Ġthe").unwrap();
        vocabulary.insert("Ġzhe".into(), id);
        tokenizer["model"]["merges"]
            .as_array_mut()
            .unwrap()
            .retain(|merge| {
                !merge.to_string().contains("the") && !merge.to_string().contains("he")
            });
        tokenizer.to_string()
    });
    let said = refused(path(&other));
    for word in [
        path(&other),
        "another vocabulary",
        "\" zhe\" to it and \" the\"",
        "--speculate suffix",
    ] {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }

    let incomplete = model_directory(&DRAFT);
    fs::remove_file(incomplete.path().join("tokenizer.json")).unwrap();
    let said = refused(path(&incomplete));
    assert!(said.contains("no tokenizer.json"), "{said}");
}

#[test]
fn flags_may_come_from_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("maitre.toml");
    fs::write(
        &file,
        "speculate = \"draft\"\ndraft-model = \"bundled\"\ndraft-tokens = 3\naccept = \"rejection\"\n",
    )
    .unwrap();
    let config = ["--max-tokens", "1", "--config", file.to_str().unwrap()];
    let output = maitre(&[&GENERATE[..], &config].concat());
    let said = stderr(&output);
    assert!(
        said.contains(
            "speculation: draft, up to 3 tokens, accepted by rejection, draft model bundled-draft"
        ),
        "{said}"
    );
    let overridden = maitre(&[&GENERATE[..], &config, &["--speculate", "off"]].concat());
    assert!(stderr(&overridden).contains("speculation: off"));
}

#[test]
fn bench_measures_with_the_flags_given() {
    let output = maitre(&[
        "bench",
        "-v",
        "--concurrency=1",
        "--input-tokens=4",
        "--output-tokens=4",
        "--requests=1",
        "--speculate=draft",
        "--draft-tokens=2",
        "--json",
    ]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("speculation: draft, up to 2 tokens"),
        "{said}"
    );
}

#[test]
fn inspect_counts_a_draft_model_beside_the_model() {
    let facts = |arguments: &[&str]| -> Value {
        let output = maitre(&[&["inspect", "--json"][..], arguments].concat());
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let alone = facts(&["--draft-model", "none"]);
    assert_eq!(alone["draft"], Value::Null);
    // As the bundled model is served.
    let both = facts(&[]);
    assert_eq!(both["draft"]["parameters"], 918_400);
    // 2 layers, keys and values, 2 heads of 32, 2 bytes.
    let drafts = &both["dtypes"]["bf16"]["draft"];
    assert_eq!(drafts["kv_bytes_per_token"], 2 * 2 * 2 * 32 * 2);
    // What is free changes between two runs, what must fit into it does not.
    for (facts, bytes, per_token) in [
        (&alone, 11_550_720, 3_072),
        (&both, 11_550_720 + 1_838_592, 3_584),
    ] {
        let free = facts["available_bytes"].as_u64().unwrap() - bytes;
        let entry = &facts["dtypes"]["bf16"];
        assert_eq!(entry["kv_tokens_that_fit"], free / per_token, "{entry}");
    }

    let text = stdout(&maitre(&["inspect", "--draft-model", "bundled"]));
    for expected in [
        "bundled-draft: Qwen3ForCausalLM, 0.92 M parameters",
        "+ draft",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let said = fails(&["inspect", "--draft-model", "./no/such"], 1);
    assert!(said.contains("./no/such"), "{said}");
}
