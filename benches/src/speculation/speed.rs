//! The speed model: what drafts of a set acceptance and cost gain, beside what they should.
//!
//! Leviathan et al. 2023 (section 3.3, with verification that costs more than a plain step): a draft of k tokens, each
//! right with probability α, yields (1 − α^(k+1)) / (1 − α) tokens in k·c + v steps' time, c being a round's time and
//! v that of a step with k + 1 rows. Both are measured beside each answer: v with a drafter that is always right and
//! costs nothing, so that steps are all that takes time.

use std::time::Duration;

use anyhow::Result;
use maitre_engine::Speculate;
use serde::Serialize;

use super::bed::TokenTime;
use super::{Settings, Subject, TestBed};
use crate::texts;

/// Tokens of the prompt.
const PROMPT: usize = 16;
/// Drafts that are seldom right and cost much: a controller had better leave them alone.
const HOPELESS: (f64, f64) = (0.1, 0.3);
/// Answers by which a controller gets to know the drafter before it counts.
const SETTLING: usize = 3;
/// Steps in which the time of a step with drafts is measured.
const STEPS: usize = 8;

/// One answer with drafts, and its neighbours in time.
#[derive(Debug, Clone, Serialize)]
pub struct SpeedSample {
    /// The drafter's acceptance, as set.
    pub acceptance: f64,
    /// The time of a round as a share of a plain step, as set.
    pub cost: f64,
    /// Tokens drafted in every step.
    pub drafts: usize,
    /// Seconds per token without drafts: a plain step.
    pub off_s: f64,
    /// Seconds of a step with `drafts + 1` rows.
    pub step_s: f64,
    /// Seconds of a round, as it was.
    pub round_s: f64,
    /// Seconds per token with drafts.
    pub on_s: f64,
    /// Tokens that a step yielded.
    pub tokens_per_step: f64,
}

/// One answer under the controller, and its neighbours in time.
#[derive(Debug, Clone, Serialize)]
pub struct AutoSample {
    /// The drafter's acceptance.
    pub acceptance: f64,
    /// The time of a round as a share of a plain step, as set.
    pub cost: f64,
    /// The number of drafts that was best when it was fixed; 0: none.
    pub best: usize,
    /// Seconds per token without drafts.
    pub off_s: f64,
    /// Seconds per token with that number.
    pub fixed_s: f64,
    /// Seconds per token under the controller.
    pub auto_s: f64,
    /// Tokens that a step yielded under it.
    pub tokens_per_step: f64,
    /// Rounds of the drafter in a step, on average.
    pub rounds_per_step: f64,
}

/// A prompt and an answer in which nothing is to be found twice.
struct Texts {
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

impl Texts {
    fn new(bed: &TestBed, settings: &Settings) -> Self {
        let longest = settings.tokens.max(STEPS * (settings.most_drafts + 1));
        let count = PROMPT + longest + settings.most_drafts + 2;
        let vocabulary = bed.tokenizer().num_tokens() as u32;
        let mut prompt = texts::random_tokens(count, vocabulary);
        let answer = prompt.split_off(PROMPT);
        Self { prompt, answer }
    }

    fn pace(&self, subject: &Subject, tokens: usize) -> Result<TokenTime> {
        subject.pace(&self.prompt, &self.answer, tokens)
    }

    /// Seconds of a plain step.
    fn plain(&self, off: &Subject, settings: &Settings) -> Result<f64> {
        Ok(self.pace(off, settings.tokens.div_ceil(2))?.seconds)
    }

