//! How many tokens to draft: as many as make the most tokens per second, often none.
//!
//! A step that verifies `r` rows takes `V(r)`, a round of drafting takes `D(s)` for `s` sequences, both as
//! measured. If drafts survive with the probabilities `p`, the step yields `tokens + Σ p` in
//! `rounds · D + V(rows + drafted)`. The quotient is maximised twice: before each
//! round of the draft model, looking ahead over the rounds that could follow, and at the end over all
//! tokens on offer, the likeliest first. Prompt tokens in the same step count as progress too: where the step
//! is bound by arithmetic already, a row for a draft is a row less for another request's prompt.

use std::time::Duration;

use crate::calibration::Calibration;
use crate::curve::Curve;

/// What has to be gained at least: estimates err, and a step without drafts is certain.
const LEAST_GAIN: f64 = 1.02;

/// What a prompt token is taken to cost the draft model, as a share of a round, where nothing is known.
const HOPED_CATCH_UP: f64 = 0.1;
/// What is kept of it in a step without the draft model.
const CATCH_UP_FORGETTING: f64 = 0.999;

/// What a step does beside verifying drafts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Sequences that get a token for sure.
    pub(crate) decodes: usize,
    /// Tokens of prompts.
    pub(crate) prompt_tokens: usize,
}

impl Shape {
    pub(crate) fn rows(self) -> usize {
        self.decodes + self.prompt_tokens
    }
}

/// What is on offer while drafts are being made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// Rows to be verified, all of the step's.
    pub(crate) rows: usize,
    /// Tokens that the step is expected to yield, its prompt tokens included.
    pub(crate) tokens: f64,
    /// Seconds spent on drafting.
    pub(crate) sunk: f64,
}

/// A sequence in the hands of the draft model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    /// The probability that all its drafts so far are accepted.
    pub(crate) survival: f64,
    /// The probability that the next one is, if these are.
    pub(crate) next: f64,
    /// Tokens that may still be drafted for it.
    pub(crate) space: usize,
}

impl Chain {
    /// The probability that its next draft is accepted with all before it.
    pub(crate) fn survives(&self) -> f64 {
        self.survival * self.next
    }
}

/// Learns what things cost and are worth, and decides.
#[derive(Debug, Default)]
pub(crate) struct Controller {
    pub(crate) calibration: Calibration,
    /// Steps of decodes, all of whose rows are sampled.
    decodes: Curve,
    /// Steps with prompt tokens in them.
    mixed: Curve,
    /// Rounds of the draft model, by sequences.
    rounds: Curve,
    /// Seconds per token that the draft model catches up on.
    catch_up: Option<f64>,
    /// Cost of the draft model over that of the target, for as long as no round was seen.
    draft_share: f64,
}

impl Controller {
    pub(crate) fn new(draft_share: f64) -> Self {
        Self {
            draft_share,
            ..Self::default()
        }
    }

    pub(crate) fn observe_step(&mut self, shape: Shape, rows: usize, took: Duration) {
        self.curve_mut(shape).observe(rows, took);
    }

    pub(crate) fn observe_round(&mut self, sequences: usize, took: Duration) {
        self.rounds.observe(sequences, took);
    }

    /// The draft model computed `tokens` beyond one of each of its `sequences`.
    pub(crate) fn observe_catch_up(&mut self, sequences: usize, tokens: usize, took: Duration) {
        let round = self.round_seconds(sequences);
        let each = (took.as_secs_f64() - round).max(0.0) / tokens.max(1) as f64;
        // A token read with others never costs more than one that is drafted alone.
        let each = each.min(self.round_seconds(1));
        self.catch_up = Some(
            self.catch_up
                .map_or(each, |known| known + 0.2 * (each - known)),
        );
    }

    /// A step for which the draft model was not run: what it would take to catch up is hoped to be less than
    /// it was.
    pub(crate) fn rest(&mut self) {
        self.calibration.rest();
        self.catch_up = self.catch_up.map(|each| each * CATCH_UP_FORGETTING);
    }

    /// Seconds of a step of this shape with so many rows in all.
    pub(crate) fn step_seconds(&self, shape: Shape, rows: usize) -> Option<f64> {
        self.curve(shape).seconds(rows)
    }

    /// The same, if the step is near enough to those that were run.
    fn near_seconds(&self, shape: Shape, rows: usize) -> Option<f64> {
        let curve = self.curve(shape);
        curve.seconds(rows).filter(|_| curve.is_near(rows))
    }

    fn curve(&self, shape: Shape) -> &Curve {
        match shape.prompt_tokens {
            0 => &self.decodes,
            _ => &self.mixed,
        }
    }

