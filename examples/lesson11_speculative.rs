//! Lesson 11: whose guesses, judged how, and when to stop guessing.
//!
//! Compares the two rules by which a guess stands, on small distributions and on the bundled pair, and shows by a
//! chi-square test which rules change the answers; compares the drafters, on chats, stories and quotations; and lets
//! the controller choose, from one user to sixty-four. Run it with `cargo run --release --example
//! lesson11_speculative`; the page is `docs/src/lessons/lesson11_speculative.md`.

use std::time::Instant;

use anyhow::{Result, ensure};
use maitre::{Engine, GenerateRequest, Input, Speculate};
use maitre_examples::heldout::{self, WINDOW};
use maitre_examples::numbers::normal;
use maitre_examples::picture::{self, Line};
use maitre_examples::reader::{self, Reader};
use maitre_examples::timed::ask_all;
use maitre_examples::verdicts::{Rule, Theory, Toy, rules, stands};
use maitre_examples::{quick, table};
use maitre_sampling::{Sampler, SamplingParams, TokenCounts};
use maitre_speculative::{History, HistoryKind, Replay};
use maitre_tensor::Backend;
use maitre_text::Tokenizer;

/// What is compared: the default, the classical rule, and what comes without an idea.
const RULES: [Rule; 3] = [Rule::Coupling, Rule::Rejection, Rule::OwnNoise];

/// A share of 0.001 of sound rules exceeds this with 16 answers, 15 degrees of freedom.
const CRITICAL: f64 = 37.7;