    /// Seconds of a step with all drafts.
    fn step(&self, on: &Subject, drafts: usize) -> Result<f64> {
        on.set_temper(1.0, Duration::ZERO);
        let pace = self.pace(on, STEPS * (drafts + 1))?;
        Ok(pace.seconds * pace.tokens_per_step)
    }
}

/// Every fixed number of drafts at every acceptance and cost.
pub(super) fn fixed(
    bed: &TestBed,
    settings: &Settings,
    progress: &dyn Fn(&str),
) -> Result<Vec<SpeedSample>> {
    let texts = Texts::new(bed, settings);
    let off = bed.subject(Speculate::Off, 1, None)?;
    texts.plain(&off, settings)?;
    let mut samples = Vec::new();
    for drafts in 1..=settings.most_drafts {
        progress(&format!("synthetic drafter, {drafts} drafts"));
        let on = bed.subject(Speculate::Draft, drafts, Some(0.0))?;
        texts.step(&on, drafts)?;
        for _ in 0..settings.pairs {
            for (acceptance, cost) in cells(settings) {
                let cell = Cell {
                    acceptance,
                    cost,
                    drafts,
                };
                samples.push(cell.measure(&texts, settings, &off, &on)?);
            }
        }
    }
    Ok(samples)
}

fn cells(settings: &Settings) -> impl Iterator<Item = (f64, f64)> {
    let costs = |acceptance| settings.costs.iter().map(move |&cost| (acceptance, cost));
    settings.acceptances.iter().copied().flat_map(costs)
}

/// A fixed number of drafts by a drafter of this kind.
struct Cell {
    acceptance: f64,
    cost: f64,
    drafts: usize,
}

impl Cell {
    fn measure(
        &self,
        texts: &Texts,
        settings: &Settings,
        off: &Subject,
        on: &Subject,
    ) -> Result<SpeedSample> {
        // What it is held against before and after it: a machine whose speed drifts then does no harm.
        let off_before = texts.plain(off, settings)?;
        let step_before = texts.step(on, self.drafts)?;
        let round = Duration::from_secs_f64(self.cost * off_before);
        on.set_temper(self.acceptance, round);
        let pace = texts.pace(on, settings.tokens)?;
        let temper = on.temper();
        let step_s = f64::midpoint(step_before, texts.step(on, self.drafts)?);
        let off_s = f64::midpoint(off_before, texts.plain(off, settings)?);
        Ok(SpeedSample {
            acceptance: self.acceptance,
            cost: self.cost,
            drafts: self.drafts,
            off_s,
            step_s,
            round_s: temper.spent.as_secs_f64() / f64::from(temper.rounds.max(1)),
            on_s: pace.seconds,
            tokens_per_step: pace.tokens_per_step,
        })
    }
}

/// The controller at every acceptance and cost, and where drafts are hopeless.
pub(super) fn automatic(
    bed: &TestBed,
    settings: &Settings,
    speed: &[SpeedSample],
    progress: &dyn Fn(&str),
) -> Result<Vec<AutoSample>> {
    let texts = Texts::new(bed, settings);
    let off = bed.subject(Speculate::Off, 1, None)?;
    texts.plain(&off, settings)?;
    let mut samples = Vec::new();
    for (acceptance, cost) in cells(settings).chain([HOPELESS]) {
        progress(&format!("controller, acceptance {acceptance}, cost {cost}"));
        let best = best_fixed(speed, acceptance, cost);
        let fixed = match best {
            0 => None,
            drafts => Some(bed.subject(Speculate::Draft, drafts, Some(cost))?),
        };
        let auto = bed.subject(Speculate::Auto, settings.most_drafts, Some(cost))?;
        let round = Duration::from_secs_f64(cost * texts.plain(&off, settings)?);
        for _ in 0..SETTLING {
            auto.set_temper(acceptance, round);
            texts.pace(&auto, settings.tokens)?;
        }
        for pair in 0..settings.pairs {
            let with = |subject: &Subject| {
                subject.set_temper(acceptance, round);
                texts.pace(subject, settings.tokens)
            };
            let auto_first = (pair % 2 == 0).then(|| with(&auto)).transpose()?;
            let off_s = texts.pace(&off, settings.tokens)?.seconds;
            let fixed_s = match &fixed {
                Some(fixed) => with(fixed)?.seconds,
                None => off_s,
            };
            let pace = match auto_first {
                Some(pace) => pace,
                None => with(&auto)?,
            };
            let rounds = auto.temper().rounds;
            samples.push(AutoSample {
                acceptance,
                cost,
                best,
                off_s,
                fixed_s,
                auto_s: pace.seconds,
                tokens_per_step: pace.tokens_per_step,
                rounds_per_step: f64::from(rounds) / pace.steps as f64,
            });
        }
    }
    Ok(samples)
}

/// The number of drafts with which answers came fastest, beside those without; 0 if that was none.
fn best_fixed(speed: &[SpeedSample], acceptance: f64, cost: f64) -> usize {
    let most = speed.iter().map(|sample| sample.drafts).max().unwrap_or(0);
    let gain = |drafts: usize| {
        let of_cell =
            |it: &&SpeedSample| (it.acceptance, it.cost, it.drafts) == (acceptance, cost, drafts);
        let cell = speed.iter().filter(of_cell);
        let mut gains: Vec<f64> = cell.map(|it| it.off_s / it.on_s).collect();
        gains.sort_by(f64::total_cmp);
        gains.get(gains.len() / 2).copied().unwrap_or(0.0)
    };
    let best = (1..=most).max_by(|&a, &b| gain(a).total_cmp(&gain(b)));
    best.filter(|&drafts| gain(drafts) > 1.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(drafts: usize, on_s: f64) -> SpeedSample {
        SpeedSample {
            acceptance: 0.8,
            cost: 0.0,
            drafts,
            off_s: 1.0,
            step_s: 1.0,
            round_s: 0.0,
            on_s,
            tokens_per_step: 1.0,
        }
    }

    #[test]
    fn the_best_is_the_fastest_median_or_none() {
        let speed = [
            sample(1, 0.8),
            sample(1, 0.1),
            sample(1, 0.7),
            sample(2, 0.6),
        ];
        assert_eq!(best_fixed(&speed, 0.8, 0.0), 2);
        assert_eq!(best_fixed(&speed, 0.6, 0.0), 0);
        assert_eq!(best_fixed(&[sample(1, 1.1)], 0.8, 0.0), 0);
    }
}
