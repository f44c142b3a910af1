//! Requests, what is drafted for them, and their answers with and without drafts.

use maitre_sampling::{Distribution, Logits, Sampled, Sampler, SamplingParams, TokenCounts};
use maitre_speculative::{Acceptance, Drafted, Rules, Verified, Verifier};
use proptest::prelude::*;

use crate::models::Hashed;

/// A request and the model that answers it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    model: Hashed,
    prompt: Vec<u32>,
    pub(crate) params: SamplingParams,
    stop_tokens: Vec<u32>,
    min_tokens: u64,
    max_tokens: u64,
}

/// Where a drafted token comes from.
#[derive(Clone, Debug)]
pub(crate) enum Guess {
    /// The answer itself.
    Right,
    /// Not the answer, by this much.
    Wrong(u32),
    /// Anything, even what the vocabulary has not got.
    Any(u32),
    /// A stop token.
    Stop,
    /// A draft model's.
    Model,
}

/// What a step does: drafts, and is broken off at the row of this number to be done again.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    drafts: Vec<Guess>,
    broken_at: Option<usize>,
}

impl Case {
    pub(crate) fn rules<'a>(&'a self, counts: &'a TokenCounts, generated: usize) -> Rules<'a> {
        Rules {
            params: &self.params,
            counts,
            generated: generated as u64,
            stop_tokens: &self.stop_tokens,
            min_tokens: self.min_tokens,
            max_tokens: self.max_tokens,
            constraint: None,
        }
    }

    /// The row behind the prompt and `answer`.
    pub(crate) fn row(&self, answer: &[u32]) -> Vec<f32> {
        self.model.row(&[&self.prompt, answer].concat())
    }

    pub(crate) fn counts(&self, answer: &[u32]) -> TokenCounts {
        let mut counts = TokenCounts::new(&self.prompt);
        answer.iter().for_each(|token| counts.record(*token));
        counts
    }

    /// The answer without speculation, by the sampler alone.
    pub(crate) fn plain(&self) -> Vec<Sampled> {
        let (mut answer, mut sampled, mut sampler) = (Vec::new(), Vec::new(), Sampler::new());
        for position in 0..self.max_tokens {
            let held_back = if position < self.min_tokens {
                &self.stop_tokens[..]
            } else {
                &[]
            };
            let (row, counts) = (self.row(&answer), self.counts(&answer));
            let next = sampler
                .sample(&row, &self.params, &counts, position, held_back)
                .unwrap();
            answer.push(next.token);
            sampled.push(next);
            if self.stop_tokens.contains(answer.last().unwrap()) {
                break;
            }
        }
        sampled
    }

    /// The tokens of `guesses` behind `answer`.
    fn draft(
        &self,
        sampler: &mut Sampler,
        guesses: &[Guess],
        answer: &[u32],
        plain: &[Sampled],
        acceptance: Acceptance,
    ) -> Vec<Drafted> {
        let drafter = Hashed {
            spread: self.model.spread * 0.9,
            ..self.model.clone()
        };
        let (mut drafts, mut text) = (Vec::new(), answer.to_vec());
        for guess in guesses {
            let counts = self.counts(&text);
            let rules = self.rules(&counts, answer.len());
            let position = text.len() as u64;
            let right = plain.get(text.len()).map_or(0, |sampled| sampled.token);
            let fixed = |token| Drafted {
                token,
                distribution: None,
            };
            let drafted = match guess {
                Guess::Right => fixed(right),
                Guess::Wrong(by) => fixed(right.wrapping_add(*by)),
                Guess::Any(token) => Drafted {
                    token: *token,
                    distribution: Some(Distribution::point(*token)),
                },
                Guess::Stop => fixed(self.stop_tokens.first().copied().unwrap_or(u32::MAX)),
                Guess::Model => {
                    let row = drafter.row(&[&self.prompt, &text[..]].concat());
                    let drafted = rules
                        .draft(sampler, (&row).into(), &counts, position, acceptance)
                        .unwrap();
                    assert!(!rules.banned(position).contains(&drafted.token));
                    drafted
                }
            };
            text.push(drafted.token);
            drafts.push(drafted);
        }
        drafts
    }

