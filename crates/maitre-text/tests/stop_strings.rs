//! The streaming search against a naive one over the whole text, for any way to cut the text.

#![allow(missing_docs)]

use maitre_text::StopStrings;
use proptest::prelude::*;

/// The specification: the first byte at which some stop string is complete; the longest one there;
/// the first of equal ones.
fn naive(text: &str, stops: &[String], include: bool) -> (String, Option<usize>) {
    for end in 1..=text.len() {
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
        .find(|suffix| stops.iter().any(|stop| stop.starts_with(suffix)))
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
        let (expected, matched) = naive(&text, &stops, include);
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
