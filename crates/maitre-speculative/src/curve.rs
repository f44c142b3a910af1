//! How long a step takes as a function of its rows, learnt from the steps themselves.
//!
//! No formula is assumed: reading the weights makes the curve flat at first, arithmetic makes it rise later,
//! and where it bends depends on the machine. Each number of rows (above 96, each sixteenth of an octave) has a
//! cell with the time it took. In between and beyond, the curve is taken to be as low as one can be that rises
//! ever faster: what looks good is tried, and then known.
//!
//! A machine that gets slower slows all steps, but only those that are run would tell. So the cells hold
//! times relative to one factor, which follows quickly, while the cells follow slowly.

use std::time::Duration;

/// Rows with a cell each.
const EXACT: usize = 96;
/// Cells per doubling beyond them.
const PER_OCTAVE: f64 = 16.0;
/// By how much the factor follows an observation that is above or below it.
const FACTOR_PACE: f64 = 0.01;
/// Observations that a cell keeps, and whose median it is; of fewer than three, of which any may have been
/// disturbed, the least.
const KEPT: usize = 9;
/// Observations of the whole curve after which a cell that was not among them is not believed any more:
/// now and then it is worth trying again.
const HORIZON: u64 = 2048;
/// The same for a cell with one observation, which may have been disturbed.
const SHORT_HORIZON: u64 = 64;
/// How much larger than one that was seen a step may be, for its promise to be tried; two rows in any case.
const NEAR: f64 = 1.0;
/// What a further row is taken to cost where nothing is known, as a share of the whole.
const HOPED_SLOPE: f64 = 0.03;

/// Times by rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Curve {
    cells: Vec<Cell>,
    /// What all cells are to be multiplied by now.
    factor: f64,
    observed: u64,
    /// The cell of the last observation.
    newest: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    rows: f64,
    /// What its observations amount to, over the factor.
    seconds: f64,
    /// The latest observations, over the factor.
    kept: [f64; KEPT],
    observations: usize,
    last: u64,
}

impl Cell {
    fn is_settled(&self) -> bool {
        self.observations >= KEPT
    }

    fn observe(&mut self, rows: f64, seconds: f64) {
        self.kept[self.observations % KEPT] = seconds;
        self.observations += 1;
        let count = self.observations.min(KEPT);
        self.rows += (rows - self.rows) / count as f64;
        let mut sorted = self.kept;
        let sorted = &mut sorted[..count];
        sorted.sort_unstable_by(f64::total_cmp);
        self.seconds = sorted[if count < 3 { 0 } else { count / 2 }];
    }
}

impl Curve {
    /// A step of `rows` took `took`.
    pub(crate) fn observe(&mut self, rows: usize, took: Duration) {
        let took = took.as_secs_f64();
        if rows == 0 || took <= 0.0 {
            return;
        }
        self.observed += 1;
        if self.factor == 0.0 {
            self.factor = 1.0;
        }
        let index = cell_of(rows);
        if self.cells.len() <= index {
            self.cells.resize(index + 1, Cell::default());
        }
        let cell = &mut self.cells[index];
        if self.observed - cell.last > HORIZON {
            *cell = Cell::default();
        }
        if cell.is_settled() {
            let error = took - cell.seconds * self.factor;
            self.factor *= 1.0 + FACTOR_PACE * error.signum();
        }
        // A cell that is observed alone tells nothing about itself beside the others: what it says is the
        // factor's.
        let is_alone = std::mem::replace(&mut self.newest, index) == index;
        if !(cell.is_settled() && is_alone) {
            cell.observe(rows as f64, took / self.factor);
        }
        cell.last = self.observed;
    }

    /// Seconds that a step of `rows` is expected to take; `None` as long as nothing is known. More rows never
    /// take less: where it seems so, the fewer are believed to be as quick.
    pub(crate) fn seconds(&self, rows: usize) -> Option<f64> {
        let above = self.cells.get(cell_of(rows) + 1..).unwrap_or(&[]);
        let known = above.iter().filter(|cell| self.is_known(cell));
        let least = known.map(|cell| cell.seconds).fold(f64::INFINITY, f64::min);
        Some(self.interpolated(rows)?.min(least * self.factor))
    }

    /// Whether a step of `rows` is known well enough to be run for what it promises: somewhat larger ones than
    /// those that were seen, so that a wrong hope costs little and the next one is better founded.
    pub(crate) fn is_near(&self, rows: usize) -> bool {
        let below = &self.cells[..self.cells.len().min(cell_of(rows) + 1)];
        let known = below.iter().rev().find(|cell| self.is_known(cell));
        known.is_some_and(|cell| rows as f64 <= cell.rows + (cell.rows * NEAR).max(2.0))
    }

    fn interpolated(&self, rows: usize) -> Option<f64> {
        let index = cell_of(rows);
        let rows = rows as f64;
        let known = |cell: &&Cell| self.is_known(cell);
        let (below, above) = self.cells.split_at(self.cells.len().min(index + 1));
        let lower = below.iter().rev().find(known);
        let upper = above.iter().find(known);
        let seconds = match (lower, upper) {
            (Some(lower), _) if lower.rows >= rows => lower.seconds,
            (Some(lower), Some(upper)) => {
                let share = (rows - lower.rows) / (upper.rows - lower.rows);
                let line = lower.seconds + share * (upper.seconds - lower.seconds);
                let from_below = lower.seconds + (rows - lower.rows) * self.slope_to(lower);
                from_below.max(self.extended_down(upper, rows)).min(line)
            }
            (Some(lower), None) => lower.seconds + (rows - lower.rows) * self.slope_to(lower),
            (None, Some(upper)) => {
                upper.seconds * (1.0 - HOPED_SLOPE * (upper.rows - rows)).max(0.5)
            }
            (None, None) => return None,
        };
        Some(seconds * self.factor)
    }