    fn curve_mut(&mut self, shape: Shape) -> &mut Curve {
        match shape.prompt_tokens {
            0 => &mut self.decodes,
            _ => &mut self.mixed,
        }
    }

    /// Seconds of a round for so many sequences.
    pub(crate) fn round_seconds(&self, sequences: usize) -> f64 {
        let known = self.rounds.seconds(sequences);
        let hoped = || Some(self.draft_share * self.decodes.seconds(sequences)?);
        known.or_else(hoped).unwrap_or(0.0)
    }

    /// Seconds until the draft model has caught up on so many tokens.
    pub(crate) fn catch_up_seconds(&self, tokens: usize) -> f64 {
        let each = self
            .catch_up
            .unwrap_or_else(|| HOPED_CATCH_UP * self.round_seconds(1));
        each * tokens as f64
    }

    /// The least probability of acceptance at which drafting pays in a step of `decodes` sequences: for
    /// all of them or for one, up to `most` tokens each; above 1 if it never does. Below that probability no
    /// sequence need ask for places.
    pub(crate) fn least_acceptance(&self, decodes: usize, most: usize, with_model: bool) -> f64 {
        let shape = Shape {
            decodes,
            prompt_tokens: 0,
        };
        let Some(alone) = self.step_seconds(shape, decodes) else {
            return 0.0;
        };
        // Of one sequence and of all: what so many drafts for each cost over a step without, per token of it.
        let costs = [1, decodes].map(|drafting| {
            let round = if with_model {
                self.round_seconds(drafting)
            } else {
                0.0
            };
            let cost = |drafts: usize| {
                let step = self.step_seconds(shape, decodes + drafting * drafts);
                step.map_or(0.0, |step| {
                    (step + drafts as f64 * round) * decodes as f64 / alone
                })
            };
            let costs: Vec<f64> = (1..=most).map(cost).collect();
            (drafting, costs)
        });
        let pays = |acceptance: f64| {
            costs.iter().any(|(drafting, costs)| {
                let mut tokens = decodes as f64;
                (1..).zip(costs).any(|(drafts, cost)| {
                    tokens += *drafting as f64 * acceptance.powi(drafts);
                    tokens >= LEAST_GAIN * cost
                })
            })
        };
        let tried = (1..20).map(|twentieths| 0.05 * f64::from(twentieths));
        let mut tried = tried.chain([0.99]);
        tried.find(|&acceptance| pays(acceptance)).unwrap_or(2.0)
    }

    /// For how many of these sequences, the likeliest first, the draft model should run one more round, and
    /// by how much tokens per second grow if it goes on for them as long as that pays.
    pub(crate) fn worth_drafting(
        &self,
        shape: Shape,
        offer: Offer,
        falling: &[Chain],
    ) -> (usize, f64) {
        let mut best = (0, LEAST_GAIN);
        for count in counts_up_to(falling.len()) {
            let round = self.round_seconds(count);
            let gain = self.best_gain(shape, offer, &falling[..count], round);
            if let Some(gain) = gain.filter(|&gain| gain > best.1) {
                best = (count, gain);
            }
        }
        best
    }

    /// The growth of tokens per second by as many further rounds for these sequences as pay; `None` as long
    /// as the time of a step is unknown.
    fn best_gain(&self, shape: Shape, offer: Offer, chains: &[Chain], round: f64) -> Option<f64> {
        let now = offer.tokens / (offer.sunk + self.step_seconds(shape, offer.rows)?);
        let mut survivals: Vec<f64> = chains.iter().map(|chain| chain.survival).collect();
        let (mut tokens, mut rows, mut best) = (offer.tokens, offer.rows, 1.0_f64);
        let most = chains.iter().map(|chain| chain.space).max().unwrap_or(0);
        for rounds in 1..=most {
            for (chain, survival) in chains.iter().zip(&mut survivals) {
                if chain.space >= rounds {
                    *survival *= chain.next;
                    tokens += *survival;
                    rows += 1;
                }
            }
            let Some(step) = self.near_seconds(shape, rows) else {
                break;
            };
            let seconds = offer.sunk + rounds as f64 * round + step;
            best = best.max(tokens / seconds / now);
        }
        Some(best)
    }

    /// How many of the tokens on offer, which have these probabilities of being accepted, falling, are worth
    /// their rows, `sunk` seconds having been spent on drafting them.
    pub(crate) fn worth_verifying(&self, shape: Shape, sunk: f64, falling: &[f64]) -> usize {
        let bare = shape.rows();
        let Some(alone) = self.step_seconds(shape, bare) else {
            return 0;
        };
        let (mut tokens, mut best) = (bare as f64, (LEAST_GAIN * bare as f64 / (sunk + alone), 0));
        for (index, probability) in falling.iter().enumerate() {
            tokens += probability;
            let Some(seconds) = self.near_seconds(shape, bare + index + 1) else {
                break;
            };
            let rate = tokens / (sunk + seconds);
            if rate > best.0 {
                best = (rate, index + 1);
            }
        }
        best.1
    }
}

