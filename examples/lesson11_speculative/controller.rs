//! When to stop guessing: throughput from one user to sixty-four, without guesses, with a fixed number of them, and
//! with as many as the controller chooses.

use std::time::Instant;

use anyhow::Result;
use maitre::{Engine, GenerateRequest, Speculate};
use maitre_examples::picture::{self, Line};
use maitre_examples::timed::ask_all;
use maitre_examples::{quick, table};
use maitre_text::Tokenizer;

use crate::texts::{questions, request};

/// Tokens per second as users grow: without guesses, with a fixed number of the draft model's guesses, and with
/// the controller's choice.
pub(super) async fn users(tokenizer: &Tokenizer) -> Result<()> {
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
