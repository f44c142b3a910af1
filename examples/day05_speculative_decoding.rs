//! Day 5: several tokens a step.
//!
//! A small model guesses the next tokens and the large one verifies them all in one step, by hand: two models, a
//! cache each, no engine. Shows which guesses stood; that the answer is the one without guesses, bit for bit; how often the
//! first, second, … eighth guess stands; and what that is worth, beside the formula. Run it with `cargo run --release
//! --example day05_speculative_decoding`; the page is `docs/src/lessons/day05_speculative_decoding.md`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use maitre_examples::numbers::fastest;
use maitre_examples::picture::{self, Line};
use maitre_examples::reader::{self, Reader};
use maitre_examples::{quick, table};
use maitre_sampling::{Sampled, Sampler, SamplingParams, TokenCounts};
use maitre_speculative::{Acceptance, Drafted, Rules, Verifier};
use maitre_tensor::Backend;
use maitre_text::Tokenizer;

/// The most tokens that are guessed at a time.
const MOST_DRAFTS: usize = 8;

/// Tokens of an answer, unless it ends before.
const MOST_TOKENS: u64 = 48;

/// Space for a prompt, an answer and the guesses behind it.
const LONGEST: usize = 512;

/// How often each time is measured.
const PASSES: usize = 5;

/// An answer, and how it came.
struct Answer {
    tokens: Vec<Sampled>,
    steps: Vec<Step>,
    /// From behind the prompt to the last token.
    took: Duration,
}

/// One step of the large model.
struct Step {
    drafted: Vec<u32>,
    accepted: usize,
    /// What the large model adds, unless the answer ended with a guess.
    own: Option<u32>,
}

/// The large model and the small one.
struct Pair {
    target: Reader,
    draft: Reader,
    sampler: Sampler,
    /// Ends an answer.
    stop: [u32; 1],
}

