//! How much of a known text the histories would have proposed.

#![allow(clippy::unwrap_used, missing_docs)]

use maitre_speculative::{History, HistoryKind, Replay, ReplayStep};
use maitre_text::Tokenizer;

/// The first tokens of the bundled held-out chats.
fn chats(count: usize) -> Vec<u32> {
    let file = maitre_bundled::TARGET.file("tokenizer.json").unwrap();
    let tokenizer = Tokenizer::from_bytes(file, None, None).unwrap();
    let mut tokens = tokenizer.encode(maitre_bundled::HELDOUT).unwrap();
    tokens.truncate(count);
    tokens
}

/// The tokens with every 20th replaced by the one before it, which is hardly ever the same.
fn edited(tokens: &[u32]) -> Vec<u32> {
    let mut edited = tokens.to_vec();
    for at in (19..edited.len()).step_by(20) {
        edited[at] = tokens[at - 1];
    }
    edited
}

#[test]
fn a_step_is_what_came_true_and_one_more() {
    let step = |match_len, proposed, accepted| ReplayStep {
        match_len,
        proposed,
        accepted,
    };
    let history = History::new(HistoryKind::Ngram, &[1, 2, 3, 4, 5, 1, 2]);
    let replay = Replay::run(history, &[3, 4, 9, 1, 2, 7, 1, 2, 7, 1], 3);
    // 3 4 (not 5, but 9) | 1 | 2 | (not 3, but 7) | 1 | 2 | 7 and, as the last one is never proposed, 1
    let steps = [
        step(2, 3, 2),
        step(0, 0, 0),
        step(0, 0, 0),
        step(2, 3, 0),
        step(0, 0, 0),
        step(0, 0, 0),
        step(2, 1, 1),
    ];
    assert_eq!(replay.steps, steps);
    assert_eq!(replay.tokens, 10);
    assert!((replay.tokens_per_step() - 10.0 / 7.0).abs() < 1e-9);
    assert_eq!(replay.by_position(), [(3, 2), (1, 1), (1, 0)]);
}

#[test]
fn nothing_takes_no_step() {
    let replay = Replay::run(History::new(HistoryKind::Suffix, &[1, 1]), &[], 4);
    assert!(replay.steps.is_empty() && replay.by_position().is_empty());
    assert!(replay.tokens_per_step().abs() < 1e-9);
}

/// A quotation with one token in 20 changed. After each change the n-grams need two tokens, and the suffixes
/// one, to find the place again; the bounds are what was measured, rounded down.
#[test]
fn a_quotation_takes_a_fraction_of_the_steps() {
    let text = chats(4000);
    for (kind, drafts, least) in [
        (HistoryKind::Ngram, 2, 2.1),
        (HistoryKind::Suffix, 2, 2.3),
        (HistoryKind::Ngram, 4, 2.7),
        (HistoryKind::Suffix, 4, 3.2),
        (HistoryKind::Ngram, 8, 3.6),
        (HistoryKind::Suffix, 8, 4.3),
    ] {
        let replay = Replay::run(History::new(kind, &text), &edited(&text), drafts);
        let found = replay.tokens_per_step();
        assert!(
            found >= least,
            "{kind:?}, {drafts} drafts: {found} < {least}"
        );
    }
}

/// In text the automaton forgets no occurrence: its guesses follow the one before this one, as a search finds
/// it.
#[test]
fn in_chats_a_suffix_is_found_where_it_occurred_last() {
    let text = chats(3000);
    let mut history = History::new(HistoryKind::Suffix, &[]);
    for end in 1..text.len() {
        history.extend(&text[end - 1..end]);
        history.absorb(1);
        let known = &text[..end];
        let agreement = |at: usize| {
            let pairs = known[..at].iter().rev().zip(known.iter().rev());
            pairs.take_while(|(a, b)| a == b).count()
        };
        // The last one of equals.
        let found = (1..end).max_by_key(|&at| agreement(at));
        let (len, follows) = found.map_or((0, 0), |at| (agreement(at), at));
        let guess = history.propose(8);
        assert_eq!(guess.as_ref().map_or(0, |guess| guess.match_len), len);
        if let Some(guess) = guess {
            let followed = known[follows..].iter().copied().cycle();
            assert_eq!(guess.tokens, followed.take(8).collect::<Vec<_>>());
        }
    }
}
