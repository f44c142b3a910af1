//! Which rows of a trace are out of the order of time.
//!
//! The one idea: as few rows as possible are left out. So a time that is mistyped is left out by itself, whether it is too early or too
//! late, and the rows behind one that is far too late stay. What stays is a longest sequence of rows whose times never fall, found by
//! patience sorting (Fredman 1975, "On computing the length of longest increasing subsequences").

use std::fmt;

use crate::BadLine;
use crate::trace::Row;

/// How many of the lines that were left out were out of the order of time, as it is told behind the number of all of them:
/// `, 3 of them out of the order of time`, or nothing where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfOrder(pub usize);

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            lines => write!(f, ", {lines} of them out of the order of time"),
        }
    }
}

/// A row, and the number of its line.
pub(crate) type Numbered = (usize, Row);

/// The rows that are in order, and the lines of those that are not.
pub(crate) fn in_order(rows: Vec<Numbered>) -> (Vec<Numbered>, Vec<BadLine>) {
    let times: Vec<i128> = rows.iter().map(|(_, row)| row.at_ns).collect();
    if times.is_sorted() {
        return (rows, Vec::new());
    }
    let lines: Vec<usize> = rows.iter().map(|(line, _)| *line).collect();
    let places = longest(&times);
    let (mut kept, mut bad) = (Vec::with_capacity(places.len()), Vec::new());
    for (place, (line, row)) in rows.into_iter().enumerate() {
        let next = places.get(kept.len()).copied();
        if next == Some(place) {
            kept.push((line, row));
            continue;
        }
        let above = kept.last().map(|(line, row): &Numbered| (*line, row.at_ns));
        let below = next.map(|next| (lines[next], times[next]));
        bad.push(BadLine {
            line,
            reason: reason(row.at_ns, above, below),
        });
    }
    (kept, bad)
}

/// What is wrong with a row between two that are kept, each with its line and its time: it is too early for the one above or too late
/// for the one below, or it would have been kept.
fn reason(at: i128, above: Option<(usize, i128)>, below: Option<(usize, i128)>) -> String {
    let seconds = |nanos: i128| nanos as f64 / 1e9;
    let found = match (above, below) {
        (Some((line, time)), _) if at < time => {
            format!(
                "{} s before line {line}, which is above it",
                seconds(time - at)
            )
        }
        (_, Some((line, time))) => {
            format!(
                "{} s after line {line}, which is below it",
                seconds(at - time)
            )
        }
        _ => "at the wrong place".to_owned(),
    };
    format!("it comes {found}; expected the order of time")
}

/// The places of a longest sequence of times that never fall. Of several it is one that begins late and ends early, since a time far from
/// all others is likelier to be wrong.
///
/// Each time goes onto the first pile whose last time is later. So the times of a pile fall, and a time on a pile is not before some
/// time of the pile to its left that came sooner: a sequence with one time of each pile is as long as one can be.
fn longest(times: &[i128]) -> Vec<usize> {
    let mut piles: Vec<Vec<usize>> = Vec::new();
    for (place, &time) in times.iter().enumerate() {
        let pile = piles.partition_point(|pile| pile.last().is_some_and(|&it| times[it] <= time));
        match piles.get_mut(pile) {
            Some(pile) => pile.push(place),
            None => piles.push(vec![place]),
        }
    }
    // From the earliest end on, of each pile to the left the latest time that is not behind.
    let earliest = piles.last().and_then(|pile| pile.last());
    let mut end = earliest.map_or(i128::MAX, |&place| times[place]);
    let places = piles.iter().rev().filter_map(|pile| {
        let later = pile.partition_point(|&place| times[place] > end);
        let place = pile.get(later).copied()?;
        end = times[place];
        Some(place)
    });
    let mut places: Vec<usize> = places.collect();
    places.reverse();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_far_from_the_others_is_left_out_by_itself() {
        for (times, expected) in [
            (&[1, 2, 100, 3, 4][..], &[0, 1, 3, 4][..]),
            (&[100, 1, 2], &[1, 2]),
            (&[1, 2, 100, 3], &[0, 1, 3]),
            (&[5, 0, 6], &[0, 2]),
            (&[5, 6, 0, 7], &[0, 1, 3]),
            (&[1, 3, 2, 4], &[0, 1, 3]),
            (&[1, 90, 91, 2, 3, 4], &[0, 3, 4, 5]),
            (&[2, 2, 2], &[0, 1, 2]),
            (&[], &[]),
        ] {
            assert_eq!(longest(times), expected, "{times:?}");
        }
    }

    /// All sequences of six times of three, beside all of their parts.
    #[test]
    fn as_few_as_possible_are_left_out() {
        for code in 0..729_i128 {
            let times: Vec<i128> = (0..6_u32)
                .map(|digit| code / 3_i128.pow(digit) % 3)
                .collect();
            let part = |chosen: u32| -> Vec<i128> {
                let places = (0..6_usize).filter(|place| (chosen >> place) & 1 == 1);
                places.map(|place| times[place]).collect()
            };
            let parts = (0..64).map(part).filter(|part| part.is_sorted());
            let most = parts.map(|part| part.len()).max().unwrap();
            let places = longest(&times);
            assert_eq!(places.len(), most, "{times:?}");
            assert!(places.is_sorted_by(|a, b| a < b), "{times:?}");
            assert!(places.is_sorted_by_key(|&place| times[place]), "{times:?}");
        }
    }
}
