//! Rejection sampling once more, with a place for each mistake: what the tests of the distribution must find wrong,
//! and, without a mistake, right.

use maitre_sampling::{
    Distribution, Logits, Sampler,
    noise::{Noise, Purpose},
};
use maitre_speculative::{Acceptance, Drafted, Rules, Verifier};

/// How drafted tokens are verified.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verification {
    /// By the crate.
    Ours(Acceptance),
    /// By the code below.
    Theirs(Theirs),
}

/// Rejection sampling as it is or as one might get it wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theirs {
    /// A drafted token stands if the uniform number is below this many times p/q.
    pub(crate) lenience: f64,
    /// A token that does not stand is replaced by one drawn from p, not from max(p - q, 0).
    pub(crate) replaces_from_target: bool,
    /// The purposes of the numbers that judge a draft and replace it.
    pub(crate) judges: Purpose,
    pub(crate) replaces: Purpose,
}

impl Theirs {
    pub(crate) const RIGHT: Self = Self {
        lenience: 1.0,
        replaces_from_target: false,
        judges: Purpose::Accept,
        replaces: Purpose::Residual,
    };
}

/// The tokens of a step whose rows are those of `row`, a function of the drafted tokens before it.
pub(crate) fn verify<'r>(
    verification: Verification,
    rules: &Rules<'_>,
    sampler: &mut Sampler,
    drafts: &[Drafted],
    row: impl Fn(usize) -> &'r [f32],
) -> Vec<u32> {
    match verification {
        Verification::Ours(acceptance) => {
            let mut verifier = Verifier::new(*rules, drafts, acceptance);
            for at in 0..=drafts.len() {
                verifier.row(sampler, row(at).into()).unwrap();
            }
            let tokens = verifier.finish().tokens;
            tokens.into_iter().map(|sampled| sampled.token).collect()
        }
        Verification::Theirs(theirs) => theirs.verify(rules, sampler, drafts, row),
    }
}

impl Theirs {
    fn verify<'r>(
        self,
        rules: &Rules<'_>,
        sampler: &mut Sampler,
        drafts: &[Drafted],
        row: impl Fn(usize) -> &'r [f32],
    ) -> Vec<u32> {
        let (mut counts, mut tokens) = (rules.counts.clone(), Vec::new());
        for at in 0..=drafts.len() {
            let position = rules.generated + at as u64;
            let p = sampler
                .distribution(Logits::from(row(at)), rules.params, &counts, &[])
                .unwrap();
            let noise = |purpose| Noise {
                seed: rules.params.seed,
                position,
                purpose,
            };
            let Some(Drafted {
                token,
                distribution: Some(q),
            }) = drafts.get(at)
            else {
                tokens.push(p.draw(noise(Purpose::Target)));
                break;
            };
            let ratio = f64::from(p.probability(*token)) / f64::from(q.probability(*token));
            if noise(self.judges).uniform() >= self.lenience * ratio {
                tokens.push(self.replacement(&p, q).draw(noise(self.replaces)));
                break;
            }
            tokens.push(*token);
            counts.record(*token);
        }
        tokens
    }

    fn replacement(self, p: &Distribution, q: &Distribution) -> Distribution {
        if self.replaces_from_target {
            return p.clone();
        }
        let excess = p
            .iter()
            .map(|(token, share)| (token, share - q.probability(token)));
        // What accepts too much rejects tokens of which p has no less than q, too.
        Distribution::from_weights(excess).unwrap_or_else(|| p.clone())
    }
}