/// 1 to `most`, ever sparser.
fn counts_up_to(most: usize) -> impl Iterator<Item = usize> {
    let next = move |&count: &usize| (count < most).then(|| (count + 1 + count / 3).min(most));
    std::iter::successors((most > 0).then_some(1), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose step takes 1 ms to read the weights, and 100 µs of arithmetic per row.
    fn taught() -> Controller {
        let mut controller = Controller::new(0.1);
        for _ in 0..10 {
            for rows in (1..=8).chain([16, 32, 64, 128, 256, 512]) {
                let took = Duration::from_micros(1000.max(100 * rows as u64));
                for prompt_tokens in [0, 1] {
                    let shape = Shape {
                        decodes: rows,
                        prompt_tokens,
                    };
                    controller.observe_step(shape, rows, took);
                }
            }
            for sequences in [1, 64] {
                controller.observe_round(sequences, Duration::from_micros(100));
            }
        }
        controller
    }

    fn decodes(decodes: usize) -> Shape {
        Shape {
            decodes,
            prompt_tokens: 0,
        }
    }

    #[test]
    fn one_user_gets_as_many_as_the_flat_part_holds() {
        let controller = taught();
        // Flat up to 8 rows, which was seen; hoped to be flat somewhat further, which is not far from that.
        let drafts = controller.worth_verifying(decodes(1), 0.0, &[0.9; 20]);
        assert!((7..=10).contains(&drafts), "{drafts}");
        assert_eq!(controller.worth_verifying(decodes(1), 0.0, &[0.001; 7]), 0);
        assert!(controller.least_acceptance(1, 8, false) < 0.1);
    }

    #[test]
    fn a_full_batch_gets_none() {
        let controller = taught();
        assert_eq!(controller.worth_verifying(decodes(64), 0.0, &[0.9; 64]), 0);
        assert!(controller.least_acceptance(64, 8, false) > 1.0);
    }

    #[test]
    fn prompts_are_not_delayed_for_guesses() {
        let controller = taught();
        let shape = Shape {
            decodes: 1,
            prompt_tokens: 255,
        };
        assert_eq!(controller.worth_verifying(shape, 0.0, &[0.9; 8]), 0);
    }

    #[test]
    fn the_draft_model_goes_on_while_its_next_token_is_likely_enough() {
        let controller = taught();
        let drafts = |next: f64| {
            let offer = Offer {
                rows: 1,
                tokens: 1.0,
                sunk: 0.0,
            };
            let chain = Chain {
                survival: 1.0,
                next,
                space: 8,
            };
            controller.worth_drafting(decodes(1), offer, &[chain])
        };
        // (1 - α^5) / (1 - α) / (1 + 4c), the textbook's figure, at α = 0.8 and c = 0.1.
        let (count, gain) = drafts(0.8);
        assert!(count == 1 && (gain - 2.4).abs() < 0.1, "{gain}");
        assert_eq!(drafts(0.5).0, 1);
        assert_eq!(drafts(0.05).0, 0);
    }

    #[test]
    fn the_likely_are_drafted_for_and_the_others_are_not() {
        let controller = taught();
        let offer = Offer {
            rows: 4,
            tokens: 4.0,
            sunk: 0.0,
        };
        let chain = |next| Chain {
            survival: 1.0,
            next,
            space: 4,
        };
        let chains = [chain(0.95), chain(0.9), chain(0.02), chain(0.01)];
        assert_eq!(controller.worth_drafting(decodes(4), offer, &chains).0, 2);
    }

    #[test]
    fn one_bad_moment_does_not_make_catching_up_dear_for_ever() {
        let mut controller = taught();
        controller.observe_catch_up(1, 10, Duration::from_secs(1));
        let dear = controller.catch_up_seconds(10);
        assert!(dear <= 10.0 * controller.round_seconds(1) + 1e-9, "{dear}");
        (0..3000).for_each(|_| controller.rest());
        assert!(controller.catch_up_seconds(10) < dear / 10.0);
    }

    #[test]
    fn who_knows_nothing_drafts_nothing_but_hopes() {
        let controller = Controller::new(0.1);
        assert_eq!(controller.worth_verifying(decodes(1), 0.0, &[0.99; 4]), 0);
        assert!(controller.least_acceptance(64, 4, true) == 0.0);
    }
}
