//! The figures of a machine of known cost are found again from the times of its bursts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use maitre_sim::workload::{Burst, ClosedLoop, Length, Lengths, ObservedBurst, ThinkTime};
use maitre_sim::{Calibrated, CostModel, EngineSettings, ModelShape, ProductFormat, Simulation};
use proptest::prelude::*;

fn shape() -> ModelShape {
    ModelShape::known("qwen3-0.6b").unwrap()
}

fn engine() -> EngineSettings {
    EngineSettings {
        max_seqs: 64,
        max_batched_tokens: 512,
        ..EngineSettings::new(4096, 4096)
    }
}

/// A processor: half of the shorter one of reading and computing is hidden.
fn cost() -> CostModel {
    CostModel {
        step_seconds: 2e-4,
        sequence_seconds: 2e-5,
        chunk_seconds: 1e-4,
        kv_bytes_per_second: 12e9,
        output_ops_per_second: 90e9,
        unhidden_share: 0.5,
        ..CostModel::limits(30e9, 140e9, 40e9)
    }
}

/// How long a burst takes by a cost, from a simulation of it: what the calibration itself does not use.
fn observe(burst: Burst, cost: &CostModel) -> ObservedBurst {
    let simulation =
        Simulation::with_cost(&shape(), "here".to_owned(), cost.clone(), engine()).unwrap();
    let lengths = Lengths::Independent {
        prompt: Length::Fixed(burst.prompt_tokens),
        output: Length::Fixed(burst.output_tokens),
    };
    let think = ThinkTime::Fixed(std::time::Duration::ZERO);
    let requests = u64::from(burst.users);
    let mut users = ClosedLoop::new(burst.users, think, lengths, requests, 0).unwrap();
    let report = simulation.run(&mut users).unwrap();
    let first_tokens_seconds = report.ttft_ms.unwrap().max / 1e3;
    ObservedBurst {
        burst,
        first_tokens_seconds,
        answers_seconds: report.duration_s - first_tokens_seconds,
    }
}

fn calibrated(cost: &CostModel, disturb: impl Fn(usize, f64) -> f64) -> Calibrated {
    let observed: Vec<ObservedBurst> = Calibrated::ladder(&engine())
        .into_iter()
        .enumerate()
        .map(|(index, burst)| {
            let seen = observe(burst, cost);
            ObservedBurst {
                first_tokens_seconds: disturb(2 * index, seen.first_tokens_seconds),
                answers_seconds: disturb(2 * index + 1, seen.answers_seconds),
                ..seen
            }
        })
        .collect();
    let name = ("here".to_owned(), 24e9);
    Calibrated::fit(name, &shape(), &engine(), ProductFormat::Bf16, &observed).unwrap()
}

/// How far bursts that no calibration saw are from what it foresees.
fn worst_unseen(found: &Calibrated, cost: &CostModel) -> f64 {
    let refound = found.hardware.cost(found.products).unwrap();
    let unseen = [
        (5, 100, 40),
        (20, 48, 60),
        (1, 700, 20),
        (40, 33, 25),
        (10, 300, 30),
    ];
    let errors = unseen.map(|(users, prompt_tokens, output_tokens)| {
        let burst = Burst {
            users,
            prompt_tokens,
            output_tokens,
        };
        let (real, foreseen) = (observe(burst, cost), observe(burst, &refound));
        let first = foreseen.first_tokens_seconds / real.first_tokens_seconds - 1.0;
        let answers = foreseen.answers_seconds / real.answers_seconds - 1.0;
        first.abs().max(answers.abs())
    });
    errors.into_iter().fold(0.0, f64::max)
}

#[test]
fn a_known_machine_is_found_again() {
    let found = calibrated(&cost(), |_, seconds| seconds);
    let worst = found.errors().last().copied().unwrap();
    assert!(worst < 0.03, "{found}");
    assert!(worst_unseen(&found, &cost()) < 0.03, "{found}");
}

