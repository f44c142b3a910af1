//! Recorded text: answers that repeat their prompts, so that history is a proposer that knows something.

use std::path::Path;

use anyhow::{Context, Result};
use maitre_engine::Speculate;
use serde::Serialize;

use super::bed::Told;
use super::{Settings, Subject, TestBed};
use crate::repeats::{Repeat, dialogues, poems};

/// Who proposes, the name of that, and how many tokens at most.
const PROPOSERS: [(Speculate, &str, usize); 5] = [
    (Speculate::Ngram, "n-gram", 4),
    (Speculate::Ngram, "n-gram", 8),
    (Speculate::Suffix, "suffix", 4),
    (Speculate::Suffix, "suffix", 8),
    (Speculate::Auto, "auto", 8),
];

/// One answer with drafts, beside the mean of two without.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedSample {
    /// Where the passage is from.
    pub source: &'static str,
    /// How the answer repeats it.
    pub repeat: &'static str,
    /// Who proposed.
    pub proposer: &'static str,
    /// The most tokens in a step.
    pub drafts: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Seconds per token after the first, without drafts.
    pub off_s: f64,
    /// Seconds per token after the first, with drafts.
    pub on_s: f64,
    /// Seconds of the whole answer, its prompt included, without drafts.
    pub off_whole_s: f64,
    /// Seconds of the whole answer with drafts.
    pub on_whole_s: f64,
    /// Tokens that were drafted.
    pub drafted: u32,
    /// Tokens of them that were accepted.
    pub accepted: u32,
}

/// Every proposer on every kind of repetition, each passage once.
pub(super) fn measure(
    bed: &TestBed,
    settings: &Settings,
    progress: &dyn Fn(&str),
) -> Result<Vec<RecordedSample>> {
    let mut sources = vec![("dialogues", dialogues())];
    if let Some(data) = std::env::var_os("MAITRE_TEST_DATA") {
        sources.push(("poems", poems(Path::new(&data))?));
    }
    if settings.passages == 0 {
        return Ok(Vec::new());
    }
    let off = bed.subject(Speculate::Off, 1, None)?;
    let subjects = PROPOSERS
        .iter()
        .map(|&(speculate, _, drafts)| bed.subject(speculate, drafts, None))
        .collect::<Result<Vec<Subject>>>()?;
    let mut samples = Vec::new();
    for (source, passages) in sources {
        for repeat in Repeat::ALL {
            progress(&format!("{source}, {}", repeat.name()));
            // The first passage is not counted: caches warm up, and controllers learn.
            for (round, passage) in passages.iter().take(1 + settings.passages).enumerate() {
                let text = Text::new(bed, settings, repeat, passage)?;
                let measured = text.measure(&off, &subjects, round % 2 == 0)?;
                if round > 0 {
                    samples.extend(measured.into_iter().map(|sample| RecordedSample {
                        source,
                        repeat: repeat.name(),
                        ..sample
                    }));
                }
            }
        }
    }
    Ok(samples)
}

struct Text {
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

impl Text {
    fn new(bed: &TestBed, settings: &Settings, repeat: Repeat, passage: &str) -> Result<Self> {
        let (prompt, answer) = repeat.ask(passage);
        let mut answer = bed.tokenizer().encode(&answer)?;
        answer.truncate(settings.recorded_tokens);
        Ok(Self {
            prompt: bed.tokenizer().encode(&prompt)?,
            answer,
        })
    }

    /// All proposers in turn, between two answers without any.
    fn measure(
        &self,
        off: &Subject,
        subjects: &[Subject],
        forwards: bool,
    ) -> Result<Vec<RecordedSample>> {
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if !forwards {
            order.reverse();
        }
        let tell = |subject: &Subject| subject.tell(&self.prompt, &self.answer);
        let before = tell(off)?;
        let mut told: Vec<(usize, Told)> = order
            .into_iter()
            .map(|index| Ok((index, tell(&subjects[index])?)))
            .collect::<Result<_>>()?;
        let after = tell(off)?;
        told.sort_by_key(|&(index, _)| index);
        let off = |pick: fn(&Told) -> f64| f64::midpoint(pick(&before), pick(&after));
        let sample = |(index, told): (usize, Told)| {
            let (_, proposer, drafts) = *PROPOSERS.get(index).context("one subject each")?;
            Ok(RecordedSample {
                source: "",
                repeat: "",
                proposer,
                drafts,
                prompt_tokens: self.prompt.len(),
                tokens: self.answer.len(),
                off_s: off(per_token),
                on_s: per_token(&told),
                off_whole_s: off(whole),
                on_whole_s: whole(&told),
                drafted: told.end.usage.drafted_tokens,
                accepted: told.end.usage.accepted_tokens,
            })
        };
        told.into_iter().map(sample).collect()
    }
}

fn per_token(told: &Told) -> f64 {
    told.end.timings.tpot.as_secs_f64()
}

fn whole(told: &Told) -> f64 {
    told.end.timings.e2e.as_secs_f64()
}
