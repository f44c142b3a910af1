//! The crate's main type: it says which tokens to draft for which sequence, and learns which were accepted.
//!
//! Each step goes through here twice. [`Speculator::propose`] is told which sequences decode, and drafts tokens for
//! them from their own text, with the draft model, or not at all. [`Speculator::verified`],
//! [`Speculator::written`] and [`Speculator::ran`] are told what the step made of them.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use maitre_model::CacheMoves;

use crate::calibration::{Class, Habit};
use crate::controller::{Controller, Shape};
use crate::drafter::{DraftError, DraftRequest, Drafter};
use crate::{Acceptance, Guess, History, HistoryKind, SpeculationCounts};

/// Tokens of a sequence that are indexed in one step at most: a long prompt must not hold up the others.
const ABSORBED_PER_STEP: usize = 512;

/// The latest tokens of a sequence that are indexed at most.
const MOST_INDEXED: usize = 8 * 1024;

/// Bytes that a token and its place in the index take at most.
const BYTES_PER_TOKEN: u64 = 169;

/// Steps after which it is reckoned anew what a draft must promise.
const LEAST_EVERY: u64 = 8;

/// Failures in a row after which the draft model is given up.
pub(crate) const MOST_FAILURES: u32 = 3;

/// Tokens that an answer is taken to have before any has ended.
const USUAL_ANSWER: f64 = 64.0;

/// Where drafted tokens come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speculate {
    /// From nowhere.
    Off,
    /// From the sequence's own text, by its last 2 to 4 tokens; always as many as allowed.
    Ngram,
    /// From the sequence's own text, by the longest repetition; always as many as allowed.
    Suffix,
    /// From the draft model; always as many as allowed.
    Draft,
    /// From the sequence's own text or the draft model, whichever is likelier to be right, and as many as
    /// make the most tokens per second: often none.
    #[default]
    Auto,
}

/// How to speculate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeculatorConfig {
    /// Where drafted tokens come from.
    pub speculate: Speculate,
    /// The most tokens drafted for a sequence in a step.
    pub draft_tokens: usize,
    /// When one of them is accepted.
    pub acceptance: Acceptance,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// What a token costs the draft model over what it costs the target, as far as their sizes tell: where
    /// to begin before anything was measured.
    pub draft_share: f64,
}

/// What was proposed for a sequence in the current step.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) guess: Option<Guess>,
    /// What the draft model proposed, whether it was verified or not.
    pub(crate) model: Vec<(Class, u32)>,
}

/// A sequence that may be speculated for.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) history: History,
    pub(crate) habit: Habit,
    pub(crate) prompt_len: usize,
    /// How many of the last tokens had been guessed or matched when they came; 0 after a wrong guess.
    pub(crate) matched: usize,
    pub(crate) pending: Pending,
}

/// The acceptance from which on drafting pays in steps of so many sequences.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Least {
    decodes: usize,
    history: f64,
    model: f64,
}

/// Proposes tokens for the step at hand.
pub struct Speculator {
    pub(crate) config: SpeculatorConfig,
    pub(crate) drafter: Option<Box<dyn Drafter>>,
    pub(crate) failures: u32,
    pub(crate) controller: Controller,
    pub(crate) sequences: HashMap<u64, Sequence>,
    pub(crate) counts: SpeculationCounts,
    /// What a draft must promise for a sequence to ask for places.
    pub(crate) least: Least,
    pub(crate) steps: u64,
    /// Tokens of an answer, on average of late.
    pub(crate) usual_answer: f64,
    /// Whether the draft model has proposed anything in this step.
    pub(crate) model_ran: bool,
}

impl Speculator {
    /// A speculator that knows no sequence yet. Without a `drafter` it has only what sequences have said
    /// themselves to go by.
    #[must_use]
    pub fn new(config: SpeculatorConfig, drafter: Option<Box<dyn Drafter>>) -> Self {
        Self {
            config,
            drafter,
            failures: 0,
            controller: Controller::new(config.draft_share),
            sequences: HashMap::new(),
            counts: SpeculationCounts::new(config.draft_tokens),
            least: Least::default(),
            steps: 0,
            usual_answer: USUAL_ANSWER,
            model_ran: false,
        }
    }

    /// Bytes that a sequence of up to `tokens` takes at most while it decodes.
    #[must_use]
    pub fn bytes_per_sequence(tokens: usize) -> u64 {
        let indexed = tokens.min(MOST_INDEXED) as u64;
        let others = tokens as u64 - indexed;
        indexed * BYTES_PER_TOKEN + others * size_of::<u32>() as u64
    }

