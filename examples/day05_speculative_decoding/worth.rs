//! What a step costs, and what guesses are worth: measured, and by the formula.

use std::time::Duration;

use anyhow::{Result, ensure};
use maitre_examples::numbers::fastest;
use maitre_examples::picture::{self, Line};
use maitre_examples::reader::Reader;
use maitre_examples::{quick, table};
use maitre_sampling::TokenCounts;

use crate::pair::{Answer, Pair};
use crate::{MOST_DRAFTS, params};

/// How often each time is measured.
const PASSES: usize = 5;

/// Times of single steps.
struct Costs {
    /// One token of the small model.
    draft: Duration,
    /// Steps of the large model over 1, 2, … 9 tokens.
    target: Vec<Duration>,
}

impl Costs {
    fn measure(pair: &mut Pair, prompt: &[u32], temperature: f32) -> Result<Self> {
        let (passes, budget) = if quick() {
            (1, Duration::ZERO)
        } else {
            (2 * PASSES, Duration::from_millis(40))
        };
        let text: Vec<u32> = prompt.iter().copied().cycle().take(128).collect();
        let params = params(temperature, 0);
        let (counts, sampler) = (TokenCounts::default(), &mut pair.sampler);
        let mut step = |reader: &mut Reader, rows: usize| {
            reader.keep(0);
            reader.read(&text, 1)?;
            fastest(budget, || {
                reader.keep(text.len() - rows);
                // About as many rows are looked at as tokens come of a step.
                for row in reader.read(&text, rows)?.iter().take(2) {
                    sampler.sample(row, &params, &counts, 0, &[])?;
                }
                Ok(())
            })
        };
        let mut costs = Self {
            draft: Duration::MAX,
            target: vec![Duration::MAX; 1 + MOST_DRAFTS],
        };
        // All in turn: what else the machine does meets them alike.
        for _ in 0..passes {
            costs.draft = costs.draft.min(step(&mut pair.draft, 1)?);
            for (rows, least) in (1..).zip(&mut costs.target) {
                *least = step(&mut pair.target, rows)?.min(*least);
            }
        }
        costs.print();
        Ok(costs)
    }

    fn print(&self) {
        println!(
            "  A token of the small model takes {:.0} µs, c = {:.2} of a step of the large one\n",
            self.draft.as_secs_f64() * 1e6,
            self.c()
        );
        let rows: Vec<Vec<String>> = (0..=MOST_DRAFTS)
            .map(|drafts| {
                let micros = self.target[drafts].as_secs_f64() * 1e6;
                vec![
                    format!("{}", 1 + drafts),
                    format!("{micros:.0}"),
                    format!("{:.2}", self.v(drafts)),
                ]
            })
            .collect();
        table::print(&["tokens in the step", "µs", "v"], &rows);
    }

    /// A token of the small model over a plain step.
    fn c(&self) -> f64 {
        self.draft.as_secs_f64() / self.target[0].as_secs_f64()
    }

    /// A step with so many guesses over a plain one.
    fn v(&self, drafts: usize) -> f64 {
        self.target[drafts].as_secs_f64() / self.target[0].as_secs_f64()
    }
}

/// For 1, 2, … guesses: by how much the answers came sooner, and should have.
pub(super) struct Speed {
    name: &'static str,
    measured: Vec<f64>,
    formula: Vec<f64>,
}

