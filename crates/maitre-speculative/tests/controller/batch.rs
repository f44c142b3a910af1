//! A service in simulated time: so many users decode, each step costs what the machine says, and a drafter
//! is right as often as it is told to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maitre_model::CacheMoves;
use maitre_sampling::{SamplingParams, TokenCounts};
use maitre_speculative::{
    Acceptance, DraftError, DraftRequest, Drafted, Drafter, Drafting, Rules, Speculate, Speculator,
    SpeculatorConfig,
};

/// What things cost, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Reading the weights once.
    pub read: f64,
    /// The arithmetic of a row.
    pub row: f64,
    /// What every step takes beside both.
    pub fixed: f64,
    /// A round of drafting: once, and for each sequence.
    pub round: (f64, f64),
}

impl Machine {
    /// A step of this many rows.
    pub fn step(&self, rows: usize) -> f64 {
        self.fixed + self.read.max(self.row * rows as f64)
    }
}

/// SplitMix64: the same numbers in every run.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Time that passes only when [`Clock::pass`] is called.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn pass(&self, micros: f64) {
        let nanos = (micros * 1000.0) as u64;
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// What the target says at a position of a sequence; no text repeats itself.
pub fn truth(id: u64, position: usize) -> u32 {
    (id as u32) << 20 | position as u32
}

/// Drafts what is right with a probability of its own for each sequence.
pub struct Synthetic {
    pub machine: Machine,
    pub clock: Clock,
    pub dice: Dice,
    pub alpha: Alpha,
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
        let (once, each) = self.machine.round;
        self.clock.pass(once + each * draftings.len() as f64);
        for drafting in draftings {
            let id = drafting.request.id;
            let token = truth(id, drafting.text.len() + drafting.drafts.len());
            let wrong = self.dice.roll() >= (self.alpha)(id);
            let drafted = Drafted {
                token: token ^ u32::from(wrong) << 31,
                distribution: None,
            };
            drafting.push(drafted, f32::NAN);
        }
        Ok(())
    }

    fn moved(&mut self, _moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        Ok(())
    }

    fn written(&mut self, _table: &[u32], _kept: usize, _end: usize) {}
}

/// How often the drafter is right, by sequence.
pub type Alpha = fn(u64) -> f64;

/// What one simulation runs.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub machine: Machine,
    pub users: usize,
    pub alpha: Alpha,
    pub speculate: Speculate,
    pub draft_tokens: usize,
    pub steps: usize,
}

/// Tokens per simulated second, and drafted tokens per step, over the second half of the run and over all of
/// it.
pub fn run(plan: &Plan) -> (f64, f64) {
    let clock = Clock::default();
    let drafter = Synthetic {
        machine: plan.machine,
        clock: clock.clone(),
        dice: Dice(7),
        alpha: plan.alpha,
    };
    let config = SpeculatorConfig {
        speculate: plan.speculate,
        draft_tokens: plan.draft_tokens,
        acceptance: Acceptance::Coupling,
        vocab_size: usize::MAX,
        draft_share: 0.1,
    };
    let mut speculator = Speculator::new(config, Some(Box::new(drafter)));
    let mut texts: Vec<Vec<u32>> = (0..plan.users as u64)
        .map(|id| vec![truth(id, 0)])
        .collect();
    for (id, text) in texts.iter().enumerate() {
        speculator.open(id as u64, text);
    }
    let mut noise = Dice(11);
    let (mut tokens, mut drafted) = (0, 0);
    for _ in 0..plan.steps {
        let (came, drafts, rows) = step(&mut speculator, &mut texts, &clock);
        let took = plan.machine.step(rows) * (0.95 + 0.1 * noise.roll());
        // Now and then the machine is busy with something else.
        let took = if noise.roll() < 0.01 {
            5.0 * took
        } else {
            took
        };
        clock.pass(took);
        speculator.ran(
            texts.len(),
            0,
            rows,
            Duration::from_nanos((took * 1000.0) as u64),
        );
        tokens += came;
        drafted += drafts;
    }
    let seconds = clock.now().as_secs_f64();
    (tokens as f64 / seconds, drafted as f64 / plan.steps as f64)
}

/// Lets every sequence decode once: tokens that came, tokens drafted, rows verified.
fn step(
    speculator: &mut Speculator,
    texts: &mut [Vec<u32>],
    clock: &Clock,
) -> (usize, usize, usize) {
    let (params, counts) = (SamplingParams::default(), TokenCounts::default());
    let slots = [0; 65];
    let requests: Vec<DraftRequest<'_>> = (0..texts.len() as u64)
        .map(|id| DraftRequest {
            id,
            most: speculator.wish(id),
            rules: Rules {
                params: &params,
                counts: &counts,
                generated: 0,
                stop_tokens: &[],
                min_tokens: 0,
                max_tokens: 1_000_000,
                constraint: None,
            },
            table: &[],
            slots: &slots,
        })
        .collect();
    let drafts = speculator.propose(&requests, 0, 0, &|| clock.now());
    let (mut came, mut drafted) = (0, 0);
    for ((request, drafts), text) in requests.iter().zip(&drafts).zip(texts) {
        let known = text.len();
        let is_right =
            |(index, draft): &(usize, &Drafted)| draft.token == truth(request.id, known + index);
        let accepted = drafts.iter().enumerate().take_while(is_right).count();
        let new: Vec<u32> = (known..=known + accepted)
            .map(|position| truth(request.id, position))
            .collect();
        text.extend_from_slice(&new);
        speculator.verified(request, known, drafts.len(), &new, accepted);
        came += new.len();
        drafted += drafts.len();
    }
    (came, drafted, requests.len() + drafted)
}