    /// From now on tokens may be drafted for sequence `id`, whose prompt this is.
    pub fn open(&mut self, id: u64, prompt: &[u32]) {
        let kind = match self.config.speculate {
            Speculate::Off => return,
            Speculate::Ngram => HistoryKind::Ngram,
            _ => HistoryKind::Suffix,
        };
        let sequence = Sequence {
            history: History::new(kind, prompt).with_most_indexed(MOST_INDEXED),
            habit: Habit::default(),
            prompt_len: prompt.len(),
            matched: 0,
            pending: Pending::default(),
        };
        self.sequences.insert(id, sequence);
    }

    /// Sequence `id` has ended.
    pub fn close(&mut self, id: u64) {
        if let Some(sequence) = self.sequences.remove(&id) {
            let answer = sequence.history.tokens().len() - sequence.prompt_len;
            if answer > 0 {
                self.usual_answer += 0.05 * (answer as f64 - self.usual_answer);
            }
        }
    }

    /// How many tokens the next step should let be drafted for sequence `id`.
    #[must_use]
    pub fn wish(&self, id: u64) -> usize {
        let Some(sequence) = self.sequences.get(&id) else {
            return 0;
        };
        let calibration = &self.controller.calibration;
        let class = Class::of_match(sequence.matched + 1);
        let pays = self.config.speculate != Speculate::Auto
            || calibration.acceptance(class, sequence.habit) >= self.least.history
            || (self.drafter.is_some() && calibration.of_model(sequence.habit) >= self.least.model);
        if pays { self.config.draft_tokens } else { 0 }
    }

    /// Whether tokens may be drafted for sequence `id` at all. Places are worth asking for where a constraint may say
    /// what has to come, whatever [`wish`](Self::wish) makes of guesses.
    #[must_use]
    pub fn knows(&self, id: u64) -> bool {
        self.sequences.contains_key(&id)
    }

    /// At most `most` tokens that sequence `id` may go on with, by its own text: to be shown to its constraint, before
    /// it is asked for drafts.
    pub fn guess(&mut self, id: u64, most: usize) -> Vec<u32> {
        let speculate = self.config.speculate;
        let Some(sequence) = self.sequences.get_mut(&id) else {
            return Vec::new();
        };
        let guess = sequence.guess(most, speculate);
        guess.map_or_else(Vec::new, |guess| guess.tokens)
    }

    /// Counts a failure of the drafter, and says whether it is the last that is put up with.
    pub(crate) fn report(&mut self, error: &DraftError) {
        self.failures += 1;
        self.counts.draft_failures += 1;
        let given_up = self.failures >= MOST_FAILURES;
        tracing::warn!(%error, given_up, "drafting failed");
    }

    /// From now on drafts come from a sequence's own text only.
    fn give_up(&mut self, error: &DraftError) {
        self.failures = MOST_FAILURES - 1;
        self.report(error);
        self.drafter = None;
    }

    /// Blocks are moved before the step.
    pub fn moved(&mut self, moves: &CacheMoves<'_>) {
        let Some(drafter) = &mut self.drafter else {
            return;
        };
        // Unwind safety: as below, what a panic leaves behind is not used.
        let moved = catch_unwind(AssertUnwindSafe(|| drafter.moved(moves)));
        if let Err(error) = moved.unwrap_or_else(|panic| Err(DraftError::from_panic(&*panic))) {
            // What its blocks hold now is unknown.
            self.give_up(&error);
        }
    }

    /// The target has written positions `kept..end` of this table: a prompt's tokens, or one decoded
    /// without drafts.
    pub fn written(&mut self, table: &[u32], kept: usize, end: usize) {
        let Some(drafter) = &mut self.drafter else {
            return;
        };
        // Unwind safety: a drafter that has panicked here is not used again.
        let told = catch_unwind(AssertUnwindSafe(|| drafter.written(table, kept, end)));
        if let Err(panic) = told {
            self.give_up(&DraftError::from_panic(&*panic));
        }
    }

