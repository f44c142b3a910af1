//! Streaming equals decoding at once, and both equal the tokenizers library, for random ids; what is
//! held back is bounded; no piece splits a character.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod data;

use maitre_text::{Detokenizer, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The text of `ids`, pushed one by one.
fn stream(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> String {
    let mut detokenizer = Detokenizer::new(tokenizer.clone(), skip_special);
    let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

/// Random ids, some beyond the vocabulary, against the library that the tokenizer was built from.
fn check_random_ids(tokenizer: &Tokenizer, json: &[u8]) {
    let library = tokenizers::Tokenizer::from_bytes(json).unwrap();
    let beyond = tokenizer.num_tokens() as u32 + 20;
    let ids = prop::collection::vec(prop_oneof![9 => 0..beyond, 1 => Just(u32::MAX)], 0..60);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(500));
    runner
        .run(&(ids, any::<bool>(), 0..60_usize), |(ids, skip, cut)| {
            let expected = library.decode(&ids, skip).unwrap();
            prop_assert_eq!(
                &tokenizer.decode(&ids, skip).unwrap(),
                &expected,
                "decode, {:?}",
                ids
            );
            prop_assert_eq!(
                &stream(tokenizer, &ids, skip),
                &expected,
                "stream, {:?}",
                ids
            );
            // After a prompt: exactly what decoding both adds to what decoding the prompt showed.
            let (prompt, rest) = ids.split_at(cut.min(ids.len()));
            let mut before = Detokenizer::new(tokenizer.clone(), skip);
            let shown: String = prompt.iter().map(|&id| before.push(id)).collect();
            let mut after = Detokenizer::after_prompt(tokenizer.clone(), skip, prompt);
            let added: String = rest.iter().map(|&id| after.push(id)).collect();
            prop_assert_eq!(
                shown + &added + &after.finish(),
                expected,
                "after a prompt, {:?}",
                ids
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_ids_of_the_bundled_tokenizer() {
    check_random_ids(&data::bundled(), data::BUNDLED_TOKENIZER);
}

#[test]
fn random_ids_of_other_tokenizers() {
    for folder in [
        "models/stories260k-hf",
        "models/tinystories-656k-bf16",
        "tokenizers/gpt2",
        "tokenizers/qwen3-rebuilt",
    ] {
        let Some(tokenizer) = data::shared_tokenizer(folder) else {
            return;
        };
        check_random_ids(
            &tokenizer,
            &data::shared(&format!("{folder}/tokenizer.json")).unwrap(),
        );
    }
}

/// A vocabulary with every decoder that SentencePiece conversions come with, and one without any.
#[test]
fn random_ids_with_other_decoders() {
    let bytes: Vec<String> = (0..=255)
        .map(|byte| format!(r#""<0x{byte:02X}>": {}"#, byte + 10))
        .collect();
    for decoder in [
        "null".to_owned(),
        r#"{"type": "Fuse"}"#.to_owned(),
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}"#
            .to_owned(),
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true}"#
            .to_owned(),
        r#"{"type": "ByteFallback"}"#.to_owned(),
        sequence(
            r#"{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}"#,
        ),
        sequence(
            r#"{"type": "ByteFallback"}, {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}"#,
        ),
        sequence(
            r#"{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": "x", "start": 3, "stop": 0}"#,
        ),
        sequence(r#"{"type": "Strip", "content": "▁", "start": 1, "stop": 0}, {"type": "Fuse"}"#),
        sequence(
            r#"{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}"#,
        ),
    ] {
        let json = format!(
            r#"{{"decoder": {decoder}, "added_tokens": [{{"id": 0, "content": "<s>", "special": true, "normalized": false,
                 "single_word": false, "lstrip": false, "rstrip": false}}],
                "model": {{"type": "BPE", "merges": [], "byte_fallback": true,
                  "vocab": {{"<s>": 0, "▁": 1, "▁x": 2, "x": 3, "é": 4, "▁▁y▁": 5, "xx": 6, {}}}}}}}"#,
            bytes.join(", ")
        );
        let tokenizer = Tokenizer::from_bytes(json.as_bytes(), None, None).unwrap();
        check_random_ids(&tokenizer, json.as_bytes());
    }
}

fn sequence(steps: &str) -> String {
    format!(r#"{{"type": "Sequence", "decoders": [{steps}]}}"#)
}

#[test]
fn a_character_of_several_tokens_appears_whole() {
    let tokenizer = data::bundled();
    let ids = tokenizer.encode("a😀b").unwrap();
    let mut detokenizer = Detokenizer::new(tokenizer, true);
    let pieces: Vec<String> = ids
        .iter()
        .map(|&id| detokenizer.push(id))
        .filter(|piece| !piece.is_empty())
        .collect();
    assert_eq!(pieces, ["a", "😀", "b"]);
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn special_tokens_show_only_when_asked_for() {
    let tokenizer = data::bundled();
    let ids = tokenizer.encode("hi<|im_end|>").unwrap();
    assert_eq!(stream(&tokenizer, &ids, true), "hi");
    assert_eq!(stream(&tokenizer, &ids, false), "hi<|im_end|>");
}

#[test]
fn a_broken_character_is_replaced_at_once_and_at_the_end() {
    let tokenizer = data::bundled();
    let emoji = tokenizer.encode("😀").unwrap();
    let mut detokenizer = Detokenizer::new(tokenizer.clone(), true);
    assert_eq!(detokenizer.push(emoji[0]), "");
    let newline = detokenizer.push(205);
    assert_eq!(newline, "\u{fffd}\n");
    detokenizer.push(emoji[0]);
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    assert_eq!(detokenizer.push(205), "\n", "finish starts a new text");
}

/// A hundred thousand tokens cost a hundred thousand times one token, whatever they are: a
/// detokenizer that decodes again from the start would need 5e9 token look-ups here.
#[test]
fn long_texts_are_not_decoded_again_and_again() {
    let tokenizer = data::bundled();
    let started = std::time::Instant::now();
    for ids in [
        vec![300_u32; 100_000],
        tokenizer.encode("😀").unwrap()[..1].repeat(100_000),
    ] {
        let mut detokenizer = Detokenizer::new(tokenizer.clone(), true);
        let (mut shown, mut pushed) = (0, 0);
        for &id in &ids {
            pushed += 1;
            shown += detokenizer.push(id).chars().count();
            assert!(
                shown + 3 >= pushed,
                "{} tokens are held back",
                pushed - shown
            );
        }
    }
    assert!(
        started.elapsed().as_secs() < 20,
        "took {:?}",
        started.elapsed()
    );
}

/// The prompt's text and the answer's, end to end, are the text of both: each character once, a finished one
/// with the prompt, an unfinished one with the answer.
fn check_seam(tokenizer: &Tokenizer, prompt: &[u32], answer: &[u32], expected: (&str, &str)) {
    let (mut detokenizer, shown) = Detokenizer::with_prompt(tokenizer.clone(), true, prompt);
    let mut text: String = answer.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    assert_eq!(
        (shown.as_str(), text.as_str()),
        expected,
        "{prompt:?} {answer:?}"
    );
}

/// Ids 0 to 2 are words, id 10 + b is byte b, as SentencePiece's vocabularies have them.
fn byte_fallback() -> Tokenizer {
    let bytes: Vec<String> = (0..=255)
        .map(|byte| format!(r#""<0x{byte:02X}>": {}"#, byte + 10))
        .collect();
    let decoder = sequence(
        r#"{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
           {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}"#,
    );
    let json = format!(
        r#"{{"decoder": {decoder}, "added_tokens": [], "model": {{"type": "BPE", "merges": [], "byte_fallback": true,
            "vocab": {{"▁a": 0, "▁": 1, "b": 2, {}}}}}}}"#,
        bytes.join(", ")
    );
    Tokenizer::from_bytes(json.as_bytes(), None, None).unwrap()
}

#[test]
fn a_prompt_that_ends_inside_a_character_shows_it_once_with_the_answer() {
    let bytes = |text: &str, first: u32| -> Vec<u32> {
        text.bytes().map(|byte| first + u32::from(byte)).collect()
    };
    let of_bytes = Tokenizer::of_bytes().unwrap();
    let fallback = byte_fallback();
    for (tokenizer, first) in [(&of_bytes, 0), (&fallback, 10)] {
        let ids = bytes("é世😀", first);
        for cut in 0..=ids.len() {
            let (prompt, answer) = ids.split_at(cut);
            let whole = [0, 2, 5, 9].into_iter().rev().find(|&at| at <= cut);
            check_seam(tokenizer, prompt, answer, "é世😀".split_at(whole.unwrap()));
        }
        // Nothing finishes it: one replacement character for it, with the answer.
        check_seam(tokenizer, &bytes("é", first)[..1], &[], ("", "\u{fffd}"));
    }
}

/// Llama's tokenizers write a line break as a byte token. It is the prompt's, whatever follows.
#[test]
fn a_line_break_that_ends_the_prompt_is_not_the_answers() {
    let tokenizer = byte_fallback();
    let line_break = 10 + u32::from(b'\n');
    check_seam(&tokenizer, &[0, line_break], &[0, 2], ("a\n", " ab"));
    check_seam(
        &tokenizer,
        &[0, line_break],
        &[line_break, 2],
        ("a\n", "\nb"),
    );
    check_seam(&tokenizer, &[0, line_break], &[], ("a\n", ""));
    // A byte that can't follow is replaced alone; what was shown stays.
    check_seam(
        &tokenizer,
        &[0, line_break],
        &[10 + 0xff, 2],
        ("a\n", "\u{fffd}b"),
    );
}

#[test]
fn what_is_held_back_though_complete_is_counted() {
    let mut detokenizer = Detokenizer::new(byte_fallback(), true);
    let held = |byte: u8, detokenizer: &mut Detokenizer| {
        let shown = detokenizer.push(10 + u32::from(byte));
        (shown, detokenizer.held_bytes())
    };
    for (byte, expected) in [(b'x', 1), (0xc3, 1), (0xa9, 3)] {
        assert_eq!(held(byte, &mut detokenizer), (String::new(), expected));
    }
    assert_eq!(detokenizer.push(2), "xéb");
    assert_eq!(detokenizer.held_bytes(), 0);
}

/// A completion's first word keeps the space that the first word of a text would lose.
#[test]
fn a_completion_goes_on_where_its_prompt_ended() {
    let Some(tokenizer) = data::shared_tokenizer("models/stories260k-hf") else {
        return;
    };
    let prompt = tokenizer.encode("Once upon").unwrap();
    let all = tokenizer.encode("Once upon a time").unwrap();
    assert!(all.starts_with(&prompt));
    let mut detokenizer = Detokenizer::after_prompt(tokenizer.clone(), true, &prompt);
    let text: String = all[prompt.len()..]
        .iter()
        .map(|&id| detokenizer.push(id))
        .collect();
    assert_eq!(text + &detokenizer.finish(), " a time");
    // Without a prompt but for the beginning-of-text token, the text starts with its word.
    let mut detokenizer = Detokenizer::after_prompt(tokenizer, true, &prompt[..1]);
    let text: String = all[1..].iter().map(|&id| detokenizer.push(id)).collect();
    assert_eq!(text, "Once upon a time");
}
