//! The statistics: with drafts, the first tokens of an answer are jointly distributed as without, under either
//! acceptance rule and whatever the lengths of the drafts; and the test of it finds rules that are wrong.
//!
//! Seeds are fixed, so the figures are the same each time; a sound rule would exceed the bound for about two in a
//! hundred thousand choices of the seeds.

use maitre_sampling::{
    Sampler, SamplingParams, TokenCounts,
    noise::{Noise, Purpose},
};
use maitre_speculative::{Acceptance, Drafted, Rules};

use crate::{
    exact,
    models::Markov,
    rules::{Theirs, Verification, verify},
};

const DRAWS: u64 = 100_000;
/// Standard normal deviate beyond which lies a share of 1.7·10⁻⁵ on both sides together: the level of
/// significance of one comparison.
const RARE: f64 = 4.3;
/// What a wrong rule must exceed.
const BLATANT: f64 = 20.0;

/// What a step drafts.
#[derive(Clone, Copy, Debug)]
enum Drafting {
    /// This many tokens.
    Fixed(usize),
    /// Zero to four, another number each step.
    Random,
    /// As many, but the most probable ones of the draft model instead of drawn ones.
    Favourites,
    /// Four, but a drawn token that is not the most probable one is thrown away.
    Confident,
}

impl Drafting {
    fn tokens_at_most(self, seed: u64, position: u64) -> usize {
        match self {
            Self::Fixed(tokens) => tokens,
            // Keyed apart from the seeds in use, so that it depends on no token.
            Self::Random | Self::Favourites => Noise::target(!seed, position).bits(0) as usize % 5,
            Self::Confident => 4,
        }
    }

    /// The token drafted on `row`, if it is to be verified.
    fn draft(
        self,
        sampler: &mut Sampler,
        rules: &Rules<'_>,
        row: &[f32],
        counts: &TokenCounts,
        position: u64,
        acceptance: Acceptance,
    ) -> Option<Drafted> {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if matches!(self, Self::Favourites) {
            let token = row.iter().position(|logit| *logit == most)? as u32;
            return Some(Drafted {
                token,
                distribution: None,
            });
        }
        let drafted = rules
            .draft(sampler, row.into(), counts, position, acceptance)
            .unwrap();
        let keeps = !matches!(self, Self::Confident) || row[drafted.token as usize] == most;
        keeps.then_some(drafted)
    }
}

/// The parameters in which acceptance could go wrong differently.
fn settings() -> [SamplingParams; 4] {
    let default = SamplingParams::default;
    [
        default(),
        SamplingParams {
            temperature: 0.7,
            top_p: 0.8,
            ..default()
        },
        SamplingParams {
            temperature: 1.5,
            top_k: 3,
            ..default()
        },
        SamplingParams {
            min_p: 0.15,
            frequency_penalty: 0.7,
            ..default()
        },
    ]
}

/// How far the first tokens of [`DRAWS`] answers are from the target's own distribution, in standard deviations.
fn deviate(verification: Verification, drafting: Drafting, params: &SamplingParams) -> f64 {
    let mut observed = vec![0; exact::ANSWERS];
    let mut sampler = Sampler::new();
    for seed in 0..DRAWS {
        let params = SamplingParams {
            seed,
            ..params.clone()
        };
        observed[exact::number(&answer(verification, drafting, &params, &mut sampler))] += 1;
    }
    exact::deviate(&observed, &exact::joint(&Markov::TARGET, params))
}

/// The answer to an empty prompt, as far as it is looked at or a little further.
fn answer(
    verification: Verification,
    drafting: Drafting,
    params: &SamplingParams,
    sampler: &mut Sampler,
) -> Vec<u32> {
    let (mut text, mut counts) = (Vec::new(), TokenCounts::default());
    while text.len() < exact::LENGTH {
        let rules = Rules {
            params,
            counts: &counts,
            generated: text.len() as u64,
            stop_tokens: &[],
            min_tokens: 0,
            max_tokens: u64::MAX,
            constraint: None,
        };
        let (drafts, guess) = draft(verification, drafting, &rules, &text, sampler);
        let row = |at: usize| &Markov::TARGET.row(&guess[..text.len() + at])[..];
        let tokens = verify(verification, &rules, sampler, &drafts, row);
        tokens.iter().for_each(|token| counts.record(*token));
        text.extend(tokens);
    }
    text
}