    /// What became of a sequence that decoded: its next `tokens`, of which the first `accepted` had been
    /// drafted, among `drafted`.
    pub fn verified(
        &mut self,
        request: &DraftRequest<'_>,
        known: usize,
        drafted: usize,
        tokens: &[u32],
        accepted: usize,
    ) {
        let mut kept = known.saturating_sub(1);
        if let Some(sequence) = self.sequences.get_mut(&request.id) {
            let pending = std::mem::take(&mut sequence.pending);
            if let Some(last) = pending.model.len().checked_sub(1) {
                // It has not seen the last token it drafted, even if that was accepted.
                kept = known + accepted.min(last);
                let verdicts = verdicts(
                    self.config.acceptance,
                    &pending.model,
                    drafted,
                    tokens,
                    accepted,
                );
                for (&(class, _), right) in pending.model.iter().zip(verdicts) {
                    let calibration = &mut self.controller.calibration;
                    calibration.observe(class, &mut sequence.habit, right);
                }
                self.model_ran = true;
            }
            if let Some(guess) = pending.guess {
                sequence.learn(&mut self.controller, &guess, tokens);
            }
            sequence.history.extend(tokens);
        }
        // Past `kept`, the draft model has computed nothing that belongs to the text.
        self.written(request.table, kept, known + self.config.draft_tokens + 1);
        if drafted > 0 {
            self.counts.verified(drafted, accepted);
        }
    }

    /// Sequence `id` goes on with these tokens, which no draft was made for.
    pub fn said(&mut self, id: u64, tokens: &[u32]) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.history.extend(tokens);
        }
    }

    /// The step that `propose` was asked for has run its `rows` in this time, drafting aside.
    pub fn ran(&mut self, decodes: usize, prompt_tokens: usize, rows: usize, took: Duration) {
        let shape = Shape {
            decodes,
            prompt_tokens,
        };
        self.controller.observe_step(shape, rows, took);
        if !std::mem::take(&mut self.model_ran) && decodes > 0 {
            self.controller.rest();
        }
        self.steps += 1;
        let is_due = self.least.decodes != decodes || self.steps.is_multiple_of(LEAST_EVERY);
        if self.config.speculate == Speculate::Auto && decodes > 0 && is_due {
            let most = self.config.draft_tokens;
            let least = |model| self.controller.least_acceptance(decodes, most, model);
            self.least = Least {
                decodes,
                history: least(false),
                model: least(true),
            };
        }
    }

    /// What was drafted and accepted so far.
    #[must_use]
    pub fn counts(&self) -> &SpeculationCounts {
        &self.counts
    }

    /// Whether there is a draft model that works.
    #[must_use]
    pub fn has_drafter(&self) -> bool {
        self.drafter.is_some()
    }

    /// How to speculate.
    #[must_use]
    pub fn config(&self) -> &SpeculatorConfig {
        &self.config
    }
}

impl Sequence {
    /// Looks for what may come next in what was said before.
    pub(crate) fn look_back(&mut self, request: &DraftRequest<'_>, speculate: Speculate) {
        self.pending = Pending {
            guess: self.guess(request.most, speculate),
            model: Vec::new(),
        };
    }

    fn guess(&mut self, most: usize, speculate: Speculate) -> Option<Guess> {
        let is_asked = speculate != Speculate::Draft && self.history.absorb(ABSORBED_PER_STEP);
        is_asked.then(|| self.history.propose(most.max(1)))?
    }

    /// Compares a guess with what came, whether it was verified or not: it costs nothing to know.
    fn learn(&mut self, controller: &mut Controller, guess: &Guess, tokens: &[u32]) {
        for (index, (guessed, came)) in guess.tokens.iter().zip(tokens).enumerate() {
            let class = Class::of_match(guess.match_len + index);
            let right = guessed == came;
            self.matched = if right { guess.match_len + index } else { 0 };
            controller
                .calibration
                .observe(class, &mut self.habit, right);
            if !right {
                break;
            }
        }
    }
}

/// Which of the draft model's tokens were right, up to the first that was not. Under coupling that can
/// be told of those too that were not verified.
fn verdicts(
    acceptance: Acceptance,
    model: &[(Class, u32)],
    drafted: usize,
    tokens: &[u32],
    accepted: usize,
) -> Vec<bool> {
    let judged = match acceptance {
        Acceptance::Coupling => tokens.len(),
        Acceptance::Rejection => tokens.len().min(drafted),
    };
    let right = |(index, &(_, token)): (usize, &(Class, u32))| {
        index < accepted || (index >= drafted && tokens[index] == token)
    };
    let mut verdicts: Vec<bool> = model.iter().enumerate().take(judged).map(right).collect();
    let wrong = verdicts.iter().position(|right| !right);
    verdicts.truncate(wrong.map_or(judged, |wrong| wrong + 1));
    verdicts
}
