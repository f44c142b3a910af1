//! What a step costs, learnt from the steps before, and how many tokens a step may have to end in time.
//!
//! A step of `x` tokens is taken to last `a + b * x`: reading the weights and everything else that has to be
//! done once, and the arithmetic of each token. Both are fitted to the latest steps by least squares, older
//! ones counting less and less, so that the estimate follows as contexts grow or the machine gets busy.

use crate::Time;

/// What an observation still counts for after another one. About the last 30 steps matter.
const FORGETTING: f64 = 0.97;

/// Below this much observed weight an estimate says nothing.
const ENOUGH: f64 = 4.0;

/// A line through the costs of recent steps.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepCost {
    weight: f64,
    tokens: f64,
    seconds: f64,
    tokens_squared: f64,
    tokens_seconds: f64,
}

/// A step of `x` tokens lasts `base + per_token * x` seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    pub(crate) base: f64,
    pub(crate) per_token: f64,
}

impl StepCost {
    /// A step of `tokens` took `took`.
    pub(crate) fn observe(&mut self, tokens: usize, took: Time) {
        let (x, y) = (tokens as f64, took.as_secs_f64());
        self.forget();
        self.weight += 1.0;
        self.tokens += x;
        self.seconds += y;
        self.tokens_squared += x * x;
        self.tokens_seconds += x * y;
    }

    /// The line, once there is enough to draw it through. Where all steps had about as many tokens, or the
    /// larger ones were not slower, the whole cost is laid on the tokens, which errs towards smaller steps.
    pub(crate) fn line(&self) -> Option<Line> {
        if self.weight < ENOUGH {
            return None;
        }
        let (mean_x, mean_y) = (self.tokens / self.weight, self.seconds / self.weight);
        let variance = self.tokens_squared / self.weight - mean_x * mean_x;
        let covariance = self.tokens_seconds / self.weight - mean_x * mean_y;
        let slope = covariance / variance;
        let base = mean_y - slope * mean_x;
        let told_apart = variance > (0.05 * mean_x) * (0.05 * mean_x);
        Some(if told_apart && slope > 0.0 && base >= 0.0 {
            Line {
                base,
                per_token: slope,
            }
        } else {
            Line {
                base: 0.0,
                per_token: mean_y / mean_x.max(1.0),
            }
        })
    }

    /// The tokens of a step that is to last `target`; `None` as long as nothing is known.
    pub(crate) fn tokens_within(&self, target: Time) -> Option<usize> {
        let line = self.line()?;
        let tokens = (target.as_secs_f64() - line.base) / line.per_token.max(f64::MIN_POSITIVE);
        // Saturates: negative becomes 0, infinite the largest.
        Some(tokens as usize)
    }

    /// A step in which there was nothing to observe.
    pub(crate) fn forget(&mut self) {
        for sum in [
            &mut self.weight,
            &mut self.tokens,
            &mut self.seconds,
            &mut self.tokens_squared,
            &mut self.tokens_seconds,
        ] {
            *sum *= FORGETTING;
        }
    }
}

/// What a count of blocks still counts for a step later: the last thousand steps matter.
const FORGETTING_RETURNS: f64 = 0.999;

/// Blocks that are taken to have left and half of them to have come back, where nothing is known.
const PRIOR: f64 = 16.0;

/// How many of the blocks that leave the pool come back from the host tier: one that never does was copied for
/// nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Returns {
    out: f64,
    back: f64,
    /// The totals when they were last looked at.
    seen: (u64, u64),
}

impl Returns {
    /// So many have left and come back since the start.
    pub(crate) fn observe(&mut self, out: u64, back: u64) {
        self.out = self.out * FORGETTING_RETURNS + (out - self.seen.0) as f64;
        self.back = self.back * FORGETTING_RETURNS + (back - self.seen.1) as f64;
        self.seen = (out, back);
    }

    /// The share that comes back, above 0.
    pub(crate) fn share(&self) -> f64 {
        (self.back + PRIOR / 2.0) / (self.out + PRIOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(steps: impl IntoIterator<Item = (usize, u64)>) -> StepCost {
        let mut cost = StepCost::default();
        for (tokens, millis) in steps {
            cost.observe(tokens, Time::from_millis(millis));
        }
        cost
    }

    #[test]
    fn a_line_is_found_and_says_how_many_tokens_fit() {
        let cost = observed((1..20).map(|x| (8 * x, 10 + 16 * x as u64)));
        let line = cost.line().unwrap();
        assert!((line.base - 0.010).abs() < 1e-9 && (line.per_token - 0.002).abs() < 1e-9);
        assert_eq!(cost.tokens_within(Time::from_millis(51)), Some(20));
        assert_eq!(cost.tokens_within(Time::from_millis(9)), Some(0));
    }

    #[test]
    fn it_follows_when_the_machine_gets_slower() {
        let cost = observed((0..100).map(|i| (1 + i % 64, if i < 50 { 10 } else { 1000 })));
        assert!(cost.tokens_within(Time::from_millis(100)).unwrap() < 10);
    }

    #[test]
    fn what_is_not_tried_is_forgotten_and_tried_again() {
        let mut cost = observed([(1, 100); 50]);
        for _ in 0..100 {
            cost.forget();
        }
        assert_eq!(cost.line(), None);
        let mut returns = Returns::default();
        assert_eq!(returns.share(), 0.5);
        returns.observe(10_000, 0);
        assert!(returns.share() < 0.001);
        (0..10_000).for_each(|_| returns.observe(10_000, 0));
        assert!(returns.share() > 0.4, "{}", returns.share());
    }

    #[test]
    fn steps_that_are_all_alike_are_not_taken_for_free() {
        let cost = observed([(16, 40); 10]);
        assert_eq!(
            cost.line(),
            Some(Line {
                base: 0.0,
                per_token: 0.0025
            })
        );
        assert_eq!(cost.tokens_within(Time::from_millis(20)), Some(8));
        assert_eq!(observed([(16, 40); 3]).line(), None, "too few to tell");
    }
}
