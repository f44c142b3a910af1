//! The streaming search against a naive one over the whole text, for any way to cut the text.

#![allow(clippy::unwrap_used, missing_docs)]

use maitre_text::StopStrings;
use proptest::prelude::*;

/// The specification: the first byte after the exempt ones at which some stop string is complete; the
/// longest one there; the first of equal ones.
fn naive(text: &str, stops: &[String], include: bool, exempt: usize) -> (String, Option<usize>) {
    for end in exempt + 1..=text.len() {
        let found = stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| {
                !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes())
            })
            .max_by_key(|(index, stop)| (stop.len(), std::cmp::Reverse(*index)));
        if let Some((index, stop)) = found {
            let cut = if include { end } else { end - stop.len() };
            return (text[..cut].to_owned(), Some(index));
        }
    }
    (text.to_owned(), None)
}

fn cut(text: &str, lengths: &[usize]) -> Vec<String> {
    let mut chars = text.chars();
    let mut pieces: Vec<String> = lengths
        .iter()
        .map(|&n| chars.by_ref().take(n).collect())
        .collect();
    pieces.push(chars.collect());
    pieces
}

/// Length of the longest suffix of `text` that is a proper prefix of a stop string.
fn longest_open_suffix(text: &str, stops: &[String]) -> usize {
    (0..text.len())
        .filter(|&at| text.is_char_boundary(at))
        .map(|at| &text[at..])
        .find(|suffix| {
            stops
                .iter()
                .any(|stop| stop.len() > suffix.len() && stop.starts_with(suffix))
        })
        .map_or(0, str::len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_chunking_equals_the_naive_search(
        text in "[abé]{0,40}",
        stops in prop::collection::vec("[abé]{0,5}", 0..6),
        lengths in prop::collection::vec(0..5_usize, 0..20),
        include in any::<bool>(),
    ) {
        let (expected, matched) = naive(&text, &stops, include, 0);
        let mut search = StopStrings::new(stops.clone()).include_stop(include);
        let mut released = String::new();
        let mut fed = String::new();
        for piece in cut(&text, &lengths) {
            fed.push_str(&piece);
            let step = search.push(&piece);
            released.push_str(&step.text);
            if step.matched.is_none() {
                let held = fed.len() - released.len();
                prop_assert_eq!(held, longest_open_suffix(&fed, &stops), "holds back only what may still match");
            }
        }
        released.push_str(&search.finish());
        prop_assert_eq!(released, expected);
        prop_assert_eq!(search.matched(), matched);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// The first pieces are exempt: what is complete in them ends nothing, what only begins in them does;
    /// nothing is lost, shown twice or held back for longer than it may still match.
    #[test]
    fn an_exempt_beginning_equals_the_naive_search(
        text in "[abé]{0,40}",
        stops in prop::collection::vec("[abé]{0,5}", 0..6),
        lengths in prop::collection::vec(0..5_usize, 0..20),
        exempt_pieces in 0..12_usize,
        include in any::<bool>(),
    ) {
        let pieces = cut(&text, &lengths);
        let exempt = pieces.iter().take(exempt_pieces).map(String::len).sum();
        let (expected, matched) = naive(&text, &stops, include, exempt);
        let mut search = StopStrings::new(stops.clone()).include_stop(include);
        let mut released = String::new();
        let mut fed = String::new();
        for (index, piece) in pieces.iter().enumerate() {
            fed.push_str(piece);
            if index < exempt_pieces {
                released.push_str(&search.push_exempt(piece));
            } else {
                released.push_str(&search.push(piece).text);
            }
            if search.matched().is_none() {
                let held = fed.len() - released.len();
                prop_assert_eq!(held, longest_open_suffix(&fed, &stops), "holds back only what may still match");
            }
        }
        released.push_str(&search.finish());
        prop_assert_eq!(released, expected);
        prop_assert_eq!(search.matched(), matched);
    }
}

#[test]
fn a_stop_string_that_only_begins_in_the_exempt_part_is_found() {
    let mut search = StopStrings::new(vec!["END".into()]);
    assert_eq!(search.push_exempt("one END two E"), "one END two ");
    let step = search.push("ND three");
    assert_eq!((step.text.as_str(), step.matched), ("", Some(0)));
    assert_eq!(search.get(0), Some("END"));
    // It is over: nothing comes any more, exempt or not.
    assert_eq!(search.push_exempt("four"), "");
}

#[test]
fn the_largest_stop_strings_take_little_more_than_a_megabyte_and_clones_share_it() {
    let stops: Vec<String> = (b'0'..)
        .take(64)
        .map(|first| char::from(first).to_string().repeat(1024))
        .collect();
    let search = StopStrings::new(stops);
    assert!(
        search.shared_bytes() <= 64 * 1024 * 15,
        "{}",
        search.shared_bytes()
    );
    let clone = search.clone();
    assert!(std::ptr::eq(clone.get(7).unwrap(), search.get(7).unwrap()));
}

#[test]
fn after_a_match_everything_is_swallowed() {
    let mut search = StopStrings::new(vec!["END".into()]);
    assert_eq!(search.push("one END two").text, "one ");
    let later = search.push("three");
    assert_eq!((later.text.as_str(), later.matched), ("", Some(0)));
    assert_eq!(search.finish(), "");
}

#[test]
fn a_thousand_long_stop_strings_over_a_megabyte_is_quick() {
    let stops = (0..1_000)
        .map(|i| format!("{}{i}", "a".repeat(200)))
        .collect();
    let mut search = StopStrings::new(stops);
    let text = "a".repeat(1_000_000);
    let started = std::time::Instant::now();
    let mut released = 0;
    for piece in text.as_bytes().chunks(7) {
        released += search.push(std::str::from_utf8(piece).unwrap()).text.len();
    }
    assert_eq!(released + search.finish().len(), 1_000_000);
    // A search that restarts per stop string needs 2e11 comparisons here.
    assert!(
        started.elapsed().as_secs() < 20,
        "took {:?}",
        started.elapsed()
    );
}
