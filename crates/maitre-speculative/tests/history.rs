//! Proposals against a search through the whole text.

#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::RangeInclusive;

use maitre_speculative::{Guess, History, HistoryKind};
use proptest::prelude::*;

const KINDS: [HistoryKind; 2] = [HistoryKind::Ngram, HistoryKind::Suffix];

/// What follows each earlier occurrence of the longest suffix that has one, the latest first, with its
/// length, if that is one of `lengths`.
fn occurrences(
    text: &[u32],
    lengths: RangeInclusive<usize>,
    most: usize,
) -> (usize, Vec<Vec<u32>>) {
    for len in lengths.rev().filter(|&len| len < text.len()) {
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

/// A history of `text`, all indexed.
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

#[test]
fn nothing_is_found_in_nothing() {
    for kind in KINDS {
        for text in [&[][..], &[1], &[1, 2], &[1, 2, 3, 4, 5, 6]] {
            assert_eq!(whole(kind, text).propose(4), None, "{kind:?} {text:?}");
        }
        let text = [1, 2, 3, 1, 2];
        assert_eq!(whole(kind, &text).propose(0), None, "no token is wanted");
        assert_eq!(History::new(kind, &text).propose(4), None, "all is pending");
    }
}

#[test]
fn a_single_token_is_a_match_for_suffixes_alone() {
    let text = [1, 2, 3, 4, 2];
    assert_eq!(whole(HistoryKind::Ngram, &text).propose(2), None);
    let guess = whole(HistoryKind::Suffix, &text).propose(2).unwrap();
    assert_eq!((guess.tokens, guess.match_len), (vec![3, 4], 1));
}

/// What has a period goes on with it, also where more is asked than came since the last time.
#[test]
fn periodic_text_goes_on() {
    for kind in KINDS {
        for period in 1..9 {
            for len in period + 2..60 {
                let all: Vec<u32> = (0..len as u32 + 30).map(|at| at % period as u32).collect();
                let guess = whole(kind, &all[..len]).propose(30).unwrap();
                assert_eq!(
                    guess.tokens,
                    all[len..],
                    "{kind:?}, {len} of period {period}"
                );
                let longest = len - period;
                let expected = match kind {
                    HistoryKind::Ngram => longest.min(4),
                    HistoryKind::Suffix => longest,
                };
                assert_eq!(
                    guess.match_len, expected,
                    "{kind:?}, {len} of period {period}"
                );
            }
        }
    }
}

/// A text of any kind, far longer than what may be indexed, takes no more than the documentation says, and
/// only what is indexed is found.
#[test]
fn memory_is_bounded() {
    const MOST: usize = 1000;
    type Rule = fn(u64) -> u64;
    let rules: [(&str, Rule); 5] = [
        ("one token", |_| 7),
        ("all different", |at| at),
        ("a period", |at| at % 37),
        ("hardly any rule", |at| at * at % 1009 / 7),
        ("two tokens", |at| (at * at % 1_000_003).count_ones().into()),
    ];
    for (kind, most_bytes) in [(HistoryKind::Ngram, 35), (HistoryKind::Suffix, 165)] {
        for (name, rule) in rules {
            let mut history = History::new(kind, &[]).with_most_indexed(MOST);
            for at in 0..20 * MOST as u64 {
                history.extend(&[rule(at) as u32]);
                history.absorb(usize::MAX);
                let tokens = 2 * size_of::<u32>() * history.tokens().len().max(4);
                let index = history.bytes() - tokens.min(history.bytes());
                assert!(
                    index <= MOST * most_bytes,
                    "{kind:?} of {name}: {index} bytes"
                );
            }
        }
    }
}

#[test]
fn what_is_no_longer_indexed_is_not_found() {
    for kind in KINDS {
        let mut history = History::new(kind, &[1, 2, 3, 4]).with_most_indexed(100);
        let others: Vec<u32> = (10..104).collect();
        history.extend(&others);
        history.extend(&[1, 2]);
        assert!(history.absorb(100));
        assert_eq!(
            history.propose(2).unwrap().tokens,
            [3, 4],
            "{kind:?}, 100 tokens"
        );
        history.extend(&[1, 2]);
        assert_eq!(history.pending(), 52, "the latest half and what came");
        assert!(history.absorb(52));
        let guess = history.propose(3).unwrap();
        assert_eq!(guess.tokens, [1, 2, 1], "{kind:?}, what came just now");
        history.extend(&[3, 4, 10, 11]);
        history.absorb(4);
        assert_eq!(history.propose(2), None, "{kind:?}, what came first");
    }
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
            let (match_len, found) = occurrences(known, 2..=4, most);
            let latest = found.into_iter().next().map(|tokens| Guess { tokens, match_len });
            prop_assert_eq!(ngram.propose(most), latest);

            let (match_len, found) = occurrences(known, 1..=len, most);
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
        let (match_len, found) = occurrences(&text, 1..=text.len(), most);
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
