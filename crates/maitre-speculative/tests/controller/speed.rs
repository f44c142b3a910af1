//! Never slower than none, never much slower than the best.

use maitre_speculative::Speculate;

use crate::house::{Machine, Plan, run};

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

fn plan(machine: Machine, users: usize, alpha: fn(u64) -> f64) -> Plan {
    Plan {
        machine,
        users,
        alpha,
        speculate: Speculate::Auto,
        draft_tokens: 8,
        steps: 2000,
    }
}

/// The rate of every fixed number of tokens, 0 first.
fn fixed(plan: &Plan) -> Vec<f64> {
    let off = run(&Plan {
        speculate: Speculate::Off,
        ..*plan
    });
    let with = |draft_tokens| {
        run(&Plan {
            speculate: Speculate::Draft,
            draft_tokens,
            steps: 600,
            ..*plan
        })
    };
    let with = [1, 2, 3, 4, 6, 8].map(with);
    std::iter::once(off)
        .chain(with)
        .map(|(rate, _)| rate)
        .collect()
}

/// Whether it is.
fn is_good(name: &str, plan: &Plan) -> bool {
    let (auto, drafted) = run(plan);
    let fixed = fixed(plan);
    let best = fixed.iter().copied().fold(0.0, f64::max);
    let (to_none, to_best) = (auto / fixed[0], auto / best);
    println!(
        "{name}, {} users: {to_none:.2} of none, {to_best:.2} of the best; {drafted:.1} drafted a step; best {:.2}",
        plan.users,
        best / fixed[0]
    );
    to_none >= 0.97 && to_best >= 0.95
}

#[test]
fn auto_is_never_slower_than_none_nor_than_the_best_fixed_length() {
    let alphas: [(&str, fn(u64) -> f64); 5] = [
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

/// The speed model (Leviathan et al. 2023, theorem 3.8): with costs that are known, what comes is what was
/// predicted.
#[test]
fn a_fixed_length_gains_what_the_speed_model_says() {
    for (alpha, of_all) in [
        (0.6, (|_| 0.6) as fn(u64) -> f64),
        (0.8, |_| 0.8),
        (0.9, |_| 0.9),
    ] {
        for draft_tokens in 1..=8 {
            let plan = Plan {
                speculate: Speculate::Draft,
                draft_tokens,
                ..plan(CPU, 1, of_all)
            };
            let off = Plan {
                speculate: Speculate::Off,
                ..plan
            };
            let gained = run(&plan).0 / run(&off).0;
            let k = draft_tokens as i32;
            let verify = CPU.step(draft_tokens + 1) / CPU.step(1);
            let round = (CPU.round.0 + CPU.round.1) / CPU.step(1);
            let expected =
                (1.0 - f64::powi(alpha, k + 1)) / ((1.0 - alpha) * (f64::from(k) * round + verify));
            let error = (gained / expected - 1.0).abs();
            assert!(error < 0.05, "α {alpha}, k {k}: {gained} for {expected}");
        }
    }
}
