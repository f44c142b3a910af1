//! The simulator from the outside: answers that are known beforehand, properties of every run, and traces.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod drafts;
mod fleets;
mod known_answers;
mod properties;
mod repeats;
mod routing;
mod schedules;

use maitre_sim::workload::{Arrivals, Length, Lengths, OpenLoop, Request, SharedPrefix};
use maitre_sim::{Answered, CostModel, EngineSettings, ModelShape, Report, Simulation};

/// A model whose sizes hardly matter.
pub(crate) fn shape() -> ModelShape {
    ModelShape {
        name: "tiny".to_owned(),
        layers: 1,
        hidden: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 1,
        ffn: 1,
        vocabulary: 1,
        tied: true,
        bytes_per_weight: 2.0,
        bytes_per_output_weight: None,
        bytes_per_kv_number: 2.0,
        experts: None,
        window: None,
        context: 4096,
    }
}

/// Steps of so many seconds, plus so many for each sequence and each chunk. All else takes no time.
pub(crate) fn overheads(step: f64, sequence: f64, chunk: f64) -> CostModel {
    CostModel {
        step_seconds: step,
        sequence_seconds: sequence,
        chunk_seconds: chunk,
        ..CostModel::limits(1e30, 1e30, 1e30)
    }
}

pub(crate) fn simulation(cost: CostModel, engine: EngineSettings) -> Simulation {
    Simulation::with_cost(&shape(), "none".to_owned(), cost, engine).unwrap()
}

pub(crate) fn lengths(prompt: u32, output: u32) -> Lengths {
    Lengths::Independent {
        prompt: Length::Fixed(prompt),
        output: Length::Fixed(output),
    }
}

pub(crate) fn poisson(rate: f64, lengths: Lengths, requests: u64, seed: u64) -> OpenLoop {
    let process = format!("poisson:{rate}").parse().unwrap();
    OpenLoop::new(process, lengths, requests, seed).unwrap()
}

/// Runs with the simulation's own router and keeps every answer.
pub(crate) fn run(simulation: &Simulation, arrivals: &mut dyn Arrivals) -> (Report, Vec<Answered>) {
    let mut all = Vec::new();
    let router = simulation.routing.build();
    let report = simulation
        .run_with(arrivals, router, &mut |answered| all.push(*answered))
        .unwrap();
    (report, all)
}

/// Requests at times of the test's choice.
pub(crate) struct Given(std::collections::VecDeque<Request>);

impl Given {
    /// Milliseconds of the arrival, tokens of the prompt and of the answer, ids of blocks of 16 tokens.
    pub(crate) fn new(rows: &[(u64, u32, u32, &[u64])]) -> Self {
        let requests = rows.iter().enumerate().map(|(number, row)| Request {
            number: number as u64,
            arrival: std::time::Duration::from_millis(row.0),
            prompt_tokens: row.1,
            output_tokens: row.2,
            prefix: (!row.3.is_empty()).then(|| SharedPrefix {
                block_tokens: 16,
                ids: row.3.into(),
            }),
            session: None,
            user: None,
        });
        Self(requests.collect())
    }
}

impl Arrivals for Given {
    fn next_at(&mut self) -> Option<std::time::Duration> {
        self.0.front().map(|request| request.arrival)
    }

    fn take(&mut self) -> Option<Request> {
        self.0.pop_front()
    }
}
