//! The bend: the load at which too few answers keep to the SLO.

use std::fmt;

/// Bad answers that a share has to allow of all rows: if it allows fewer, one answer decides on which side of it a load is.
const LEAST_ALLOWED: f64 = 2.0;

/// Where the share of good answers falls below what is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bend {
    /// So few rows were played that one bad answer would decide.
    TooFewRows,
    /// It is too small at the smallest load already, which is this one.
    Before(f64),
    /// Between two loads that were tried.
    At(f64),
    /// It is large enough at all loads; the largest is this one.
    Beyond(f64),
}

impl Bend {
    /// Whether so few rows have no bend. Of a share of all answers one decides however many rows there are, as is asked for.
    pub(super) fn are_too_few(rows: usize, wanted: f64) -> bool {
        // 40 rows of which 5 % may be bad are 2, less what rounding takes.
        wanted < 1.0 && rows as f64 * (1.0 - wanted) < LEAST_ALLOWED - 1e-9
    }

    /// Of shares at loads, which are in order; `None` without any.
    ///
    /// More load makes no server better, so a share that is larger than one at a smaller load is chance. Such neighbours
    /// count with their mean (isotonic regression). Between two loads the share is taken to fall along a straight line.
    pub(super) fn of(points: &[(f64, f64)], wanted: f64) -> Option<Self> {
        let shares = falling(points.iter().map(|point| point.1));
        let points: Vec<(f64, f64)> = points.iter().map(|it| it.0).zip(shares).collect();
        let (first, last) = (points.first()?, points.last()?);
        if first.1 < wanted {
            return Some(Self::Before(first.0));
        }
        let across = points.windows(2).find(|pair| pair[1].1 < wanted);
        let Some([(left, enough), (right, too_little)]) = across else {
            return Some(Self::Beyond(last.0));
        };
        let part = (enough - wanted) / (enough - too_little);
        Some(Self::At(left + part * (right - left)))
    }

    /// The load, if it is between two that were tried.
    pub(super) fn load(self) -> Option<f64> {
        match self {
            Self::At(load) => Some(load),
            Self::TooFewRows | Self::Before(_) | Self::Beyond(_) => None,
        }
    }
}

impl fmt::Display for Bend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewRows => write!(f, "too few rows"),
            Self::Before(load) => write!(f, "below {load:.2}"),
            Self::At(load) => write!(f, "{load:.2}"),
            Self::Beyond(load) => write!(f, "above {load:.2}"),
        }
    }
}

/// The values nearest to these of which none is larger than the one before: neighbours that rise are replaced by their
/// mean until there are none (pool adjacent violators).
fn falling(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for value in values {
        let mut pool = (value, 1);
        while let Some(&(mean, count)) = pools.last()
            && mean < pool.0
        {
            let all = count + pool.1;
            pool.0 = (mean * count as f64 + pool.0 * pool.1 as f64) / all as f64;
            pool.1 = all;
            pools.pop();
        }
        pools.push(pool);
    }
    let each = |(mean, count)| std::iter::repeat_n(mean, count);
    pools.into_iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOADS: [f64; 4] = [0.4, 0.8, 1.2, 1.6];

    fn bend(shares: [f64; 4]) -> Bend {
        let points: Vec<(f64, f64)> = LOADS.into_iter().zip(shares).collect();
        Bend::of(&points, 0.95).unwrap()
    }

    #[track_caller]
    fn at(shares: [f64; 4], expected: f64) {
        let load = bend(shares).load().unwrap();
        assert!((load - expected).abs() < 1e-9, "{load}");
    }

    #[test]
    fn the_bend_is_on_the_line_between_two_loads() {
        at([1.0, 1.0, 0.9, 0.0], 1.0);
        at([1.0, 0.97, 0.87, 0.5], 0.88);
        // Exactly what is wanted is enough.
        at([1.0, 0.95, 0.45, 0.0], 0.8);
        assert_eq!(bend([1.0, 0.95, 0.45, 0.0]).to_string(), "0.80");
    }

    #[test]
    fn a_share_that_never_or_always_is_too_small_has_no_bend_between_loads() {
        let never = bend([1.0, 1.0, 0.99, 0.95]);
        assert_eq!((never, never.load()), (Bend::Beyond(1.6), None));
        assert_eq!(never.to_string(), "above 1.60");
        let always = bend([0.94, 0.5, 0.1, 0.0]);
        assert_eq!((always, always.load()), (Bend::Before(0.4), None));
        assert_eq!(always.to_string(), "below 0.40");
        assert_eq!(Bend::of(&[], 0.95), None);
        assert_eq!(Bend::of(&[(1.0, 1.0)], 0.95), Some(Bend::Beyond(1.0)));
    }

    #[test]
    fn rows_of_which_one_answer_decides_are_too_few() {
        assert!(Bend::are_too_few(27, 0.95) && Bend::are_too_few(39, 0.95));
        assert!(!Bend::are_too_few(40, 0.95) && !Bend::are_too_few(20, 0.9));
        assert!(
            !Bend::are_too_few(20, 1.0),
            "one answer decides as is asked for"
        );
        assert_eq!(Bend::TooFewRows.to_string(), "too few rows");
        assert_eq!(Bend::TooFewRows.load(), None);
    }

    #[test]
    fn shares_that_rise_with_the_load_count_with_their_mean() {
        // 0.94 and 1.0 are 0.97 both: the first load is no bend.
        at([0.94, 1.0, 0.93, 0.0], 1.0);
        assert_eq!(
            falling([0.5, 0.25, 0.75, 0.0].into_iter()),
            [0.5, 0.5, 0.5, 0.0]
        );
        let all = falling([0.0, 0.25, 0.5].into_iter());
        assert_eq!(all, [0.25; 3]);
    }
}
