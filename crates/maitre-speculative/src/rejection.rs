//! Speculative sampling: accepting a drafted token by its probabilities (Leviathan et al. 2023, "Fast inference
//! from transformers via speculative decoding", algorithm 1; Chen et al. 2023, "Accelerating large language model
//! decoding with speculative sampling", theorem 1).
//!
//! Let p be what the target draws from and q what the draft was drawn from. A drafted token x stands with
//! probability min(1, p(x)/q(x)); otherwise a token is drawn from what p has more than q, max(p - q, 0). A token x
//! then comes with probability min(p(x), q(x)) + max(p(x) - q(x), 0) = p(x), because the probability of not
//! accepting, 1 - Σ min(p, q), is just the sum of the differences. This needs three independent random choices at a
//! position: the draft, the verdict, the replacement.

use maitre_sampling::{
    Distribution, Logits, Sampled, Sampler, SamplingError, TokenCounts,
    noise::{Noise, Purpose},
};

use crate::{Drafted, Rules};

/// The token at output position `position`, and whether it is the drafted one that was accepted.
pub(crate) fn judge(
    rules: &Rules<'_>,
    sampler: &mut Sampler,
    row: Logits<'_>,
    counts: &TokenCounts,
    position: u64,
    drafted: &Drafted,
) -> Result<(Sampled, bool), SamplingError> {
    let noise = |purpose| Noise {
        seed: rules.params.seed,
        position,
        purpose,
    };
    let target = rules.distribution(sampler, row, counts, position)?;
    let is_accepted = noise(Purpose::Accept).uniform() < acceptance(&target, drafted);
    let token = if is_accepted {
        drafted.token
    } else {
        residual(&target, drafted).draw(noise(Purpose::Residual))
    };
    let logprobs = match rules.params.logprobs {
        Some(k) => Some(sampler.token_logprobs(row, token, k)?),
        None => None,
    };
    Ok((Sampled { token, logprobs }, is_accepted))
}

/// p(x)/q(x) of the drafted token: at least one if it is to be accepted in any case, zero if never. A token that its
/// distribution has not got was not drawn from it, and is not accepted.
fn acceptance(target: &Distribution, drafted: &Drafted) -> f64 {
    let q = match &drafted.distribution {
        Some(draft) => draft.probability(drafted.token),
        None => 1.0,
    };
    if q > 0.0 {
        f64::from(target.probability(drafted.token)) / f64::from(q)
    } else {
        0.0
    }
}

/// max(p - q, 0), normalised: what replaces a drafted token that was not accepted. If rounding leaves nothing,
/// p and q are the same but for it, and p will do.
fn residual(target: &Distribution, drafted: &Drafted) -> Distribution {
    let rest = match &drafted.distribution {
        Some(draft) => Distribution::from_weights(excess(target, draft)),
        None => {
            Distribution::from_weights(target.iter().filter(|(token, _)| *token != drafted.token))
        }
    };
    rest.unwrap_or_else(|| target.clone())
}

/// What `target` has more than `draft`, token by token of `target`: a walk along both.
fn excess(target: &Distribution, draft: &Distribution) -> impl Iterator<Item = (u32, f32)> {
    let mut draft = draft.iter().peekable();
    target.iter().map(move |(token, probability)| {
        while draft.next_if(|(other, _)| *other < token).is_some() {}
        let drafted = draft.next_if(|(other, _)| *other == token);
        (token, probability - drafted.map_or(0.0, |(_, q)| q))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(weights: &[(u32, f32)]) -> Distribution {
        Distribution::from_weights(weights.iter().copied()).unwrap()
    }

    fn drafted(token: u32, distribution: Option<Distribution>) -> Drafted {
        Drafted {
            token,
            distribution,
        }
    }

    #[test]
    fn a_draft_stands_by_the_ratio_of_the_probabilities() {
        let p = distribution(&[(1, 0.5), (2, 0.25), (4, 0.25)]);
        let q = distribution(&[(1, 0.25), (2, 0.5), (3, 0.25)]);
        let cases = [
            (1, Some(&q), 2.0),
            (2, Some(&q), 0.5),
            (3, Some(&q), 0.0),
            (4, Some(&q), 0.0), // not drawn from q at all
            (1, None, 0.5),
            (3, None, 0.0),
        ];
        for (token, q, expected) in cases {
            let found = acceptance(&p, &drafted(token, q.cloned()));
            assert_eq!(found, expected, "token {token} of {q:?}");
        }
    }

    #[test]
    fn what_replaces_a_draft_is_what_the_target_has_more() {
        let p = distribution(&[(1, 0.5), (2, 0.25), (4, 0.25)]);
        let q = distribution(&[(0, 0.125), (1, 0.375), (2, 0.5)]);
        let third = distribution(&[(1, 1.0), (4, 2.0)]);
        assert_eq!(residual(&p, &drafted(2, Some(q))), third);
        let without_1 = distribution(&[(2, 1.0), (4, 1.0)]);
        assert_eq!(residual(&p, &drafted(1, None)), without_1);
        assert_eq!(
            residual(&p, &drafted(2, Some(Distribution::point(9)))),
            p,
            "the draft takes nothing off"
        );
        assert_eq!(
            residual(&p, &drafted(1, Some(p.clone()))),
            p,
            "nothing is left"
        );
    }
}
