//! Text to tokens and back, in one go and token by token, and `tokenizer.json` files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maitre_fuzz::{Input, TOKENIZER};
use maitre_text::{Detokenizer, StopStrings, Tokenizer};

/// What a detokenizer makes of tokens, piece by piece.
fn piece_by_piece(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> String {
    let mut detokenizer = Detokenizer::new(tokenizer.clone(), skip_special);
    let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

fn check_ids(tokenizer: &Tokenizer, ids: &[u32]) {
    for skip_special in [false, true] {
        let whole = tokenizer.decode(ids, skip_special);
        let pieces = piece_by_piece(tokenizer, ids, skip_special);
        if let Ok(whole) = whole {
            assert_eq!(pieces, whole, "{ids:?}");
        }
    }
    // A prompt and what follows it.
    let (prompt, answer) = ids.split_at(ids.len() / 2);
    let (mut detokenizer, mut text) = Detokenizer::with_prompt(tokenizer.clone(), false, prompt);
    answer
        .iter()
        .for_each(|&id| text.push_str(&detokenizer.push(id)));
    text.push_str(&detokenizer.finish());
    if let Ok(whole) = tokenizer.decode(ids, false) {
        assert_eq!(text, whole, "{ids:?} behind a prompt");
    }
}

/// A text comes back as it was.
fn check_text(text: &str) {
    let ids = TOKENIZER.encode_plain(text).expect("any text has tokens");
    assert_eq!(TOKENIZER.decode(&ids, false).expect("its own tokens"), text);
    assert!(
        ids.iter().all(|&id| !TOKENIZER.is_special(id)),
        "a text became a control token"
    );
    check_ids(&TOKENIZER, &ids);
    if let Ok(ids) = TOKENIZER.encode(text) {
        check_ids(&TOKENIZER, &ids);
    }
}

/// Which stop string ends a text doesn't depend on how it was cut.
fn check_stops(text: &str, stop: Vec<String>) {
    let run = |pieces: &mut dyn Iterator<Item = &str>| {
        let mut stops = StopStrings::new(stop.clone());
        let mut out = String::new();
        for piece in pieces {
            let step = stops.push(piece);
            out.push_str(&step.text);
            if step.matched.is_some() {
                return (out, step.matched);
            }
        }
        out.push_str(&stops.finish());
        (out, None)
    };
    let whole = run(&mut [text].into_iter());
    let mut chars = text
        .char_indices()
        .map(|(at, c)| &text[at..at + c.len_utf8()]);
    assert_eq!(run(&mut chars), whole, "{stop:?}");
}

/// A library that panics while it reads a file is caught by ours. A panic that nothing catches is a finding all the same.
fn let_libraries_panic() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_library = panic
            .location()
            .is_some_and(|it| it.file().contains("/tokenizers-"));
        if !is_library {
            abort(panic);
        }
    }));
}

fuzz_target!(init: let_libraries_panic(), |data: &[u8]| {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => check_text(&input.text()),
        1 => {
            let of_two =
                |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            let ids: Vec<u32> = input.0.chunks(2).map(of_two).collect();
            check_ids(&TOKENIZER, &ids);
        }
        2 => {
            let text = input.text();
            let stop = [input.text(), input.text()];
            check_stops(
                &text,
                stop.into_iter().filter(|it| !it.is_empty()).collect(),
            );
        }
        _ => {
            if let Ok(tokenizer) = Tokenizer::from_bytes(input.0, None, None) {
                let ids = tokenizer
                    .encode("Hi, there! \u{e9} \u{1f642}")
                    .unwrap_or_default();
                check_ids(&tokenizer, &ids);
                check_ids(&tokenizer, &[0, 1, 2, 3, 4, 5, 6, 7, 255, u32::MAX]);
            }
        }
    }
});