#[tokio::main]
async fn main() -> Result<()> {
    small_distributions()?;
    distributions_kept()?;
    let tokenizer = reader::tokenizer()?;
    let backend = Backend::cpu(std::thread::available_parallelism().map_or(1, usize::from))?;
    let mut models = [&maitre_bundled::TARGET, &maitre_bundled::DRAFT]
        .into_iter()
        .map(|model| Reader::new(reader::load(model, None, &backend)?, &backend, 2 * WINDOW))
        .collect::<Result<Vec<_>>>()?;
    let [target, draft] = models.as_mut_slice() else {
        return Ok(());
    };
    on_text(target, draft)?;
    proposers(&tokenizer, draft).await?;
    users(&tokenizer).await
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The shares of drafts that stand, by [`RULES`], over a number of tries.
#[derive(Default)]
struct Stood([f64; RULES.len()]);

impl Stood {
    fn count(
        &mut self,
        sampler: &mut Sampler,
        params: &SamplingParams,
        position: u64,
        target: &[f32],
        draft: &[f32],
        weight: f64,
    ) -> Result<()> {
        let counts = TokenCounts::default();
        let rules = rules(params, &counts, position);
        for (rule, share) in RULES.into_iter().zip(&mut self.0) {
            if stands(sampler, rule, &rules, target, draft)? {
                *share += weight;
            }
        }
        Ok(())
    }
}

// ---- Two rules on distributions that fit on a page.

/// A target that stays, and drafts that are ever less like it.
fn small_distributions() -> Result<()> {
    let draws: u64 = if quick() { 500 } else { 20_000 };
    let (params, counts, mut sampler) = (
        SamplingParams::default(),
        TokenCounts::default(),
        Sampler::new(),
    );
    let target: Vec<f32> = normal(11, 8).iter().map(|x| 1.2 * x).collect();
    let other: Vec<f32> = normal(12, 8).iter().map(|x| 1.2 * x).collect();
    let p = sampler.distribution(&target, &params, &counts, &[])?;
    let r = sampler.distribution(&other, &params, &counts, &[])?;
    let (mut rows, mut points) = (Vec::new(), Vec::new());
    for share in 0..=8 {
        let share = share as f32 / 8.0;
        let mixed = (0..8).map(|x| (1.0 - share) * p.probability(x) + share * r.probability(x));
        let draft: Vec<f32> = mixed.map(f32::ln).collect();
        let q = sampler.distribution(&draft, &params, &counts, &[])?;
        let theory = Theory::of(&p, &q);
        let mut stood = Stood::default();
        for position in 0..draws {
            let weight = 1.0 / draws as f64;
            stood.count(&mut sampler, &params, position, &target, &draft, weight)?;
        }
        let [coupling, rejection, own] = stood.0;
        rows.push(vec![
            format!("{:.3}", theory.total_variation),
            percent(coupling),
            percent(theory.coupling),
            percent(theory.least()),
            percent(rejection),
            percent(1.0 - theory.total_variation),
            percent(own),
            percent(theory.own_noise),
        ]);
        points.push((theory, stood.0));
    }
    println!("\n  One guess at a token of eight, {draws} times\n");
    let header = [
        "TV",
        "coupling",
        "exact",
        "at least",
        "rejection",
        "exact",
        "own noise",
        "exact",
    ];
    table::print(&header, &rows);
    draw_rules(&points)
}

fn draw_rules(points: &[(Theory, [f64; RULES.len()])]) -> Result<()> {
    type Share = fn(&(Theory, [f64; RULES.len()])) -> f64;
    let shares: [(&str, Share); 4] = [
        ("rejection", |(_, stood)| stood[1]),
        ("coupling", |(_, stood)| stood[0]),
        ("coupling, at least", |(theory, _)| theory.least()),
        ("noise of its own", |(_, stood)| stood[2]),
    ];
    let lines = shares.map(|(name, share)| Line {
        name: name.into(),
        points: points
            .iter()
            .map(|point| (point.0.total_variation, share(point)))
            .collect(),
    });
    let path = picture::lines(
        "lesson11_rules",
        "How often a guess stands",
        "total variation distance of draft and target",
        "share",
        &lines,
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

/// Which rules leave the answers as they are.
fn distributions_kept() -> Result<()> {
    let (toy, draws) = (Toy::default(), if quick() { 2_000 } else { 100_000 });
    let cases = [
        ("coupling", Rule::Coupling, true),
        (
            "coupling, drafts with noise of their own",
            Rule::OwnNoise,
            true,
        ),
        ("rejection", Rule::Rejection, true),
        (
            "wrong: replaced from p itself",
            Rule::ReplacedFromTarget,
            false,
        ),
        (
            "wrong: judged by the noise that drew it",
            Rule::NoiseUsedTwice,
            false,
        ),
        ("wrong: doubtful drafts withheld", Rule::DoubtsHidden, false),
    ];
    let mut rows = Vec::new();
    for (name, rule, is_sound) in cases {
        let found = toy.chi_square(rule, draws)?;
        // Seeds are fixed, so it is the same each time. A few draws are too few to find the wrong rules.
        ensure!(
            (found < CRITICAL) == is_sound || quick(),
            "{name}: chi-square {found:.1}"
        );
        let verdict = if found < CRITICAL { "kept" } else { "changed" };
        rows.push(vec![name.into(), format!("{found:.1}"), verdict.into()]);
    }
    println!(
        "  The first two tokens of {draws} answers against their exact probabilities:\n  15 is to be expected, more than {CRITICAL} by chance once in a thousand times\n"
    );
    table::print(&["", "chi-square", "distribution"], &rows);
    Ok(())
}

/// The same rules at every position of text that neither model has seen.
fn on_text(target: &mut Reader, draft: &mut Reader) -> Result<()> {
    let ids = heldout::ids()?;
    let windows = if quick() { 1 } else { 16 };
    let (length, beginning) = (if quick() { 64 } else { WINDOW }, 16);
    let settings = [(0.0, 1.0), (0.5, 1.0), (0.8, 1.0), (0.8, 0.95), (1.0, 1.0)];
    let mut sums = [(); 5].map(|()| (Stood::default(), 0.0));
    let (counts, mut sampler) = (TokenCounts::default(), Sampler::new());
    let weight = 1.0 / (windows * (length - beginning)) as f64;
    for (seed, window) in ids.chunks_exact(WINDOW).take(windows).enumerate() {
        let window = &window[..length];
        let [target, draft] = [&mut *target, &mut *draft].map(|reader| {
            reader.keep(0);
            reader.read(window, length)
        });
        let rows = target?.into_iter().zip(draft?).enumerate().skip(beginning);
        for (at, (target, draft)) in rows {
            for ((temperature, top_p), (stood, overlap)) in settings.iter().zip(&mut sums) {
                let params = SamplingParams {
                    temperature: *temperature,
                    top_p: *top_p,
                    seed: seed as u64,
                    ..SamplingParams::default()
                };
                stood.count(&mut sampler, &params, at as u64, &target, &draft, weight)?;
                let p = sampler.distribution(&target, &params, &counts, &[])?;
                let q = sampler.distribution(&draft, &params, &counts, &[])?;
                let shared = p.iter().map(|(token, p)| p.min(q.probability(token)));
                *overlap += weight * f64::from(shared.sum::<f32>());
            }
        }
    }
    let cells = settings
        .iter()
        .zip(&sums)
        .map(|(setting, (stood, overlap))| {
            let mut row = vec![match setting {
                (0.0, _) => "greedy".to_owned(),
                (temperature, 1.0) => format!("temperature {temperature}"),
                (temperature, top_p) => format!("temperature {temperature}, top-p {top_p}"),
            }];
            row.extend(stood.0.map(percent));
            row.push(percent(*overlap));
            row
        });
    println!(
        "  The bundled pair, one guess at each of {} tokens of held-out text\n",
        windows * (length - beginning)
    );
    let header = ["", "coupling", "rejection", "own noise", "1 - TV"];
    table::print(&header, &cells.collect::<Vec<_>>());
    Ok(())
}

// ---- The drafters.

/// A prompt and its answer.
type Case = (Vec<u32>, Vec<u32>);

/// Steps that texts of three kinds take with each proposer.
async fn proposers(tokenizer: &Tokenizer, draft: &mut Reader) -> Result<()> {
    let count = if quick() { 2 } else { 40 };
    let engine = Engine::builder(maitre::bundled())
        .speculate(Speculate::Off)
        .build()?;
    let kinds = [
        ("chats", chats(tokenizer, &engine, count).await?),
        ("stories", stories(tokenizer, &engine, count.min(8)).await?),
        ("quotations", quotations(tokenizer, count)?),
    ];
    let mut rows = Vec::new();
    for (name, cases) in &kinds {
        for (proposer, kind) in [
            ("n-gram", Some(HistoryKind::Ngram)),
            ("suffix", Some(HistoryKind::Suffix)),
            ("draft model", None),
        ] {
            let mut row = vec![(*name).to_owned(), proposer.to_owned()];
            for drafts in [2, 4, 8] {
                let (mut tokens, mut steps, mut proposed) = (0, 0, 0);
                for (prompt, answer) in cases {
                    let walk = match kind {
                        Some(kind) => {
                            Walk::of(&Replay::run(History::new(kind, prompt), answer, drafts))
                        }
                        None => Walk::of_model(draft, prompt, answer, drafts)?,
                    };
                    tokens += answer.len();
                    steps += walk.steps;
                    proposed += walk.proposed;
                }
                let accepted = (tokens - steps) as f64 / proposed.max(1) as f64;
                row.push(format!("{:.2}", tokens as f64 / steps.max(1) as f64));
                row.push(format!("{:.0} %", 100.0 * accepted));
            }
            rows.push(row);
        }
    }
    println!("  Greedy answers, tokens a step and the share of guesses that stood\n");
    let header = ["", "", "k = 2", "stood", "k = 4", "stood", "k = 8", "stood"];
    table::print(&header, &rows);
    Ok(())
}

/// In how many steps an answer came.
struct Walk {
    steps: usize,
    proposed: usize,
}

impl Walk {
    fn of(replay: &Replay) -> Self {
        Self {
            steps: replay.steps.len(),
            proposed: replay.steps.iter().map(|step| step.proposed).sum(),
        }
    }

    /// While its guesses are right the small model reads just this text. So one pass over the text tells what it
    /// would have guessed in any step.
    fn of_model(draft: &mut Reader, prompt: &[u32], answer: &[u32], drafts: usize) -> Result<Self> {
        let text = [prompt, &answer[..answer.len() - 1]].concat();
        draft.keep(0);
        let rows = draft.read(&text, answer.len())?;
        let (params, counts) = (greedy(), TokenCounts::default());
        let mut sampler = Sampler::new();
        let mut right = Vec::with_capacity(answer.len());
        for (row, token) in rows.iter().zip(answer) {
            right.push(sampler.choose(row, &params, &counts, 0, &[])? == *token);
        }
        let (mut walk, mut at) = (
            Self {
                steps: 0,
                proposed: 0,
            },
            0,
        );
        while at < answer.len() {
            let most = drafts.min(answer.len() - at - 1);
            let guesses = right[at..at + most].iter();
            at += 1 + guesses.take_while(|is_right| **is_right).count();
            walk.steps += 1;
            walk.proposed += most;
        }
        Ok(walk)
    }
}

fn greedy() -> SamplingParams {
    SamplingParams {
        temperature: 0.0,
        ..SamplingParams::default()
    }
}

/// Held-out chats up to an answer, at most `count`.
fn questions(tokenizer: &Tokenizer, count: usize) -> Result<Vec<Vec<u32>>> {
    let opening = "<|im_start|>assistant\n";
    let chats = maitre_bundled::HELDOUT.split("<|endoftext|>");
    // The second answer: something has been said that can be said again.
    let asked = chats.filter_map(|chat| {
        let (at, _) = chat.match_indices(opening).nth(1)?;
        Some(&chat[..at + opening.len()])
    });
    let questions = asked.take(count).map(|text| Ok(tokenizer.encode(text)?));
    questions.collect()
}

/// Questions, and what the model answers.
async fn chats(tokenizer: &Tokenizer, engine: &Engine, count: usize) -> Result<Vec<Case>> {
    answered(engine, questions(tokenizer, count)?, 64).await
}

/// Beginnings of stories, and how the model goes on.
async fn stories(tokenizer: &Tokenizer, engine: &Engine, count: usize) -> Result<Vec<Case>> {
    let names = [
        "Tom", "Lily", "a dog", "a bird", "Mia", "a king", "Ben", "a fish",
    ];
    let beginnings = names.iter().take(count);
    let prompts = beginnings.map(|name| {
        let text = format!("Once upon a time, there was {name}");
        Ok(tokenizer.encode(&text)?)
    });
    answered(engine, prompts.collect::<Result<_>>()?, 256).await
}

async fn answered(engine: &Engine, prompts: Vec<Vec<u32>>, tokens: u32) -> Result<Vec<Case>> {
    let requests = prompts.iter().map(|prompt| request(prompt, tokens, 0.0));
    let answers = ask_all(engine, requests.collect()).await?;
    let ids = answers.into_iter().map(|answer| answer.ids);
    Ok(prompts.into_iter().zip(ids).collect())
}

/// Chats that are repeated with every 20th token replaced by the one before it: no answers of this model, which
/// can't quote, but what one that can might say.
fn quotations(tokenizer: &Tokenizer, count: usize) -> Result<Vec<Case>> {
    let quoted = questions(tokenizer, count)?.into_iter().map(|chat| {
        let mut answer = chat.clone();
        for at in (19..answer.len()).step_by(20) {
            answer[at] = chat[at - 1];
        }
        (chat, answer)
    });
    Ok(quoted.collect())
}

fn request(prompt: &[u32], tokens: u32, temperature: f32) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Tokens(prompt.to_vec()));
    request.sampling.temperature = Some(temperature);
    request.stopping.max_tokens = Some(tokens);
    request
}

// ---- When to stop guessing.

/// Tokens per second as users grow: without guesses, with a fixed number of the draft model's guesses, and with
/// the controller's choice.
async fn users(tokenizer: &Tokenizer) -> Result<()> {
    let (crowds, passes, tokens): (&[usize], usize, u32) = if quick() {
        (&[1, 3], 1, 8)
    } else {
        (&[1, 2, 4, 8, 16, 32, 64], 8, 64)
    };
    let engine = |speculate, drafts| {
        Engine::builder(maitre::bundled())
            .draft_model(Some(maitre::bundled_draft()))
            .speculate(speculate)
            .draft_tokens(drafts)
            .max_seqs(64)
            // Two would wait for each other whenever the machine does something else.
            .threads(Some(1))
            .kv_cache_bytes(Some(128 << 20))
            .build()
    };
    let engines = [
        ("off", engine(Speculate::Off, 1)?),
        ("2 guesses", engine(Speculate::Draft, 2)?),
        ("4 guesses", engine(Speculate::Draft, 4)?),
        ("8 guesses", engine(Speculate::Draft, 8)?),
        ("auto", engine(Speculate::Auto, 8)?),
    ];
    let questions = questions(tokenizer, 64)?;
    for temperature in [0.0, 0.8] {
        let mut rates = vec![[0.0_f64; 5]; crowds.len()];
        for (crowd, rates) in crowds.iter().zip(&mut rates) {
            let requests: Vec<GenerateRequest> = questions[..*crowd]
                .iter()
                .map(|prompt| {
                    let mut request = request(prompt, tokens, temperature);
                    request.stopping.ignore_eos = true;
                    request
                })
                .collect();
            for pass in 0..=passes {
                for ((_, engine), rate) in engines.iter().zip(rates.iter_mut()) {
                    let found = tokens_per_second(engine, &requests).await?;
                    // The first time they get to know their questions.
                    if pass > 0 {
                        *rate = rate.max(found);
                    }
                }
            }
        }
        report_users(
            &engines.each_ref().map(|(name, _)| *name),
            crowds,
            &rates,
            temperature,
        )?;
    }
    Ok(())
}

/// All of them at once; few users come again until sixteen answers were given.
async fn tokens_per_second(engine: &Engine, requests: &[GenerateRequest]) -> Result<f64> {
    let rounds = if quick() {
        1
    } else {
        (12 / requests.len()).max(1)
    };
    let (began, mut tokens) = (Instant::now(), 0);
    for round in 0..rounds {
        let mut requests = requests.to_vec();
        for request in &mut requests {
            request.sampling.seed = Some(round as u64);
        }
        let answers = ask_all(engine, requests).await?;
        tokens += answers.iter().map(|answer| answer.ids.len()).sum::<usize>();
    }
    Ok(tokens as f64 / began.elapsed().as_secs_f64())
}

fn report_users(
    names: &[&str; 5],
    crowds: &[usize],
    rates: &[[f64; 5]],
    temperature: f32,
) -> Result<()> {
    let title = match temperature {
        0.0 => "Greedy answers".to_owned(),
        _ => format!("Temperature {temperature}"),
    };
    println!("  {title}, tokens per second of all users\n");
    let cells = crowds.iter().zip(rates).map(|(crowd, rates)| {
        let mut row = vec![crowd.to_string()];
        row.extend(rates.map(|rate| format!("{rate:.0}")));
        row.push(format!("{:.2}", rates[4] / rates[0]));
        row
    });
    let mut header = vec!["users"];
    header.extend(names);
    header.push("auto / off");
    table::print(&header, &cells.collect::<Vec<_>>());
    let lines: Vec<Line> = (1..names.len())
        .map(|way| Line {
            name: names[way].into(),
            points: crowds
                .iter()
                .zip(rates)
                .map(|(crowd, rates)| ((*crowd as f64).log2(), rates[way] / rates[0]))
                .collect(),
        })
        .collect();
    let file = match temperature {
        0.0 => "lesson11_users_greedy",
        _ => "lesson11_users_sampled",
    };
    let path = picture::lines(
        file,
        &format!("{title}: throughput, over that without guesses"),
        "users, as powers of two",
        "ratio",
        &lines,
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}
