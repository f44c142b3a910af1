//! Speculation: what is exact is compared with a run without it, what is drawn with the closed form.

use maitre_sim::routing::Routing;
use maitre_sim::workload::{Length, Lengths};
use maitre_sim::{
    Acceptance, Answered, CostModel, Drafter, EngineSettings, ModelShape, Report, Simulation,
    Speculation, SpeculationReport, Split, StepPricer, StepWork,
};
use proptest::prelude::*;

use crate::{Given, overheads, poisson, run, shape, simulation};

fn speculation(drafts: usize, share: f64) -> Speculation {
    Speculation::new(drafts, Acceptance::of_shares(vec![share; drafts]).unwrap())
}

/// Room for all drafts of a few sequences.
fn ample() -> EngineSettings {
    EngineSettings {
        max_batched_tokens: 4096,
        ..EngineSettings::new(4096, 4096)
    }
}

fn drafted(report: &Report) -> &SpeculationReport {
    report.speculation.as_ref().unwrap()
}

#[derive(Debug, Clone)]
struct Case {
    engine: EngineSettings,
    /// Milliseconds after the one before, prompt and output.
    requests: Vec<(u64, u32, u32)>,
    drafts: usize,
}

impl Case {
    /// Steps cost what drafts do not change.
    fn run(&self, share: Option<f64>) -> (Report, Vec<Answered>) {
        let mut simulation = simulation(overheads(0.0017, 0.000_31, 0.000_4), self.engine.clone());
        simulation.speculation = share.map(|share| speculation(self.drafts, share));
        let mut at = 0;
        let rows: Vec<(u64, u32, u32, &[u64])> = self
            .requests
            .iter()
            .map(|&(after, prompt, output)| {
                at += after;
                (at, prompt, output, &[][..])
            })
            .collect();
        run(&simulation, &mut Given::new(&rows))
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let engine = (1..8_usize, 0..40_usize, 20..60_u32, 1..5_u32, 1..3_usize);
    let engine = engine.prop_map(|(max_seqs, spare, blocks, block_size, steps_in_flight)| {
        EngineSettings {
            max_seqs,
            max_batched_tokens: max_seqs + spare,
            block_size: 1 << block_size,
            // Blocks that drafts take for a step may be those of a prefix that no request holds.
            prefix_cache: false,
            steps_in_flight,
            ..EngineSettings::new(blocks, 120)
        }
    });
    let request = (0..60_u64, 1..60_u32, 1..60_u32);
    let requests = prop::collection::vec(request, 1..30);
    (engine, requests, 1..9_usize).prop_map(|(engine, requests, drafts)| Case {
        engine,
        requests,
        drafts,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn drafts_that_are_never_accepted_change_no_token(case in cases()) {
        let mut case = case;
        // A request whose next token is planned ahead has none to draft behind.
        case.engine.steps_in_flight = 1;
        let (plain, answers) = case.run(None);
        let (vain, answers_in_vain) = case.run(Some(0.0));
        prop_assert_eq!(answers, answers_in_vain);
        prop_assert_eq!(plain.preemptions, vain.preemptions);
        prop_assert_eq!(plain.itl_ms, vain.itl_ms);
        prop_assert_eq!(drafted(&vain).accepted, 0);
        prop_assert_eq!(vain.tokens.computed, plain.tokens.computed + drafted(&vain).drafted);
    }

    #[test]
    fn every_answer_has_its_tokens_whatever_is_accepted(case in cases(), share in 0.0..=1.0_f64) {
        let (plain, answers) = case.run(None);
        let (report, drafts) = case.run(Some(share));
        let lengths = |answers: &[Answered]| {
            let mut lengths: Vec<(u64, u32)> = answers.iter().map(|it| (it.number, it.output_tokens)).collect();
            lengths.sort_unstable();
            lengths
        };
        prop_assert_eq!(lengths(&answers), lengths(&drafts));
        prop_assert_eq!(plain.requests, report.requests.clone());
        let counts = drafted(&report);
        prop_assert!(counts.accepted <= counts.drafted);
        prop_assert!((1.0..=case.drafts as f64 + 1.0).contains(&counts.tokens_per_step) || counts.decodes == 0);
    }

    #[test]
    fn drafts_that_are_always_accepted_come_as_many_to_a_step(later in 1..200_u32, drafts in 1..12_usize) {
        let mut simulation = simulation(overheads(0.001, 0.0, 0.0), ample());
        simulation.speculation = Some(speculation(drafts, 1.0));
        let (report, answers) = run(&simulation, &mut Given::new(&[(0, 7, 1 + later, &[])]));
        let steps = u64::from(later).div_ceil(drafts as u64 + 1);
        prop_assert_eq!(drafted(&report).decodes, steps);
        let millis = (answers[0].ended - answers[0].first_token).as_secs_f64() * 1e3;
        prop_assert!((millis - steps as f64).abs() < 1e-6, "{} ms", millis);
    }
}

/// (1 - a^(K + 1)) / (1 - a) tokens a step (Leviathan et al. 2023), where answers are so long that their ends hardly count.
#[test]
fn tokens_a_step_are_those_of_the_closed_form() {
    for (share, drafts) in [(0.6, 3), (0.8, 5)] {
        let mut simulation = simulation(overheads(0.001, 0.0, 0.0), ample());
        simulation.speculation = Some(speculation(drafts, share));
        let rows: Vec<(u64, u32, u32, &[u64])> = (0..10).map(|it| (it, 5, 4000, &[][..])).collect();
        let (report, _) = run(&simulation, &mut Given::new(&rows));
        let closed = (1.0 - f64::powi(share, drafts as i32 + 1)) / (1.0 - share);
        let found = drafted(&report).tokens_per_step;
        assert!((found / closed - 1.0).abs() < 0.01, "{found} {closed}");
    }
}

/// Shares that differ by position, and what is recorded of a simulation is what was put into it.
#[test]
fn each_position_has_its_share() {
    let shares = vec![0.9, 0.4, 0.7];
    let mut simulation = simulation(overheads(0.001, 0.0, 0.0), ample());
    simulation.speculation = Some(Speculation::new(
        3,
        Acceptance::of_shares(shares.clone()).unwrap(),
    ));
    let rows: Vec<(u64, u32, u32, &[u64])> = (0..20).map(|it| (it, 5, 4000, &[][..])).collect();
    let (report, _) = run(&simulation, &mut Given::new(&rows));
    let json = serde_json::to_string(drafted(&report)).unwrap();
    let recorded = Acceptance::recorded(&json).unwrap();
    for (found, share) in recorded.conditional().iter().zip(shares) {
        assert!((found - share).abs() < 0.01, "{found} {share}");
    }
}

fn random_lengths() -> Lengths {
    Lengths::Independent {
        prompt: Length::Uniform(1..=40),
        output: Length::Uniform(1..=60),
    }
}

fn fleet(replicas: usize, routing: Routing, seed: u64) -> Simulation {
    let mut simulation = simulation(overheads(0.001, 0.000_1, 0.0), ample());
    simulation.speculation = Some(speculation(4, 0.7));
    (simulation.replicas, simulation.routing) = (replicas, routing);
    simulation.seed = seed;
    simulation
}

#[test]
fn draws_depend_on_the_seed_and_on_nothing_else_that_changes() {
    let run_with = |simulation: &Simulation| {
        let mut arrivals = poisson(200.0, random_lengths(), 60, 3);
        simulation.run(&mut arrivals).unwrap()
    };
    let first = run_with(&fleet(1, Routing::RoundRobin, 3));
    assert_eq!(
        run_with(&fleet(1, Routing::RoundRobin, 3)).to_json(),
        first.to_json()
    );
    for routing in Routing::ALL {
        for replicas in [1, 3] {
            let other = run_with(&fleet(replicas, routing, 3));
            assert_eq!(drafted(&other), drafted(&first), "{replicas} {routing:?}");
        }
    }
    let other = run_with(&fleet(1, Routing::RoundRobin, 4));
    assert_ne!(drafted(&other), drafted(&first));
}

#[test]
fn a_fleet_of_prefill_and_decode_replicas_drafts_on_the_latter() {
    let mut simulation = fleet(1, Routing::RoundRobin, 3);
    simulation.split = Some(Split {
        prefill: 1,
        decode: 2,
        link_bytes_per_second: 1e9,
    });
    let (report, answers) = run(&simulation, &mut poisson(200.0, random_lengths(), 60, 3));
    assert_eq!(answers.len(), 60);
    assert!(drafted(&report).accepted > 0, "{report}");
    assert!(
        report
            .to_string()
            .contains("tokens a step for each sequence")
    );
}

/// A model with one layer, which reads and computes at round rates.
fn cost() -> CostModel {
    CostModel {
        step_seconds: 0.001,
        sequence_seconds: 0.000_1,
        ..CostModel::limits(1e6, 1e7, 1e7)
    }
}

/// A step of one sequence: tokens behind those before, rows of logits, and whether it is of a prompt.
fn alone(before: u64, tokens: u64, rows: u64, chunks: u64) -> StepWork {
    StepWork {
        sequences: 1,
        chunks,
        tokens,
        rows,
        kv_positions: before + tokens,
        attention_pairs: tokens * before + tokens * (tokens + 1) / 2,
        ..StepWork::default()
    }
}

/// Seconds of these steps of a model.
fn total(shape: &ModelShape, steps: &[StepWork]) -> f64 {
    let pricer = StepPricer::new(shape, cost(), 16).unwrap();
    steps.iter().map(|work| pricer.price(work).total()).sum()
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
}

fn draft() -> ModelShape {
    ModelShape {
        hidden: 3,
        ..shape()
    }
}

/// A prompt of 5 tokens and an answer of so many, with at most 2 drafts a step of a model, each accepted with this probability.
fn with_draft_model(engine: EngineSettings, share: f64, output: u32) -> Report {
    let mut simulation = simulation(cost(), engine);
    let mut asked = speculation(2, share);
    asked.drafter = Drafter::Model(Box::new(draft()));
    simulation.speculation = Some(asked);
    run(&simulation, &mut Given::new(&[(0, 5, output, &[])])).0
}

#[test]
fn a_draft_model_costs_its_own_steps() {
    let report = with_draft_model(ample(), 0.0, 4);
    // The prompt, then a token with two drafts, one with one draft as the answer ends behind it, and the last one.
    let model = [
        alone(0, 5, 1, 1),
        alone(5, 3, 3, 0),
        alone(6, 2, 2, 0),
        alone(7, 1, 1, 0),
    ];
    let drafts = [
        alone(0, 5, 0, 1),
        alone(5, 1, 1, 0),
        alone(6, 1, 1, 0),
        alone(6, 1, 1, 0),
    ];
    let seconds = report.steps.seconds;
    close(seconds.drafts, total(&draft(), &drafts));
    close(seconds.total() - seconds.drafts, total(&shape(), &model));
    close(report.steps.mean_ms * 4.0 / 1e3, seconds.total());
    assert_eq!(report.tokens.computed, 11);
}

#[test]
fn a_draft_model_computes_what_it_is_behind_before_it_drafts_again() {
    // Both drafts are accepted, and only the first of them, at position 6, has given another one.
    let drafts = [
        alone(0, 5, 0, 1),
        alone(5, 1, 1, 0),
        alone(6, 1, 1, 0),
        alone(7, 2, 1, 0),
        alone(9, 1, 1, 0),
    ];
    let report = with_draft_model(ample(), 1.0, 7);
    close(report.steps.seconds.drafts, total(&draft(), &drafts));
    // The last token of the prompt has a step of its own, in which nothing is drafted.
    let small = EngineSettings {
        max_seqs: 1,
        max_batched_tokens: 4,
        ..ample()
    };
    let drafts = [
        alone(0, 4, 0, 1),
        alone(4, 2, 1, 0),
        alone(6, 1, 1, 0),
        alone(6, 1, 1, 0),
    ];
    let report = with_draft_model(small, 0.0, 4);
    close(report.steps.seconds.drafts, total(&draft(), &drafts));
}

#[test]
fn drafts_of_so_many_seconds_cost_their_longest() {
    let mut simulation = simulation(overheads(0.001, 0.0, 0.0), ample());
    let mut asked = speculation(2, 0.0);
    asked.drafter = Drafter::Seconds(0.01);
    simulation.speculation = Some(asked);
    let rows: [(u64, u32, u32, &[u64]); 2] = [(0, 5, 4, &[]), (0, 5, 3, &[])];
    let (report, _) = run(&simulation, &mut Given::new(&rows));
    // The longer answer drafts two, one and none, the shorter one one and none in the same steps.
    assert!(
        (report.steps.seconds.drafts - 0.03).abs() < 1e-9,
        "{report}"
    );
}

#[test]
fn speculation_that_cannot_be_is_refused() {
    let mut simulation = simulation(overheads(0.001, 0.0, 0.0), ample());
    let said = |simulation: &Simulation| {
        let error = simulation.run(&mut Given::new(&[(0, 5, 4, &[])]));
        error.unwrap_err().to_string()
    };
    simulation.speculation = Some(Speculation {
        drafts: 3,
        ..speculation(2, 0.5)
    });
    let few = said(&simulation);
    assert!(few.contains("is 3; expected at most 2"), "{few}");
    simulation.speculation = Some(Speculation {
        drafter: Drafter::Seconds(-1.0),
        ..speculation(2, 0.5)
    });
    let early = said(&simulation);
    assert!(early.contains("the time of a draft is -1"), "{early}");
    simulation.speculation = Some(Speculation {
        drafter: Drafter::Model(Box::new(ModelShape {
            vocabulary: 1000,
            ..shape()
        })),
        ..speculation(2, 0.5)
    });
    let other = said(&simulation);
    assert!(
        other.contains(
            "the vocabulary of the draft model is 1000 tokens (tiny); expected the 1 tokens of tiny"
        ),
        "{other}"
    );
}
