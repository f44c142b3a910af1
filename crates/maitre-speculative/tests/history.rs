//! Proposals against a search through the whole text.

#![allow(clippy::unwrap_used, missing_docs)]

use maitre_speculative::{Guess, History, HistoryKind};
use proptest::prelude::*;

const KINDS: [HistoryKind; 2] = [HistoryKind::Ngram, HistoryKind::Suffix];

/// What follows each earlier occurrence of the longest suffix that has one, the latest first, with its
/// length. At most `longest` tokens are compared.
fn occurrences(text: &[u32], longest: usize, most: usize) -> (usize, Vec<Vec<u32>>) {
    for len in (2..=longest.min(text.len().saturating_sub(1))).rev() {
        let suffix = &text[text.len() - len..];
        let ends = (len..text.len()).rev();
        let found: Vec<Vec<u32>> = ends
            .filter(|&end| &text[end - len..end] == suffix)
            .map(|end| continued(text, end, most))
            .collect();
        if !found.is_empty() {
            return (len, found);
        }
    }
    (0, Vec::new())
}

/// `most` tokens from `end` on, copied one by one, so that copies are copied in turn.
fn continued(text: &[u32], end: usize, most: usize) -> Vec<u32> {
    let mut text = text.to_vec();
    let known = text.len();
    for at in end..end + most {
        text.push(text[at]);
    }
    text.split_off(known)
}

fn whole(kind: HistoryKind, text: &[u32]) -> History {
    let mut history = History::new(kind, text);
    assert!(history.absorb(usize::MAX));
    history
}

/// Texts over few tokens, many of them with a repetition.
fn texts(most: usize) -> impl Strategy<Value = Vec<u32>> {
    let token = prop_oneof![Just(2u32), Just(3), Just(30)]
        .prop_flat_map(move |tokens| (prop::collection::vec(0..tokens, 0..most), 0..most, 0..most));
    token.prop_map(move |(mut text, from, len)| {
        let end = text.len().min(from.saturating_add(len));
        text.extend_from_within(from.min(end)..end);
        text.truncate(most);
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// At every length of the text: the n-gram's latest occurrence, and an occurrence of the longest suffix.
    #[test]
    fn proposals_are_those_of_a_search(text in texts(120), most in 1usize..12) {
        let mut ngram = History::new(HistoryKind::Ngram, &[]);
        let mut suffix = History::new(HistoryKind::Suffix, &[]);
        for len in 1..=text.len() {
            let (known, new) = (&text[..len], &text[len - 1..len]);
            for history in [&mut ngram, &mut suffix] {
                history.extend(new);
                prop_assert!(history.absorb(1));
            }
            let (match_len, found) = occurrences(known, 4, most);
            let latest = found.into_iter().next().map(|tokens| Guess { tokens, match_len });
            prop_assert_eq!(ngram.propose(most), latest);

            let (match_len, found) = occurrences(known, len, most);
            match suffix.propose(most) {
                None => prop_assert!(found.is_empty()),
                Some(guess) => {
                    prop_assert_eq!(guess.match_len, match_len);
                    prop_assert!(found.contains(&guess.tokens), "{:?} is not in {:?}", guess, found);
                }
            }
        }
    }

    /// Where there are too few suffixes for any to be forgotten, the suffix's occurrence is the latest, too.
    #[test]
    fn a_suffix_is_found_where_it_occurred_last(text in texts(17), most in 1usize..6) {
        let (match_len, found) = occurrences(&text, text.len(), most);
        let latest = found.into_iter().next().map(|tokens| Guess { tokens, match_len });
        prop_assert_eq!(whole(HistoryKind::Suffix, &text).propose(most), latest);
    }

    /// However a text comes in, and with however little patience it is indexed, and if only half of it is.
    #[test]
    fn pieces_do_not_matter(
        text in texts(120),
        pieces in prop::collection::vec((0usize..40, 0usize..40), 0..12),
        most_indexed in 2usize..130,
    ) {
        for kind in KINDS {
            let mut history = History::new(kind, &[]).with_most_indexed(most_indexed);
            let mut rest = &text[..];
            for &(taken, absorbed) in &pieces {
                let (now, later) = rest.split_at(taken.min(rest.len()));
                history.extend(now);
                rest = later;
                let pending = history.pending();
                let is_done = history.absorb(absorbed);
                prop_assert_eq!(history.pending(), pending.saturating_sub(absorbed));
                prop_assert_eq!(is_done, history.pending() == 0);
                prop_assert!(is_done || history.propose(3).is_none());
            }
            history.extend(rest);
            while !history.absorb(7) {}
            prop_assert_eq!(history.tokens(), &text[..]);
            let mut at_once = History::new(kind, &text).with_most_indexed(most_indexed);
            at_once.absorb(usize::MAX);
            prop_assert_eq!(history.propose(5), at_once.propose(5));
        }
    }
}
