//! A drafter that knows the answer, and is right as often and as slow as it is told to be.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use maitre_model::CacheMoves;
use maitre_speculative::{Acceptance, DraftError, DraftRequest, Drafted, Drafter, Drafting};

use super::Script;

/// Fractional part of the golden ratio: its multiples fill the unit interval as evenly as any sequence does
/// (Niederreiter 1992, "Random number generation and quasi-Monte Carlo methods", chapter 3).
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// How the drafter behaves, and what it has spent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Temper {
    /// The probability that a token is right, given that those before it in the same draft are.
    pub acceptance: f64,
    /// Time that a round takes.
    pub round: Duration,
    /// Time that rounds took.
    pub spent: Duration,
    /// How many there were.
    pub rounds: u32,
    /// Drafts begun: the place in the sequence of chances.
    pub drafts: u32,
}

/// Drafts the script's tokens, or wrong ones. For one sequence at a time.
///
/// The chance that decides over a draft is taken from an even sequence, not drawn: the mean of a few dozen drafts
/// is then close to what is expected, where independent draws would need thousands.
pub struct Synthetic {
    script: Arc<Mutex<Script>>,
    temper: Arc<Mutex<Temper>>,
    /// Right tokens of the draft at hand.
    right: usize,
}

impl Synthetic {
    /// A drafter for this script, whose temper may be changed from outside.
    #[must_use]
    pub fn new(script: Arc<Mutex<Script>>, temper: Arc<Mutex<Temper>>) -> Self {
        Self {
            script,
            temper,
            right: 0,
        }
    }
}

/// Tokens that are right before the first wrong one, given a chance that is even in 0..1: at least `n` with
/// probability `acceptance` to the power of `n`.
fn run_of(chance: f64, acceptance: f64) -> usize {
    let mut reach = acceptance;
    let mut right = 0;
    while chance < reach && right < 64 {
        reach *= acceptance;
        right += 1;
    }
    right
}

impl Drafter for Synthetic {
    fn behind(&self, _request: &DraftRequest<'_>, _text: &[u32]) -> Option<usize> {
        Some(0)
    }

    fn draft(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        _acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        let began = Instant::now();
        let mut temper = self.temper.lock().unwrap_or_else(PoisonError::into_inner);
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        for drafting in draftings.iter_mut() {
            if drafting.drafts.is_empty() {
                temper.drafts += 1;
                let chance = (f64::from(temper.drafts) * GOLDEN).fract();
                self.right = run_of(chance, temper.acceptance);
            }
            let right = script.token(drafting.position() as usize);
            let is_right = drafting.drafts.len() < self.right;
            // The neighbour of a token is another one.
            let token = if is_right { right } else { right ^ 1 };
            let drafted = Drafted {
                token,
                distribution: None,
            };
            drafting.push(drafted, temper.acceptance as f32);
        }
        drop(script);
        while began.elapsed() < temper.round {
            std::hint::spin_loop();
        }
        temper.spent += began.elapsed();
        temper.rounds += 1;
        Ok(())
    }

    fn moved(&mut self, _moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        Ok(())
    }

    fn written(&mut self, _table: &[u32], _kept: usize, _end: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_token_is_right_as_often_as_asked() {
        for acceptance in [0.0, 0.3, 0.8, 1.0] {
            let runs: Vec<usize> = (1..=1000)
                .map(|draft| run_of((f64::from(draft) * GOLDEN).fract(), acceptance))
                .collect();
            for n in 1..=8 {
                let share = runs.iter().filter(|&&it| it >= n).count() as f64 / 1000.0;
                let expected = acceptance.powi(n as i32);
                assert!(
                    (share - expected).abs() < 0.005,
                    "{acceptance}, {n}: {share}"
                );
            }
        }
    }
}
