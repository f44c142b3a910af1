//! The large model and the small one, each with a cache of its own: an answer decoded as always, and the same answer
//! with guesses that the large model verifies.

use std::time::{Duration, Instant};

use anyhow::Result;
use maitre_examples::reader::Reader;
use maitre_sampling::{Sampled, Sampler, SamplingParams, TokenCounts};
use maitre_speculative::{Acceptance, Drafted, Rules, Verifier};

/// Tokens of an answer, unless it ends before.
const MOST_TOKENS: u64 = 48;

/// An answer, and how it came.
pub(super) struct Answer {
    pub(super) tokens: Vec<Sampled>,
    pub(super) steps: Vec<Step>,
    /// From behind the prompt to the last token.
    pub(super) took: Duration,
}

/// One step of the large model.
pub(super) struct Step {
    pub(super) drafted: Vec<u32>,
    pub(super) accepted: usize,
    /// What the large model adds, unless the answer ended with a guess.
    pub(super) own: Option<u32>,
}

/// The large model and the small one.
pub(super) struct Pair {
    pub(super) target: Reader,
    pub(super) draft: Reader,
    pub(super) sampler: Sampler,
    /// Ends an answer.
    pub(super) stop: [u32; 1],
}

impl Pair {
    /// Decoding as always: a step, a token.
    pub(super) fn plain(&mut self, prompt: &[u32], params: &SamplingParams) -> Result<Answer> {
        let mut text = self.begin(prompt)?;
        let (mut tokens, counts) = (Vec::new(), TokenCounts::default());
        let began = Instant::now();
        for position in 0..MOST_TOKENS {
            let row = &self.target.read(&text, 1)?[0];
            let sampled = self.sampler.sample(row, params, &counts, position, &[])?;
            text.push(sampled.token);
            let ends = self.stop.contains(&sampled.token);
            tokens.push(sampled);
            if ends {
                break;
            }
        }
        Ok(Answer {
            tokens,
            steps: Vec::new(),
            took: began.elapsed(),
        })
    }

    /// The same answer, with `drafts` guesses a step.
    pub(super) fn speculate(
        &mut self,
        prompt: &[u32],
        params: &SamplingParams,
        drafts: usize,
    ) -> Result<Answer> {
        let mut text = self.begin(prompt)?;
        let (mut tokens, mut steps) = (Vec::new(), Vec::new());
        let (counts, mut ended) = (TokenCounts::default(), false);
        let began = Instant::now();
        while !ended {
            let stop = self.stop;
            let rules = Rules {
                params,
                counts: &counts,
                generated: tokens.len() as u64,
                stop_tokens: &stop,
                min_tokens: 0,
                max_tokens: MOST_TOKENS,
                constraint: None,
            };
            // The last token comes without a guess, from the row behind the guess before.
            let left = MOST_TOKENS as usize - tokens.len() - 1;
            let drafted = self.guess(&text, &rules, drafts.min(left))?;
            let step = self.verify(&mut text, &rules, &drafted, &mut tokens)?;
            ended = tokens
                .last()
                .is_some_and(|last| rules.ends(tokens.len() as u64 - 1, last.token));
            steps.push(step);
        }
        Ok(Answer {
            tokens,
            steps,
            took: began.elapsed(),
        })
    }

    /// Both models read the prompt, all but its last token.
    fn begin(&mut self, prompt: &[u32]) -> Result<Vec<u32>> {
        let before = &prompt[..prompt.len() - 1];
        for reader in [&mut self.target, &mut self.draft] {
            reader.keep(0);
            reader.read(before, 1)?;
        }
        Ok(prompt.to_vec())
    }

    /// Guesses up to `most` tokens behind `text`, one after the other.
    fn guess(&mut self, text: &[u32], rules: &Rules<'_>, most: usize) -> Result<Vec<Drafted>> {
        let (mut guess, mut drafts) = (text.to_vec(), Vec::new());
        while drafts.len() < most {
            let row = &self.draft.read(&guess, 1)?[0];
            let position = rules.generated + drafts.len() as u64;
            // By the rules and with the noise by which the large model will choose.
            let drafted = rules.draft(
                &mut self.sampler,
                row.into(),
                rules.counts,
                position,
                Acceptance::Coupling,
            )?;
            guess.push(drafted.token);
            let ends = rules.ends(position, drafted.token);
            drafts.push(drafted);
            if ends {
                break;
            }
        }
        Ok(drafts)
    }

    /// One step of the large model over the last token and all guesses: adds the guesses that it would have
    /// chosen itself, and the token that it chooses behind them.
    fn verify(
        &mut self,
        text: &mut Vec<u32>,
        rules: &Rules<'_>,
        drafts: &[Drafted],
        tokens: &mut Vec<Sampled>,
    ) -> Result<Step> {
        let drafted: Vec<u32> = drafts.iter().map(|draft| draft.token).collect();
        let rows = self
            .target
            .read(&[&text[..], &drafted[..]].concat(), 1 + drafted.len())?;
        let mut verifier = Verifier::new(*rules, drafts, Acceptance::Coupling);
        for row in &rows {
            if !verifier.is_done() {
                verifier.row(&mut self.sampler, row.into())?;
            }
        }
        let verified = verifier.finish();
        text.extend(verified.tokens.iter().map(|sampled| sampled.token));
        // Drops the positions of rejected guesses, and that of the last token, whose keys and values are not
        // computed yet.
        for reader in [&mut self.target, &mut self.draft] {
            reader.keep(text.len() - 1);
        }
        let own = verified.tokens.get(verified.accepted);
        let step = Step {
            drafted,
            accepted: verified.accepted,
            own: own.map(|sampled| sampled.token),
        };
        tokens.extend(verified.tokens);
        Ok(step)
    }
}