    /// Seconds per row from the first known cell to `last`.
    fn slope_to(&self, last: &Cell) -> f64 {
        let hoped = HOPED_SLOPE * last.seconds / last.rows.max(1.0);
        match self.cells.iter().find(|cell| self.is_known(cell)) {
            Some(first) if first.rows < last.rows => {
                ((last.seconds - first.seconds) / (last.rows - first.rows)).max(hoped)
            }
            _ => hoped,
        }
    }

    /// Where the line through `first` and the known cell after it was at fewer `rows`.
    fn extended_down(&self, first: &Cell, rows: f64) -> f64 {
        let beyond = |cell: &&Cell| self.is_known(cell) && cell.rows > first.rows;
        match self.cells.iter().find(beyond) {
            Some(next) => {
                let slope = (next.seconds - first.seconds) / (next.rows - first.rows);
                first.seconds - (first.rows - rows) * slope
            }
            None => f64::NEG_INFINITY,
        }
    }

    fn is_known(&self, cell: &Cell) -> bool {
        let horizon = match cell.observations {
            0 => return false,
            1 => SHORT_HORIZON,
            _ => HORIZON,
        };
        self.observed - cell.last <= horizon
    }
}

/// The cell of this many rows.
fn cell_of(rows: usize) -> usize {
    match rows.checked_sub(EXACT + 1) {
        None => rows,
        Some(_) => {
            let octaves = (rows as f64 / EXACT as f64).log2();
            EXACT + 1 + (PER_OCTAVE * octaves) as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn learnt(steps: impl IntoIterator<Item = (usize, u64)>) -> Curve {
        let mut curve = Curve::default();
        for (rows, took) in steps {
            curve.observe(rows, micros(took));
        }
        curve
    }

    fn close(curve: &Curve, rows: usize, expected_micros: f64) {
        let found = curve.seconds(rows).unwrap() * 1e6;
        let error = (found / expected_micros - 1.0).abs();
        assert!(error < 0.02, "{rows} rows: {found} for {expected_micros}");
    }

    #[test]
    fn cells_are_in_order_and_fine_enough() {
        for rows in 1..5000 {
            let step = cell_of(rows + 1) - cell_of(rows);
            assert!(step <= 1, "{rows}");
        }
        assert!(cell_of(64) > cell_of(63) && cell_of(512) > cell_of(490));
    }

    #[test]
    fn what_was_seen_is_known_and_what_lies_between_is_hoped_for() {
        let steps = (0..20).flat_map(|_| [(4, 1000), (16, 2000), (32, 4000)]);
        let curve = learnt(steps);
        close(&curve, 4, 1000.0);
        close(&curve, 16, 2000.0);
        // A curve that rises ever faster may be flat up to here, and then rise as it does from 16 on.
        assert!(curve.seconds(8).unwrap() < 1.1e-3);
        close(&curve, 15, 1875.0);
        close(&curve, 32, 4000.0);
        let curve = learnt((0..20).flat_map(|_| [(4, 1000), (16, 2000)]));
        assert!(curve.seconds(8).unwrap() < 1.1e-3);
    }

    #[test]
    fn what_is_beyond_is_hoped_to_go_on_like_that() {
        let curve = learnt([(1, 1000); 5]);
        assert!(curve.seconds(4).unwrap() < 1.2e-3);
        let curve = learnt((0..5).flat_map(|_| [(1, 1000), (3, 2000)]));
        close(&curve, 5, 3000.0);
        assert_eq!(Curve::default().seconds(1), None);
    }

    #[test]
    fn one_step_leads_to_the_next() {
        let curve = learnt([(1, 1000), (40, 5000)]);
        assert!(curve.is_near(1) && curve.is_near(3) && !curve.is_near(4));
        assert!(!curve.is_near(39) && curve.is_near(80) && !curve.is_near(81));
    }

    #[test]
    fn a_machine_that_gets_slower_slows_what_is_not_run_too() {
        let mut curve = learnt((0..20).flat_map(|_| [(1, 1000), (5, 1500)]));
        for _ in 0..200 {
            curve.observe(1, micros(3000));
        }
        close(&curve, 1, 3000.0);
        let ratio = curve.seconds(5).unwrap() / curve.seconds(1).unwrap();
        assert!((1.1..=1.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_disturbed_step_is_not_believed_alone() {
        let curve = learnt([(1, 1000), (1, 1000), (5, 90_000), (5, 1500), (5, 1500)]);
        assert!(curve.seconds(5).unwrap() < 2.5e-3);
    }

    #[test]
    fn what_was_not_tried_for_long_is_hoped_for_again() {
        let mut curve = learnt((0..20).flat_map(|_| [(1, 1000), (5, 5000)]));
        for _ in 0..HORIZON + 1 {
            curve.observe(1, micros(1000));
        }
        assert!(curve.seconds(5).unwrap() < 1.5e-3);
    }
}
