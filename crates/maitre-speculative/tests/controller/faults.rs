//! A drafter that fails costs its drafts and nothing else.

use std::time::Duration;

use maitre_model::CacheMoves;
use maitre_sampling::{SamplingParams, TokenCounts};
use maitre_speculative::{
    Acceptance, DraftError, DraftRequest, Drafted, Drafter, Drafting, Rules, Speculate, Speculator,
    SpeculatorConfig,
};

/// Fails in the rounds it is told to.
struct Unreliable {
    round: usize,
    fails: fn(usize) -> bool,
    panics: bool,
}

impl Drafter for Unreliable {
    fn behind(&self, _request: &DraftRequest<'_>, _text: &[u32]) -> Option<usize> {
        Some(0)
    }

    fn draft(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        _acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        self.round += 1;
        for drafting in draftings {
            let drafted = Drafted {
                token: 5,
                distribution: None,
            };
            drafting.push(drafted, 0.5);
        }
        assert!(!(self.panics && (self.fails)(self.round)), "injected");
        match (self.fails)(self.round) {
            true => Err(DraftError {
                message: "injected".into(),
            }),
            false => Ok(()),
        }
    }

    fn moved(&mut self, _moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        match self.panics {
            true => panic!("injected"),
            false => Ok(()),
        }
    }

    fn written(&mut self, _table: &[u32], _kept: usize, _end: usize) {}
}

/// Never has anything to say.
struct Silent;

impl Drafter for Silent {
    fn behind(&self, _request: &DraftRequest<'_>, _text: &[u32]) -> Option<usize> {
        Some(0)
    }

    fn draft(
        &mut self,
        _draftings: &mut [&mut Drafting<'_>],
        _acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        Ok(())
    }

    fn moved(&mut self, _moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        Ok(())
    }

    fn written(&mut self, _table: &[u32], _kept: usize, _end: usize) {}
}

fn speculator(fails: fn(usize) -> bool, panics: bool) -> Speculator {
    let drafter = Unreliable {
        round: 0,
        fails,
        panics,
    };
    speculator_with(Box::new(drafter))
}

fn speculator_with(drafter: Box<dyn Drafter>) -> Speculator {
    let config = SpeculatorConfig {
        speculate: Speculate::Draft,
        draft_tokens: 3,
        acceptance: Acceptance::Coupling,
        vocab_size: 100,
        draft_share: 0.1,
    };
    let mut speculator = Speculator::new(config, Some(drafter));
    speculator.open(1, &[1, 2]);
    speculator
}

fn drafted(speculator: &mut Speculator) -> usize {
    let (params, counts) = (SamplingParams::default(), TokenCounts::default());
    let request = DraftRequest {
        id: 1,
        most: 3,
        rules: Rules {
            params: &params,
            counts: &counts,
            generated: 0,
            stop_tokens: &[],
            min_tokens: 0,
            max_tokens: 100,
            constraint: None,
        },
        table: &[0],
        slots: &[0; 4],
    };
    let drafts = speculator.propose(&[request], 0, 0, &|| Duration::ZERO);
    drafts[0].len()
}

#[test]
fn a_step_whose_draft_fails_goes_on_without() {
    for panics in [false, true] {
        let mut speculator = speculator(|round| round == 2, panics);
        assert_eq!(drafted(&mut speculator), 0);
        assert_eq!(speculator.counts().draft_failures, 1);
        assert_eq!(drafted(&mut speculator), 3, "once is nothing");
    }
}

#[test]
fn a_drafter_that_keeps_failing_is_given_up() {
    for panics in [false, true] {
        let mut speculator = speculator(|_| true, panics);
        for failures in 1..=3 {
            assert!(speculator.has_drafter());
            assert_eq!(drafted(&mut speculator), 0);
            assert_eq!(speculator.counts().draft_failures, failures);
        }
        assert!(!speculator.has_drafter());
        assert_eq!(drafted(&mut speculator), 0);
        assert_eq!(speculator.counts().draft_failures, 3);
    }
}

#[test]
fn a_drafter_that_says_nothing_is_given_up() {
    let mut speculator = speculator_with(Box::new(Silent));
    for failures in 1..=3 {
        assert_eq!(drafted(&mut speculator), 0);
        assert_eq!(speculator.counts().draft_failures, failures);
    }
    assert!(!speculator.has_drafter());
}

#[test]
fn a_drafter_whose_cache_is_lost_is_given_up_at_once() {
    let mut speculator = speculator(|_| false, true);
    assert_eq!(drafted(&mut speculator), 3);
    speculator.moved(&CacheMoves::default());
    assert!(!speculator.has_drafter());
    assert_eq!(drafted(&mut speculator), 0);
}

#[test]
fn nobody_drafts_for_whom_it_does_not_know() {
    let mut speculator = speculator(|_| false, false);
    assert_eq!((speculator.wish(1), speculator.wish(2)), (3, 0));
    speculator.close(1);
    assert_eq!(speculator.wish(1), 0);
    assert_eq!(drafted(&mut speculator), 0);
}