impl Pair {
    /// Decoding as always: a step, a token.
    fn plain(&mut self, prompt: &[u32], params: &SamplingParams) -> Result<Answer> {
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
    fn speculate(
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

fn main() -> Result<()> {
    // Two would wait for each other whenever the machine does something else.
    let backend = Backend::cpu(1)?;
    println!("\n1 thread, {} kernels\n", backend.name());
    let tokenizer = reader::tokenizer()?;
    let reader = |model| Reader::new(reader::load(model, None, &backend)?, &backend, LONGEST);
    let mut pair = Pair {
        target: reader(&maitre_bundled::TARGET)?,
        draft: reader(&maitre_bundled::DRAFT)?,
        sampler: Sampler::new(),
        stop: tokenizer.encode("<|im_end|>")?.as_slice().try_into()?,
    };
    one_answer(&mut pair, &tokenizer)?;
    let prompts = prompts(&tokenizer, if quick() { 2 } else { 24 })?;
    by_position(&mut pair, &prompts)?;
    let greedy = speed(&mut pair, &prompts, "greedy", 0.0)?;
    let sampled = speed(&mut pair, &prompts, "temperature 0.8", 0.8)?;
    draw_speed(&[greedy, sampled])
}

/// Greedy but for the temperature; with log-probabilities, so that these are compared, too.
fn params(temperature: f32, seed: u64) -> SamplingParams {
    SamplingParams {
        temperature,
        seed,
        logprobs: Some(0),
        ..SamplingParams::default()
    }
}

// ---- One answer, step by step.

fn one_answer(pair: &mut Pair, tokenizer: &Tokenizer) -> Result<()> {
    let question = "I would like to order a large latte with oat milk.";
    let chat = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
    let story = "Once upon a time";
    for (prompt, temperature, drafts) in [(&chat[..], 0.0, 4), (story, 0.0, 4), (story, 0.8, 4)] {
        let prompt = tokenizer.encode(prompt)?;
        let params = params(temperature, 7);
        let plain = pair.plain(&prompt, &params)?;
        let speculated = pair.speculate(&prompt, &params, drafts)?;
        ensure!(plain.tokens == speculated.tokens, "the answers differ");
        let tokens: Vec<u32> = plain.tokens.iter().map(|sampled| sampled.token).collect();
        println!(
            "  temperature {temperature}, {drafts} guesses a step: {:?}\n",
            tokenizer.decode(&tokens, true)?
        );
        let shown = |tokens: &[u32]| -> String {
            let text = |token: &u32| tokenizer.token_text(*token).unwrap_or_default();
            let texts = tokens.iter().map(text);
            texts
                .map(|text| format!("[{}]", text.replace('\n', "\\n")))
                .collect()
        };
        let rows = speculated.steps.iter().enumerate().map(|(number, step)| {
            let (right, wrong) = step.drafted.split_at(step.accepted);
            vec![
                format!("{}", number + 1),
                shown(right),
                shown(wrong),
                shown(step.own.as_slice()),
            ]
        });
        let header = ["step", "guessed right", "guessed wrong", "the model's own"];
        table::print(&header, &rows.collect::<Vec<_>>());
        println!(
            "  {} tokens in {} steps; ids and log-probabilities are those of {} plain steps\n",
            tokens.len(),
            speculated.steps.len(),
            tokens.len()
        );
    }
    Ok(())
}

// ---- Which guesses stand.

/// Held-out chats up to the first answer, one after the other.
fn prompts(tokenizer: &Tokenizer, count: usize) -> Result<Vec<Vec<u32>>> {
    let opening = "<|im_start|>assistant\n";
    let chats = maitre_bundled::HELDOUT.split("<|endoftext|>");
    let asked = chats.filter_map(|chat| Some(&chat[..chat.find(opening)? + opening.len()]));
    let prompts = asked.take(count).map(|text| Ok(tokenizer.encode(text)?));
    prompts.collect()
}

/// How often the first, second, … guess of eight stands if all before it do.
fn by_position(pair: &mut Pair, prompts: &[Vec<u32>]) -> Result<()> {
    let (mut lines, mut cells) = (Vec::new(), Vec::new());
    for temperature in [0.0, 0.5, 0.8, 1.0] {
        let mut reached = [0_u32; MOST_DRAFTS];
        let mut accepted = [0_u32; MOST_DRAFTS];
        for (seed, prompt) in prompts.iter().enumerate() {
            let answer = pair.speculate(prompt, &params(temperature, seed as u64), MOST_DRAFTS)?;
            for step in &answer.steps {
                let judged = step.drafted.len().min(step.accepted + 1);
                reached[..judged].iter_mut().for_each(|count| *count += 1);
                let stood = &mut accepted[..step.accepted];
                stood.iter_mut().for_each(|count| *count += 1);
            }
        }
        let name = match temperature {
            0.0 => "greedy".to_owned(),
            _ => format!("temperature {temperature}"),
        };
        let shares = accepted.iter().zip(&reached).zip(1..);
        let points: Vec<(f64, f64)> = shares
            .filter(|((_, reached), _)| **reached > 0)
            .map(|((accepted, reached), place)| {
                (f64::from(place), f64::from(*accepted) / f64::from(*reached))
            })
            .collect();
        let mut row = vec![name.clone()];
        row.extend(points.iter().map(|(_, share)| format!("{share:.2}")));
        cells.push(row);
        lines.push(Line { name, points });
    }
    println!("  How often a guess stands if all before it in its step do, eight guesses a step\n");
    table::print(
        &["", "1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th"],
        &cells,
    );
    let path = picture::lines(
        "day05_acceptance",
        "Guesses that stand, if all before them do",
        "place in the step",
        "share",
        &lines,
    )?;
    println!("picture: {}", path.display());
    Ok(())
}

// ---- What a step costs, and what guesses are worth.

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
struct Speed {
    name: &'static str,
    measured: Vec<f64>,
    formula: Vec<f64>,
}

fn speed(
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

fn draw_speed(speeds: &[Speed]) -> Result<()> {
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
