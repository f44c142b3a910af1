//! The exact joint distribution of a model's first tokens, and how far counts are from it.

use std::collections::BTreeMap;

use maitre_sampling::SamplingParams;

use crate::models::Markov;

/// How many tokens of an answer are looked at together.
pub(crate) const LENGTH: usize = 3;
/// The answers of [`LENGTH`] tokens.
pub(crate) const ANSWERS: usize = Markov::VOCAB.pow(LENGTH as u32);

/// Which of the [`ANSWERS`] a text is.
pub(crate) fn number(text: &[u32]) -> usize {
    let digit = |number: usize, token: &u32| number * Markov::VOCAB + *token as usize;
    text[..LENGTH].iter().fold(0, digit)
}

/// The probability of each answer.
pub(crate) fn joint(model: &Markov, params: &SamplingParams) -> Vec<f64> {
    let mut texts: Vec<(Vec<u32>, f64)> = vec![(Vec::new(), 1.0)];
    for _ in 0..LENGTH {
        let longer = |(text, probability): &(Vec<u32>, f64)| {
            let (text, probability) = (text.clone(), *probability);
            let next = next(model.row(&text), &text, params);
            let longer = (0_u32..)
                .zip(next)
                .map(move |(token, then)| ([&text[..], &[token]].concat(), probability * then));
            longer.collect::<Vec<_>>()
        };
        texts = texts.iter().flat_map(longer).collect();
    }
    texts
        .into_iter()
        .map(|(_, probability)| probability)
        .collect()
}

/// The probability of each token behind `text`: the parameters' meaning once more, by sorting.
fn next(logits: &[f32], text: &[u32], params: &SamplingParams) -> Vec<f64> {
    let scaled = |(token, logit): (u32, &f32)| {
        let times = text.iter().filter(|other| **other == token).count() as f64;
        let penalised = f64::from(*logit) - f64::from(params.frequency_penalty) * times;
        (token, (penalised / f64::from(params.temperature)).exp())
    };
    let mut order: Vec<(u32, f64)> = (0..).zip(logits).map(scaled).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = order[0].1;
    order.retain(|(_, weight)| *weight >= f64::from(params.min_p) * most);
    if params.top_k > 0 {
        order.truncate(params.top_k as usize);
    }
    let total: f64 = order.iter().map(|(_, weight)| weight).sum();
    let (mut kept, mut share) = (BTreeMap::new(), 0.0);
    for (token, weight) in order {
        if share < f64::from(params.top_p) {
            share += weight / total;
            kept.insert(token, weight);
            let margin = (share - f64::from(params.top_p)).abs();
            assert!(params.top_p == 1.0 || margin > 1e-4, "too close to call");
        }
    }
    let total: f64 = kept.values().sum();
    let probability = |token| kept.get(&token).map_or(0.0, |weight| weight / total);
    (0..logits.len() as u32).map(probability).collect()
}

/// The chi-square statistic as a standard normal deviate (Wilson and Hilferty 1931); infinite if something came
/// that can't. Cells expected fewer than ten times are counted as one.
pub(crate) fn deviate(observed: &[u64], probabilities: &[f64]) -> f64 {
    let draws = observed.iter().sum::<u64>() as f64;
    let (mut cells, mut rest) = (Vec::new(), (0.0, 0.0));
    for (observed, probability) in observed.iter().zip(probabilities) {
        let (observed, expected) = (*observed as f64, probability * draws);
        if expected >= 10.0 {
            cells.push((observed, expected));
        } else if expected > 0.0 {
            rest = (rest.0 + observed, rest.1 + expected);
        } else if observed > 0.0 {
            return f64::INFINITY;
        }
    }
    if rest.1 >= 10.0 {
        cells.push(rest);
    }
    let statistic: f64 = cells
        .iter()
        .map(|(observed, expected)| (observed - expected).powi(2) / expected)
        .sum();
    let freedom = cells.len() as f64 - 1.0;
    let variance = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - variance)) / variance.sqrt()
}
