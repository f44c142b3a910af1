//! What was measured of each workload, pair by pair, and the table of it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::bootstrap::{bounds, median};
use super::contestant::{Contestant, Measured};
use super::peers::Workload;
use super::roofline::{Machine, Shape};

/// A workload and what was measured of it, pair by pair.
pub(super) struct Record {
    pub(super) workload: Workload,
    pub(super) pairs: Vec<Pair>,
}

/// Both, measured one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pair {
    pub(super) ours: Measured,
    pub(super) theirs: Measured,
}

impl Pair {
    /// As a line of a file.
    pub(super) fn to_json(self, workload: &str) -> Value {
        let of = |measured: Measured| json!([measured.seconds, measured.prompts]);
        json!({"workload": workload, "ours": of(self.ours), "theirs": of(self.theirs)})
    }

    /// The workload's name and the pair, of a line of a file.
    pub(super) fn of_json(line: &Value) -> Option<(&str, Self)> {
        let of = |name: &str| {
            let measured = Measured {
                seconds: line[name][0].as_f64()?,
                prompts: line[name][1].as_f64(),
            };
            Some(measured)
        };
        let pair = Self {
            ours: of("ours")?,
            theirs: of("theirs")?,
        };
        Some((line["workload"].as_str()?, pair))
    }
}

/// What of a workload is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Whole,
    /// Up to the first token of each answer.
    Prompts,
    /// The other tokens.
    Answers,
}

impl Part {
    fn of(workload: Workload) -> &'static [Self] {
        match workload.is_apart {
            false => &[Self::Whole],
            true => &[Self::Prompts, Self::Answers],
        }
    }

    fn seconds(self, measured: Measured) -> f64 {
        let prompts = measured.prompts.unwrap_or(f64::NAN);
        match self {
            Self::Whole => measured.seconds,
            Self::Prompts => prompts,
            Self::Answers => measured.seconds - prompts,
        }
    }

    fn tokens(self, workload: Workload) -> usize {
        match self {
            Self::Whole => workload.tokens(),
            Self::Prompts => workload.users * workload.input,
            Self::Answers => workload.users * (workload.output - 1),
        }
    }

    fn name(self, workload: Workload) -> String {
        let Workload { users, input, .. } = workload;
        match self {
            Self::Whole => workload.name(),
            Self::Prompts => format!("{users} x {input} ->"),
            Self::Answers => format!("{users} at {input}"),
        }
    }

    /// Seconds at the limit.
    fn limit(self, workload: Workload, shape: &Shape, machine: Machine) -> f64 {
        let whole = shape.seconds(workload, machine);
        let prompts = Workload {
            output: 1,
            ..workload
        };
        let prompts = shape.seconds(prompts, machine);
        match self {
            Self::Whole => whole,
            Self::Prompts => prompts,
            Self::Answers => whole - prompts,
        }
    }
}

impl Record {
    pub(super) fn new(workload: Workload) -> Self {
        Self {
            workload,
            pairs: Vec::new(),
        }
    }

    /// One measurement of each.
    pub(super) fn measure(
        &self,
        maitre: &mut Contestant,
        peer: &mut Contestant,
        ours_first: bool,
    ) -> Result<Pair> {
        let of = |contestant: &mut Contestant, name: &str| {
            let measured = contestant.measure(self.workload);
            let measured =
                measured.with_context(|| format!("{name} at {}", self.workload.name()))?;
            ensure!(
                !self.workload.is_apart || measured.prompts.is_some(),
                "{name} does not tell the time of the prompts apart; leave out --contexts"
            );
            Ok(measured)
        };
        let (ours, theirs) = if ours_first {
            (of(maitre, "maitre")?, of(peer, "the peer")?)
        } else {
            let theirs = of(peer, "the peer")?;
            (of(maitre, "maitre")?, theirs)
        };
        Ok(Pair { ours, theirs })
    }

    /// Each part by name with its ratio in a pair.
    pub(super) fn ratios(&self, pair: Pair) -> String {
        let parts = Part::of(self.workload).iter();
        let ratios = parts.map(|part| {
            let ratio = part.seconds(pair.theirs) / part.seconds(pair.ours);
            format!("{}: {ratio:.3}", part.name(self.workload))
        });
        ratios.collect::<Vec<_>>().join(", ")
    }
}

/// A line for each part of a workload; the shares of the limit are those of the medians.
pub(super) fn print_table(peer: &str, records: &[Record], shape: &Shape, machine: Machine) {
    println!("\nmaitre beside {peer}; {machine}");
    println!(
        "{:>15}  {:>12}  {:>8}  {:>12}  {:>8}  {:>6}  {:>10}  {:>10}  {:>5}",
        "workload",
        "maitre tok/s",
        "of limit",
        "peer tok/s",
        "of limit",
        "ratio",
        "95 % above",
        "95 % below",
        "pairs"
    );
    let mut logarithms = Vec::new();
    for Record { workload, pairs } in records {
        for part in Part::of(*workload) {
            let seconds = |pick: fn(&Pair) -> Measured| {
                let column = pairs.iter().map(|pair| part.seconds(pick(pair)));
                median(&column.collect::<Vec<_>>())
            };
            let (ours, theirs) = (seconds(|pair| pair.ours), seconds(|pair| pair.theirs));
            let ratios = pairs
                .iter()
                .map(|pair| part.seconds(pair.theirs) / part.seconds(pair.ours));
            let ratios: Vec<f64> = ratios.collect();
            let tokens = part.tokens(*workload) as f64;
            let limit = 100.0 * part.limit(*workload, shape, machine);
            let bounds = bounds(&ratios);
            logarithms.push(median(&ratios).ln());
            println!(
                "{:>15}  {:>12.1}  {:>6.1} %  {:>12.1}  {:>6.1} %  {:>6.3}  {:>10.3}  {:>10.3}  {:>5}",
                part.name(*workload),
                tokens / ours,
                limit / ours,
                tokens / theirs,
                limit / theirs,
                median(&ratios),
                bounds.lower,
                bounds.upper,
                pairs.len()
            );
        }
    }
    let mean = (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp();
    println!("{:>15}  geometric mean of the ratios {mean:.3}", "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_pair_are_compared_apart() {
        let measured = |seconds, prompts| Measured { seconds, prompts };
        let pair = Pair {
            ours: measured(3.0, Some(1.0)),
            theirs: measured(8.0, Some(3.0)),
        };
        let workload = Workload {
            users: 2,
            input: 64,
            output: 9,
            is_apart: true,
        };
        let ratios = Record::new(workload).ratios(pair);
        assert_eq!(ratios, "2 x 64 ->: 3.000, 2 at 64: 2.500");
        let tokens = Part::of(workload).iter().map(|part| part.tokens(workload));
        assert_eq!(tokens.collect::<Vec<_>>(), [128, 16]);
        let line = pair.to_json("w");
        assert_eq!(Pair::of_json(&line), Some(("w", pair)));
        assert_eq!(Pair::of_json(&json!({"workload": "w"})), None);
    }
}