pub(super) fn speed(
    pair: &mut Pair,
    prompts: &[Vec<u32>],
    name: &'static str,
    temperature: f32,
) -> Result<Speed> {
    println!("  {name}\n");
    let costs = Costs::measure(pair, &prompts[0], temperature)?;
    let (mut speed, mut rows) = (
        Speed {
            name,
            measured: Vec::new(),
            formula: Vec::new(),
        },
        Vec::new(),
    );
    for drafts in 1..=MOST_DRAFTS {
        let ways = Ways::measure(pair, prompts, temperature, drafts)?;
        let (alpha, k) = (ways.alpha(), drafts as i32);
        let tokens = (1.0 - alpha.powi(k + 1)) / (1.0 - alpha);
        let cost = drafts as f64 * costs.c() + costs.v(drafts);
        let measured = ways.plain.as_secs_f64() / ways.speculated.as_secs_f64();
        let found = ways.tokens as f64 / ways.steps as f64;
        rows.push(vec![
            drafts.to_string(),
            format!("{alpha:.3}"),
            format!("{tokens:.2}"),
            format!("{found:.2}"),
            format!("{cost:.2}"),
            format!("{:.2}", tokens / cost),
            format!("{:.2}", ways.tokens as f64 / ways.cost(&costs)),
            format!("{measured:.2}"),
        ]);
        speed.formula.push(tokens / cost);
        speed.measured.push(measured);
    }
    println!("  {name}, {} chats\n", prompts.len());
    let header = [
        "k",
        "α",
        "tokens a step: formula",
        "found",
        "k·c + v",
        "speed-up: formula",
        "counted",
        "measured",
    ];
    table::print(&header, &rows);
    Ok(speed)
}

/// All answers in both ways.
#[derive(Default)]
struct Ways {
    plain: Duration,
    speculated: Duration,
    tokens: usize,
    steps: usize,
    /// Steps by their guesses: at the end of an answer there are fewer.
    by_drafts: [usize; 1 + MOST_DRAFTS],
    /// Guesses whose turn came, all before them having stood; and those of them that stood.
    judged: usize,
    accepted: usize,
}

impl Ways {
    fn measure(
        pair: &mut Pair,
        prompts: &[Vec<u32>],
        temperature: f32,
        drafts: usize,
    ) -> Result<Self> {
        let mut all = Self::default();
        for (seed, prompt) in prompts.iter().enumerate() {
            let params = params(temperature, seed as u64);
            let (mut plain, mut speculated) = (Duration::MAX, Duration::MAX);
            // In turn: what else the machine does meets both alike.
            for pass in 0..if quick() { 1 } else { PASSES } {
                let expected = pair.plain(prompt, &params)?;
                let found = pair.speculate(prompt, &params, drafts)?;
                ensure!(found.tokens == expected.tokens, "the answers differ");
                plain = plain.min(expected.took);
                speculated = speculated.min(found.took);
                if pass == 0 {
                    all.count(&found);
                }
            }
            all.plain += plain;
            all.speculated += speculated;
        }
        Ok(all)
    }

    fn count(&mut self, answer: &Answer) {
        self.tokens += answer.tokens.len();
        self.steps += answer.steps.len();
        for step in &answer.steps {
            self.by_drafts[step.drafted.len()] += 1;
            self.accepted += step.accepted;
            self.judged += step.drafted.len().min(step.accepted + 1);
        }
    }

    /// What all steps should take, in plain steps.
    fn cost(&self, costs: &Costs) -> f64 {
        let steps = self.by_drafts.iter().enumerate();
        steps
            .map(|(drafts, &steps)| steps as f64 * (drafts as f64 * costs.c() + costs.v(drafts)))
            .sum()
    }

    fn alpha(&self) -> f64 {
        self.accepted as f64 / self.judged.max(1) as f64
    }
}

pub(super) fn draw_speed(speeds: &[Speed]) -> Result<()> {
    let line = |name: String, values: &[f64]| Line {
        name,
        points: (1..).map(f64::from).zip(values.iter().copied()).collect(),
    };
    let lines = speeds.iter().flat_map(|speed| {
        [
            line(format!("{}, measured", speed.name), &speed.measured),
            line(format!("{}, formula", speed.name), &speed.formula),
        ]
    });
    let path = picture::lines(
        "day05_speed",
        "What guessing k tokens a step gains",
        "k",
        "speed-up",
        &lines.collect::<Vec<_>>(),
    )?;
    println!("picture: {}", path.display());
    Ok(())
}
