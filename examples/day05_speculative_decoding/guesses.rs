//! Which guesses stand: step by step in three answers, and by their place in a step over many.

use anyhow::{Result, ensure};
use maitre_examples::picture::{self, Line};
use maitre_examples::table;
use maitre_text::Tokenizer;

use crate::pair::Pair;
use crate::{MOST_DRAFTS, params};

pub(super) fn one_answer(pair: &mut Pair, tokenizer: &Tokenizer) -> Result<()> {
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

/// How often the first, second, … guess of eight stands if all before it do.
pub(super) fn by_position(pair: &mut Pair, prompts: &[Vec<u32>]) -> Result<()> {
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
