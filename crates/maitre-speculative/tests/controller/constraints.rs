//! What is drafted for a sequence under a constraint: what it is known to allow, and nothing else.

use std::time::Duration;

use maitre_model::CacheMoves;
use maitre_sampling::{SamplingParams, TokenCounts, TokenMask};
use maitre_speculative::{
    Acceptance, Allowed, DraftError, DraftRequest, Drafted, Drafter, Drafting, Rules, Speculate,
    Speculator, SpeculatorConfig,
};

/// Proposes this token, whatever is allowed.
struct Says(u32);

impl Drafter for Says {
    fn behind(&self, _request: &DraftRequest<'_>, _text: &[u32]) -> Option<usize> {
        Some(0)
    }

    fn draft(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        _acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        for drafting in draftings {
            let drafted = Drafted {
                token: self.0,
                distribution: None,
            };
            drafting.push(drafted, 0.9);
        }
        Ok(())
    }

    fn moved(&mut self, _moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        Ok(())
    }

    fn written(&mut self, _table: &[u32], _kept: usize, _end: usize) {}
}

/// A text whose own continuation is 7, 8, 9, 6.
const TEXT: [u32; 6] = [5, 6, 7, 8, 9, 6];

/// What is drafted behind [`TEXT`] for four places, and what was guessed before.
fn drafts(
    speculate: Speculate,
    drafter: Option<u32>,
    constraint: Option<Allowed<'_>>,
) -> (Vec<u32>, Vec<u32>) {
    let config = SpeculatorConfig {
        speculate,
        draft_tokens: 4,
        acceptance: Acceptance::Coupling,
        vocab_size: 100,
        draft_share: 0.1,
    };
    let drafter = drafter.map(|token| Box::new(Says(token)) as Box<dyn Drafter>);
    let mut speculator = Speculator::new(config, drafter);
    speculator.open(1, &TEXT);
    assert!(speculator.knows(1) && !speculator.knows(2));
    let guess = speculator.guess(1, 4);
    let (params, counts) = (SamplingParams::default(), TokenCounts::default());
    let request = DraftRequest {
        id: 1,
        most: 4,
        rules: Rules {
            params: &params,
            counts: &counts,
            generated: 0,
            stop_tokens: &[],
            min_tokens: 0,
            max_tokens: 100,
            constraint,
        },
        table: &[0],
        slots: &[0; 5],
    };
    let drafts = speculator.propose(&[request], 0, 0, &|| Duration::ZERO);
    let tokens = drafts[0].iter().map(|draft| draft.token);
    (tokens.collect(), guess)
}

fn masks(allowed: &[&[u32]]) -> Vec<TokenMask> {
    let mask = |tokens: &&[u32]| {
        let mut mask = TokenMask::new(100);
        tokens.iter().for_each(|token| mask.allow(*token));
        mask
    };
    allowed.iter().map(mask).collect()
}

#[test]
fn a_guess_goes_as_far_as_it_is_allowed() {
    let (free, guess) = drafts(Speculate::Suffix, None, None);
    assert_eq!(
        (&free[..], &guess[..]),
        (&[7, 8, 9, 6][..], &[7, 8, 9, 6][..])
    );
    let masks = masks(&[&[7], &[8, 3], &[4]]);
    for count in 0..=2 {
        let allowed = Allowed {
            drafts: &guess[..count],
            forced: false,
            masks: &masks[..count + 1],
        };
        let (found, _) = drafts(Speculate::Suffix, None, Some(allowed));
        assert_eq!(found, guess[..count]);
    }
}

#[test]
fn nothing_is_drafted_while_it_is_not_known_what_may_come() {
    for speculate in [Speculate::Suffix, Speculate::Draft, Speculate::Auto] {
        let (found, _) = drafts(speculate, Some(7), Some(Allowed::default()));
        assert!(found.is_empty(), "{speculate:?}: {found:?}");
    }
}

#[test]
fn what_has_to_come_is_drafted_as_far_as_there_are_places() {
    let tokens = [40, 41, 42, 43, 44, 45];
    let masks = masks(&[&[40], &[41], &[42], &[43], &[44], &[45], &[]]);
    for speculate in [Speculate::Suffix, Speculate::Draft, Speculate::Ngram] {
        let allowed = Allowed {
            drafts: &tokens,
            forced: true,
            masks: &masks,
        };
        let (found, _) = drafts(speculate, Some(7), Some(allowed));
        assert_eq!(found, tokens[..4], "{speculate:?}");
    }
}

#[test]
fn a_model_drafts_one_token_that_is_allowed() {
    assert_eq!(drafts(Speculate::Draft, Some(7), None).0, [7; 4]);
    // Known beyond the first place, but only behind another token.
    let masks = masks(&[&[7, 9], &[9], &[9]]);
    for (says, expected) in [(7, &[7][..]), (9, &[9]), (8, &[])] {
        let allowed = Allowed {
            drafts: &[7, 9],
            forced: false,
            masks: &masks,
        };
        let (found, _) = drafts(Speculate::Draft, Some(says), Some(allowed));
        assert_eq!(found, expected);
    }
}
