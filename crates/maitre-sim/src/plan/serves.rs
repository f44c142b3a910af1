//! What a box does at the load that it serves, how many boxes that makes, and what it costs.

use super::Question;
use super::figure::{Figure, bytes, millis, number};
use super::search::Capacity;
use crate::{SimError, StepWork};

impl Question {
    /// A user alone, and the mean step of a box at its load.
    pub(super) fn figures_of_steps(&self, capacity: &Capacity) -> Result<Vec<Figure>, SimError> {
        let (prompt, output) = self.traffic.mean_lengths();
        let length = (prompt + output / 2.0) as u64;
        let work = StepWork::mixed(1, length, 0, self.model.window.map(|it| it.tokens));
        let alone = self.pricer()?.price(&work);
        let cost = self.cost()?;
        let read = cost.read_bytes_per_second;
        let devices = self.devices;
        let factor = match cost.product_factors.is_empty() {
            true => "",
            false => " × the factor of one token, of the layers",
        };
        let token_ops = 2.0 * self.model.active_layer_weights();
        let steps = &capacity.keeps.report.steps;
        let per_step = |seconds: f64| seconds / (steps.count.max(1) as f64);
        Ok(vec![
            Figure::new(
                "one user alone",
                1.0 / alone.total(),
                "tokens/s",
                format!("1 ÷ ({})", terms(alone.terms())),
            ),
            Figure::new(
                "reading weights",
                alone.weight_reads * 1e3,
                "ms",
                format!(
                    "{} for one token ÷ ({devices} × {}/s)",
                    bytes(self.pricer()?.weight_bytes(&work) * f64::from(devices)),
                    bytes(read)
                ) + factor,
            ),
            Figure::new(
                "reading KV",
                alone.kv * 1e3,
                "ms",
                format!(
                    "{} of {} tokens, on {devices} of {}/s",
                    bytes(self.model.kv_bytes_of(length as f64 + 1.0)),
                    number(length as f64 + 1.0),
                    bytes(cost.kv_bytes_per_second)
                ),
            ),
            Figure::new(
                "products of a token",
                token_ops / (cost.product_ops_per_second * f64::from(devices)) * 1e6,
                "µs",
                format!(
                    "2 × {} weights ÷ ({devices} × {} TFLOP/s in {})",
                    number(self.model.active_layer_weights()),
                    number(cost.product_ops_per_second / 1e12),
                    cost.products.name()
                ),
            ),
            Figure::new(
                "step at that load",
                steps.mean_ms,
                "ms",
                format!(
                    "{}, with {} sequences and {} tokens",
                    terms(
                        steps
                            .seconds
                            .terms()
                            .map(|(name, seconds)| (name, per_step(seconds)))
                    ),
                    number(steps.mean_sequences),
                    number(steps.mean_tokens)
                ),
            ),
        ])
    }

    /// What a box serves, and all boxes. Returns how many there are too.
    pub(super) fn figures_of_boxes(&self, capacity: &Capacity) -> (Vec<Figure>, u64) {
        let keeps = &capacity.keeps;
        let unit = self.traffic.unit();
        let (prompt, output) = self.traffic.mean_lengths();
        let requests = self.traffic.requests_per_second(keeps.load, keeps.answer);
        let all = self.traffic.in_all();
        let boxes = (all / keeps.load).ceil().max(1.0);
        let share = |share: f64| format!("{:.1} %", share * 100.0);
        let searched = format!(
            "simulated: of {} {} of the answers keep to {}{}",
            number(keeps.load),
            share(keeps.kept),
            self.slo,
            match &capacity.fails {
                Some(fails) => format!(
                    ", of {} fewer than {}",
                    number(fails.load),
                    share(self.slo_share)
                ),
                None => String::new(),
            }
        );
        let mut figures = vec![
            Figure::new("load per box", keeps.load, unit, searched),
            Figure::new(
                "requests per box",
                requests,
                "requests/s",
                self.requests_formula(keeps.load, keeps.answer),
            ),
            Figure::new(
                "output per box",
                requests * output,
                "tokens/s",
                format!(
                    "{} requests/s × {} tokens",
                    number(requests),
                    number(output)
                ),
            ),
            Figure::new(
                "boxes",
                boxes,
                "boxes",
                format!(
                    "{} ÷ {} {unit}, rounded up",
                    number(all),
                    number(keeps.load)
                ),
            ),
        ];
        if let Some(price) = self.price_per_hour {
            let served = requests * all / keeps.load;
            figures.extend(costs(price, boxes, served, prompt, output));
        }
        (figures, boxes as u64)
    }

    fn requests_formula(&self, load: f64, answer: f64) -> String {
        match &self.traffic {
            super::Traffic::Users { think, .. } => format!(
                "{} users ÷ ({answer:.3} s to answer + {:.3} s to think)",
                number(load),
                think.as_secs_f64()
            ),
            super::Traffic::Rate { .. } => "the load itself".to_owned(),
            super::Traffic::Trace(_) => format!(
                "{} requests/s of the trace, at {:.4} times its speed",
                number(self.traffic.in_all()),
                load / self.traffic.in_all()
            ),
        }
    }
}

/// Prices of an hour and of a million tokens of the traffic, over all boxes.
fn costs(price: f64, boxes: f64, requests: f64, prompt: f64, output: f64) -> Vec<Figure> {
    let hour = price * boxes;
    let per_million = |tokens: f64| hour / (requests * tokens * 3600.0) * 1e6;
    let formula = |tokens: f64| {
        format!(
            "{} an hour ÷ ({} requests/s × {} tokens × 3,600 s) × 1,000,000",
            number(hour),
            number(requests),
            number(tokens)
        )
    };
    vec![
        Figure::new(
            "cost of an hour",
            hour,
            "an hour",
            format!("{} boxes × {}", number(boxes), number(price)),
        ),
        Figure::new(
            "cost of output",
            per_million(output),
            "per million output tokens",
            formula(output),
        ),
        Figure::new(
            "cost of all tokens",
            per_million(prompt + output),
            "per million tokens",
            formula(prompt + output),
        ),
    ]
}

/// The terms of a step that are told as something.
fn terms<const N: usize>(terms: [(&'static str, f64); N]) -> String {
    let total: f64 = terms.iter().map(|(_, seconds)| seconds).sum();
    let told = terms
        .iter()
        .filter(|(_, seconds)| *seconds >= 0.002 * total);
    let told: Vec<String> = told
        .map(|(name, seconds)| format!("{name} {}", millis(*seconds)))
        .collect();
    told.join(" + ")
}
