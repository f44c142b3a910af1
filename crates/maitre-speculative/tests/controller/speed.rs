//! Never slower than none, never much slower than the best.

use maitre_speculative::Speculate;

use crate::batch::{Alpha, Machine, Plan, run};

/// Reads weights for 20 ms; arithmetic is the greater from 8 rows on.
const CPU: Machine = Machine {
    read: 20_000.0,
    row: 2_500.0,
    fixed: 500.0,
    round: (2_000.0, 250.0),
};

/// A machine with arithmetic to spare.
const GPU: Machine = Machine {
    read: 4_000.0,
    row: 15.0,
    fixed: 300.0,
    round: (500.0, 2.0),
};

/// A tiny model, where everything but the rows is overhead.
const TINY: Machine = Machine {
    read: 100.0,
    row: 40.0,
    fixed: 80.0,
    round: (60.0, 10.0),
};

fn plan(machine: Machine, users: usize, alpha: Alpha) -> Plan {
    Plan {
        machine,
        users,
        alpha,
        speculate: Speculate::Auto,
        draft_tokens: 8,
        steps: 3000,
    }
}

/// The mean of what a step takes over what it should take, in these simulations.
const DISTURBANCE: f64 = 0.99 + 0.01 * 5.0;

/// The rate of a fixed number of tokens, as it is on average (Leviathan et al. 2023, theorem 3.8).
fn fixed(plan: &Plan, draft_tokens: usize) -> f64 {
    let machine = plan.machine;
    let tokens: f64 = (0..plan.users as u64)
        .map(|id| {
            (0..=draft_tokens as i32)
                .map(|j| (plan.alpha)(id).powi(j))
                .sum::<f64>()
        })
        .sum();
    let (once, each) = machine.round;
    let round = once + each * plan.users as f64;
    let rows = plan.users * (1 + draft_tokens);
    tokens / (draft_tokens as f64 * round + DISTURBANCE * machine.step(rows)) * 1e6
}

/// Whether it is.
fn is_good(name: &str, plan: &Plan) -> bool {
    let (auto, drafted) = run(plan);
    let none = fixed(plan, 0);
    let best = (0..=8).map(|k| fixed(plan, k)).fold(0.0, f64::max);
    let (to_none, to_best) = (auto / none, auto / best);
    println!(
        "{name}, {} users: {to_none:.2} of none, {to_best:.2} of the best; {drafted:.1} drafted a step; best {:.2}",
        plan.users,
        best / none
    );
    to_none >= 0.97 && to_best >= 0.95
}

#[test]
fn auto_is_never_slower_than_none_nor_than_the_best_fixed_length() {
    let alphas: [(&str, Alpha); 5] = [
        ("hopeless", |_| 0.02),
        ("poor", |_| 0.35),
        ("fair", |_| 0.6),
        ("good", |_| 0.85),
        ("mixed", |id| if id % 2 == 0 { 0.9 } else { 0.1 }),
    ];
    let mut bad = Vec::new();
    for (machine_name, machine) in [("cpu", CPU), ("gpu", GPU), ("tiny", TINY)] {
        for (alpha_name, alpha) in alphas {
            for users in [1, 2, 4, 8, 16, 64] {
                let name = format!("{machine_name}, {alpha_name}");
                if !is_good(&name, &plan(machine, users, alpha)) {
                    bad.push(format!("{name}, {users} users"));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_fixed_length_gains_what_the_speed_model_says() {
    let alphas: [Alpha; 3] = [|_| 0.6, |_| 0.8, |_| 0.9];
    for alpha in alphas {
        for draft_tokens in 0..=8 {
            let plan = Plan {
                speculate: match draft_tokens {
                    0 => Speculate::Off,
                    _ => Speculate::Draft,
                },
                draft_tokens,
                ..plan(CPU, 1, alpha)
            };
            let error = (run(&plan).0 / fixed(&plan, draft_tokens) - 1.0).abs();
            assert!(error < 0.05, "α {}, k {draft_tokens}: {error}", alpha(0));
        }
    }
}