/// Drafts behind `text`, and the text with them.
fn draft(
    verification: Verification,
    drafting: Drafting,
    rules: &Rules<'_>,
    text: &[u32],
    sampler: &mut Sampler,
) -> (Vec<Drafted>, Vec<u32>) {
    let acceptance = match verification {
        Verification::Ours(acceptance) => acceptance,
        Verification::Theirs(_) => Acceptance::Rejection,
    };
    let (mut drafts, mut guess, mut counts) = (Vec::new(), text.to_vec(), rules.counts.clone());
    for _ in 0..drafting.tokens_at_most(rules.params.seed, rules.generated) {
        let (row, position) = (Markov::DRAFT.row(&guess), guess.len() as u64);
        let Some(drafted) = drafting.draft(sampler, rules, row, &counts, position, acceptance)
        else {
            break;
        };
        counts.record(drafted.token);
        guess.push(drafted.token);
        drafts.push(drafted);
    }
    (drafts, guess)
}

fn check(verification: Verification, drafting: Drafting, params: &SamplingParams) {
    let found = deviate(verification, drafting, params);
    assert!(
        found.abs() < RARE,
        "{verification:?}, {drafting:?}, {params:?}: {found:.1} off"
    );
}

/// The answers are the same whatever is drafted (see the tests of equality), so one way to draft will do.
#[test]
fn coupling_keeps_the_joint_distribution() {
    for params in settings() {
        check(
            Verification::Ours(Acceptance::Coupling),
            Drafting::Random,
            &params,
        );
    }
}

#[test]
fn rejection_keeps_the_joint_distribution() {
    let rejection = Verification::Ours(Acceptance::Rejection);
    for (params, tokens) in settings().iter().zip(1..) {
        check(rejection, Drafting::Random, params);
        check(rejection, Drafting::Favourites, params);
        check(rejection, Drafting::Fixed(tokens), params);
    }
}

#[test]
fn wrong_rules_are_found() {
    let right = Theirs::RIGHT;
    let wrong = [
        (
            "accepts if p > q/2",
            Theirs {
                lenience: 2.0,
                ..right
            },
        ),
        (
            "accepts half as often",
            Theirs {
                lenience: 0.5,
                ..right
            },
        ),
        (
            "replaces from p",
            Theirs {
                replaces_from_target: true,
                ..right
            },
        ),
        (
            "judges with the draft's number",
            Theirs {
                judges: Purpose::Draft,
                ..right
            },
        ),
        (
            "replaces with the draft's number",
            Theirs {
                replaces: Purpose::Draft,
                ..right
            },
        ),
        (
            "replaces with the verdict's number",
            Theirs {
                replaces: Purpose::Accept,
                ..right
            },
        ),
    ];
    let params = SamplingParams::default();
    check(Verification::Theirs(right), Drafting::Random, &params);
    for (mistake, theirs) in wrong {
        let found = deviate(Verification::Theirs(theirs), Drafting::Random, &params);
        assert!(found > BLATANT, "{mistake}: only {found:.1} off");
    }
}

/// Whether a token is drafted at all must not depend on which one it is, if it is accepted by its probability.
#[test]
fn only_coupling_may_throw_away_what_it_does_not_believe() {
    let params = SamplingParams::default();
    check(
        Verification::Ours(Acceptance::Coupling),
        Drafting::Confident,
        &params,
    );
    let found = deviate(
        Verification::Ours(Acceptance::Rejection),
        Drafting::Confident,
        &params,
    );
    assert!(found > BLATANT, "only {found:.1} off");
}