#[test]
fn a_step_of_the_kernels_that_no_formula_has_is_found_by_factors() {
    // Kernels compute tokens by eights, and with 17 to 64 they are slower than with fewer or more.
    let odd = CostModel {
        product_factors: vec![
            (1.0, 1.0),
            (16.0, 1.0),
            (17.0, 1.4),
            (64.0, 1.4),
            (128.0, 1.0),
        ],
        ..cost()
    };
    let found = calibrated(&odd, |_, seconds| seconds);
    // Between 16 and 24 users the ladder has no burst: there the jump is a slope.
    assert!(worst_unseen(&found, &odd) < 0.11, "{found}");
    let plain = Calibrated {
        hardware: maitre_sim::Hardware {
            product_factors: Vec::new(),
            ..found.hardware.clone()
        },
        ..found.clone()
    };
    assert!(worst_unseen(&plain, &odd) > worst_unseen(&found, &odd));
}

#[test]
fn a_disturbed_burst_moves_the_others_little() {
    // The prompts of one burst took three times as long.
    let found = calibrated(&cost(), |index, seconds| match index {
        38 => 3.0 * seconds,
        _ => seconds,
    });
    assert!(worst_unseen(&found, &cost()) < 0.10, "{found}");
}

#[test]
fn a_file_of_the_figures_says_the_same() {
    let found = calibrated(&cost(), |_, seconds| seconds);
    let text = serde_json::to_string(&found.hardware).unwrap();
    let read: maitre_sim::Hardware = serde_json::from_str(&text).unwrap();
    let (read, written) = (
        read.cost(found.products).unwrap(),
        found.hardware.cost(found.products).unwrap(),
    );
    // A number may change in its last digit when it is read again.
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
    assert!(close(read.kv_bytes_per_second, written.kv_bytes_per_second));
    assert!(close(
        read.output_ops_per_second,
        written.output_ops_per_second
    ));
    assert!(close(
        read.attention_ops_per_second,
        written.attention_ops_per_second
    ));
    assert!(close(read.step_seconds, written.step_seconds));
    assert_eq!(read.product_factors.len(), written.product_factors.len());
    assert!(found.to_string().contains("here: median error"), "{found}");
}

#[test]
fn what_no_machine_can_be_told_from_is_refused() {
    let fit = |observed: &[ObservedBurst]| {
        let name = ("here".to_owned(), 24e9);
        let found = Calibrated::fit(name, &shape(), &engine(), ProductFormat::Bf16, observed);
        found.unwrap_err().to_string()
    };
    let burst = |users, prompt_tokens| Burst {
        users,
        prompt_tokens,
        output_tokens: 4,
    };
    let good = observe(burst(1, 16), &cost());
    let said = fit(&[good]);
    assert!(
        said.contains("the number of bursts is 1; expected at least 2"),
        "{said}"
    );
    let still = ObservedBurst {
        answers_seconds: 0.0,
        ..good
    };
    let said = fit(&[good, still]);
    assert!(said.contains("answers_seconds is 0"), "{said}");
    let empty = ObservedBurst {
        burst: burst(0, 16),
        ..good
    };
    let said = fit(&[good, empty]);
    assert!(said.contains("users is 0"), "{said}");
    let long = ObservedBurst {
        burst: burst(1, 5000),
        ..good
    };
    let said = fit(&[good, long]);
    assert!(said.contains("one that the engine takes"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Times that vary as those of a real machine do still give its figures.
    #[test]
    fn noise_of_a_few_percent_gives_errors_of_a_few_percent(seeds in prop::collection::vec(-0.03_f64..0.03, 128)) {
        let found = calibrated(&cost(), |index, seconds| seconds * (1.0 + seeds[index % seeds.len()]));
        prop_assert!(worst_unseen(&found, &cost()) < 0.12, "{found}");
    }
}