    /// One step behind `answer`. If it is to be broken off, once with a row that is no logits: thrown away then, or
    /// gone on with when that row has been computed again.
    pub(crate) fn step(
        &self,
        sampler: &mut Sampler,
        drafts: &[Drafted],
        answer: &[u32],
        broken_at: Option<usize>,
        acceptance: Acceptance,
    ) -> Verified {
        let counts = self.counts(answer);
        let drafted = drafts.iter().map(|drafted| drafted.token);
        let text: Vec<u32> = answer.iter().copied().chain(drafted).collect();
        let nan = vec![f32::NAN; self.model.vocab];
        let new = || Verifier::new(self.rules(&counts, answer.len()), drafts, acceptance);
        let mut verifier = new();
        for at in 0..=drafts.len() {
            let row = self.row(&text[..answer.len() + at]);
            // After the decision nothing is looked at: not even what would be an error.
            let row = if verifier.is_done() { &nan } else { &row };
            if broken_at == Some(at) && !verifier.is_done() {
                verifier.row(sampler, Logits::from(&nan)).unwrap_err();
                if at % 2 == 1 {
                    return self.step(sampler, drafts, answer, None, acceptance);
                }
            }
            verifier.row(sampler, Logits::from(row)).unwrap();
        }
        assert!(verifier.is_done());
        verifier.finish()
    }

    /// The whole answer by `steps`, over and over.
    pub(crate) fn speculated(
        &self,
        steps: &[Step],
        plain: &[Sampled],
        acceptance: Acceptance,
    ) -> Vec<Sampled> {
        let (mut answer, mut all, mut sampler) = (Vec::new(), Vec::new(), Sampler::new());
        for Step { drafts, broken_at } in steps.iter().cycle() {
            let drafts = self.draft(&mut sampler, drafts, &answer, plain, acceptance);
            let Verified { tokens, accepted } =
                self.step(&mut sampler, &drafts, &answer, *broken_at, acceptance);
            let right = |(drafted, sampled): &(&Drafted, &Sampled)| drafted.token == sampled.token;
            let agreeing = drafts.iter().zip(&tokens).take_while(right).count();
            if acceptance == Acceptance::Coupling {
                assert_eq!(accepted, agreeing);
            }
            answer.extend(tokens.iter().map(|sampled| sampled.token));
            let ended = answer.len() as u64 >= self.max_tokens
                || self.stop_tokens.contains(answer.last().unwrap());
            assert!(tokens.len() == accepted + 1 || (ended && tokens.len() == accepted));
            all.extend(tokens);
            if ended {
                return all;
            }
        }
        all
    }
}

fn params() -> impl Strategy<Value = SamplingParams> {
    let truncation = (
        prop_oneof![Just(0.0_f32), Just(1.0_f32), 0.1..2.0_f32],
        prop_oneof![Just(1.0_f32), 0.1..1.0_f32],
        prop_oneof![Just(0_u32), 1..20_u32],
        prop_oneof![Just(0.0_f32), 0.0..0.5_f32],
    );
    let penalties = (
        prop_oneof![Just(1.0_f32), 0.5..2.0_f32],
        prop_oneof![Just(0.0_f32), -2.0..2.0_f32],
        prop_oneof![Just(0.0_f32), -2.0..2.0_f32],
    );
    let bias = prop::collection::btree_map(0..9_u32, -5.0..5.0_f32, 0..3);
    let logprobs = prop::option::of(0..4_u32);
    (truncation, penalties, bias, logprobs, any::<u64>()).prop_map(
        |(
            (temperature, top_p, top_k, min_p),
            (repetition, frequency, presence),
            bias,
            logprobs,
            seed,
        )| {
            SamplingParams {
                temperature,
                top_p,
                top_k,
                min_p,
                repetition_penalty: repetition,
                frequency_penalty: frequency,
                presence_penalty: presence,
                seed,
                logit_bias: bias.into_iter().collect(),
                logprobs,
            }
        },
    )
}

/// Vocabularies of up to a block and a half; stop tokens few enough to leave something else.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let model =
        (17..96_usize, 0.3..6.0_f32, any::<u64>()).prop_map(|(vocab, spread, seed)| Hashed {
            vocab,
            spread,
            seed,
        });
    let prompt = prop::collection::vec(0..17_u32, 0..6);
    let stop_tokens = prop::collection::vec(1..17_u32, 0..4);
    (model, prompt, params(), stop_tokens, 0..9_u64, 1..24_u64).prop_map(
        |(model, prompt, params, stop_tokens, min_tokens, max_tokens)| Case {
            model,
            prompt,
            params,
            stop_tokens,
            min_tokens,
            max_tokens,
        },
    )
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guess = prop_oneof![
        6 => Just(Guess::Right),
        1 => (1..5_u32).prop_map(Guess::Wrong),
        1 => prop_oneof![0..100_u32, Just(u32::MAX)].prop_map(Guess::Any),
        1 => Just(Guess::Stop),
        3 => Just(Guess::Model),
    ];
    let drafts = prop::collection::vec(guess, 0..8);
    let broken_at = prop_oneof![4 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    let step = (drafts, broken_at).prop_map(|(drafts, broken_at)| Step { drafts, broken_at });
    prop::collection::vec(step, 1..6)
}
