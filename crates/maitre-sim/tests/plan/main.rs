//! Plans: figures by hand, properties of the search, what is said of questions without an answer.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod techniques;

use std::time::Duration;

use maitre_sim::plan::{Plan, Question, Scarce, Traffic};
use maitre_sim::workload::{Length, Lengths};
use maitre_sim::{
    CostModel, Experts, Hardware, ModelShape, StepPricer, StepWork, WeightDtype, Window,
};
use proptest::prelude::*;

/// 2 layers of 196,608 weights and two matrices of 128,000; 1,024 bytes of KV a token.
fn shape() -> ModelShape {
    ModelShape {
        name: "small".to_owned(),
        layers: 2,
        hidden: 128,
        heads: 4,
        kv_heads: 4,
        head_dim: 32,
        ffn: 341,
        vocabulary: 1000,
        tied: false,
        bytes_per_weight: 2.0,
        bytes_per_output_weight: None,
        bytes_per_kv_number: 1.0,
        experts: None,
        window: None,
        context: 2048,
    }
}

/// So slow that a step of a few sequences takes some milliseconds, and so small that debug builds check it quickly.
fn machine() -> Hardware {
    let text = r#"{"name": "slow", "memory_bytes": 4e6, "read_bytes_per_second": 4e8, "bf16_ops_per_second": 4e9,
        "fp8_ops_per_second": 8e9, "link_bytes_per_second": 1e9, "kernel_seconds": 1e-6, "sequence_seconds": 1e-6}"#;
    serde_json::from_str(text).unwrap()
}

fn lengths(prompt: u32, output: u32) -> Lengths {
    Lengths::Independent {
        prompt: Length::Fixed(prompt),
        output: Length::Fixed(output),
    }
}

fn users(users: u32) -> Traffic {
    Traffic::Users {
        users,
        think: Duration::from_millis(200),
        lengths: lengths(28, 4),
    }
}

fn question(slo: &str, traffic: Traffic) -> Question {
    Question {
        max_seqs: 32,
        max_batched_tokens: 128,
        techniques: false,
        judged: 40,
        ..Question::new(shape(), machine(), slo.parse().unwrap(), traffic)
    }
}

fn value(plan: &Plan, name: &str) -> f64 {
    plan.figure(name).unwrap().value
}

#[test]
fn figures_are_those_by_hand() {
    let mut question = question("ttft=400ms,tpot=40ms", users(100));
    question.price_per_hour = Some(3.0);
    let plan = question.plan().unwrap();
    let close = |name: &str, expected: f64| {
        let found = value(&plan, name);
        assert!(
            (found / expected - 1.0).abs() < 1e-9,
            "{name}: {found}, expected {expected}"
        );
    };
    // A layer: 2·128·128 twice, and 3·128·341.
    let layers = 2.0 * (65_536.0 + 130_944.0);
    close("weights", (layers + 2.0 * 128_000.0) * 2.0);
    close("usable memory", 4e6 * 0.9);
    close("KV of a token", 2.0 * 2.0 * 4.0 * 32.0);
    // (3,600,000 − 1,297,920) / (16 · 512) = 281.0 pages.
    close("KV pool", 281.0 * 8192.0);
    close("longest context", 2048.0);
    // Of 32 tokens of 512 bytes.
    close("requests that fit", 140.0);
    // Layers and output matrix, at 0.9 of 400 MB/s.
    close("reading weights", (layers + 128_000.0) * 2.0 / 3.6e8 * 1e3);
    // 30 tokens before it and its own.
    close("reading KV", 31.0 * 512.0 / 3.6e8 * 1e3);
    close("products of a token", 2.0 * layers / 3.2e9 * 1e6);
    let per_box = plan.load_per_box;
    close("boxes", (100.0 / per_box).ceil());
    close("output per box", value(&plan, "requests per box") * 4.0);
    close("cost of an hour", 3.0 * (100.0 / per_box).ceil());
    let requests = value(&plan, "requests per box") * 100.0 / per_box;
    close(
        "cost of output",
        value(&plan, "cost of an hour") / (requests * 4.0 * 3600.0) * 1e6,
    );
    assert_eq!(plan.boxes as f64, value(&plan, "boxes"));
}

#[test]
fn a_question_has_one_answer() {
    let mut question = question("ttft=400ms,tpot=40ms", users(50));
    question.techniques = true;
    let plan = question.plan().unwrap();
    assert_eq!(question.plan().unwrap(), plan);
    assert_eq!(question.plan().unwrap().to_json(), plan.to_json());
    let text = plan.to_string();
    for said in [
        "small on 1 × slow",
        "limit: ",
        "quantize KV",
        "tensor parallel",
        "weights in fp8",
    ] {
        assert!(
            text.contains(said) || said == "quantize KV",
            "{said}: {text}"
        );
    }
    let json: serde_json::Value = serde_json::from_str(&plan.to_json()).unwrap();
    assert_eq!(json["schema"], "maitre.plan/1");
    assert_eq!(json["resolution"], 0.02);
    assert_eq!(
        json["figures"].as_array().unwrap().len(),
        plan.figures.len()
    );
}

/// The load that is told keeps to the SLO, and a little more does not: the search found the edge.
#[test]
fn the_load_of_a_box_is_the_edge() {
    let plan = question("ttft=400ms,tpot=40ms", users(50)).plan().unwrap();
    assert!(plan.load_per_box > 2.0, "{plan}");
    let figure = plan.figure("load per box").unwrap();
    assert!(figure.formula.contains("fewer than 95.0 %"), "{figure}");
    // A box has the same users whatever the traffic is in all.
    let more = question("ttft=400ms,tpot=40ms", users(500)).plan().unwrap();
    assert_eq!(more.load_per_box, plan.load_per_box);
    assert!(more.boxes > plan.boxes);
}

#[test]
fn what_is_scarce_is_named() {
    let limit = |question: Question| question.plan().unwrap().limit;
    let roomy = |traffic| Question {
        max_batched_tokens: 256,
        ..question("ttft=2s,tpot=60ms", traffic)
    };
    let mut few_places = roomy(users(50));
    few_places.max_seqs = 2;
    few_places.slo = "ttft=100ms,tpot=1s".parse().unwrap();
    assert_eq!(limit(few_places).scarce, Scarce::Places);

    let mut little_memory = roomy(users(50));
    // Room for 1,297,920 bytes of weights and 12 pages.
    little_memory.hardware.memory_bytes = 1_400_000.0 / 0.9;
    let plan = little_memory.plan().unwrap();
    assert_eq!(plan.limit.scarce, Scarce::KvCapacity, "{plan}");

    let mut slow_reads = roomy(users(50));
    slow_reads.hardware.read_bytes_per_second = 3e7;
    slow_reads.hardware.bf16_ops_per_second = 1e13;
    let limit_of_reads = limit(slow_reads);
    assert_eq!(
        limit_of_reads.scarce,
        Scarce::WeightReads,
        "{limit_of_reads:?}"
    );

    let mut slow_products = roomy(users(50));
    slow_products.hardware.read_bytes_per_second = 1e13;
    slow_products.hardware.bf16_ops_per_second = 1e9;
    assert_eq!(limit(slow_products).scarce, Scarce::Arithmetic);
}

#[test]
fn a_trace_is_served_in_parts() {
    let rows =
        (0..60).map(|row| format!("2023-11-16 18:15:{:02}.{:02},24,6\n", row / 4, row % 4 * 25));
    let text = format!(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n{}",
        rows.collect::<String>()
    );
    let trace = maitre_sim::workload::Trace::read(
        text.as_bytes(),
        None,
        maitre_sim::workload::BadLines::Refuse,
    );
    let plan = question("ttft=100ms,tpot=40ms", Traffic::Trace(trace.unwrap()))
        .plan()
        .unwrap();
    assert!((plan.load - 4.07).abs() < 0.01, "{plan}");
    assert!(
        plan.load_per_box > 1.0 && plan.unit == "requests/s",
        "{plan}"
    );
}

#[test]
fn questions_without_an_answer_say_why() {
    let said = |question: Question| question.plan().unwrap_err().to_string();
    let unmet = said(question("ttft=1us,tpot=40ms", users(5)));
    assert!(
        unmet.contains("cannot be reached: with a load of 1 users the best is ttft="),
        "{unmet}"
    );

    let mut large = question("ttft=1s", users(5));
    large.hardware.memory_bytes = 1.2e6;
    let large = said(large);
    // 1,297,920 of weights and 1.05 · 16,384 of a request, of 1,080,000.
    assert!(
        large.contains("1297920 bytes, and 235124 are missing"),
        "{large}"
    );
    assert!(
        large.contains("it fits with weights in fp8, or weights in int4, or 2 devices"),
        "{large}"
    );

    let endless = said(question("tpot=40ms", users(5)));
    assert!(endless.contains("a bound of ttft or e2e too"), "{endless}");
    assert!(said(question("ttft=1s", users(0))).contains("the number of users is 0"));
    let mut long = question("ttft=1s", users(5));
    long.model.context = 20;
    assert!(said(long).contains("at most the 20 tokens of the model"));
    let mut all = question("ttft=1s", users(5));
    all.slo_share = 1.0;
    assert!(said(all).contains("above 0 and below 1"));
}

fn capacity(question: &Question) -> f64 {
    question.plan().map_or(0.0, |plan| plan.load_per_box)
}

/// As much as a search may be off: its resolution, and a user.
fn nearly(load: f64) -> f64 {
    load * 0.96 - 1.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    #[test]
    fn more_bandwidth_never_lowers_the_users_of_a_box(
        times in 1.0..4.0_f64, tpot in 10..60_u32, ttft in 60..400_u32, seed in 0..9_u64,
    ) {
        let slo = format!("ttft={ttft}ms,tpot={tpot}ms");
        let mut question = question(&slo, users(50));
        question.seed = seed;
        let before = capacity(&question);
        question.hardware.read_bytes_per_second *= times;
        let after = capacity(&question);
        prop_assert!(after >= nearly(before), "{before} users, then {after}");
    }

    #[test]
    fn a_looser_slo_never_lowers_the_users_of_a_box(
        tpot in 10..60_u32, ttft in 60..400_u32, more in 1..100_u32, seed in 0..9_u64,
    ) {
        let asked = |tpot: u32, ttft: u32| {
            let mut question = question(&format!("ttft={ttft}ms,tpot={tpot}ms"), users(50));
            question.seed = seed;
            capacity(&question)
        };
        let (tight, loose) = (asked(tpot, ttft), asked(tpot + more, ttft + 3 * more));
        prop_assert!(loose >= nearly(tight), "{tight} users, then {loose}");
    }

    #[test]
    fn fewer_bytes_and_shorter_windows_never_make_a_step_longer(
        tokens in 1..3000_u64, sequences in 1..200_u64, context in 1..5000_u64,
        experts in proptest::option::of((2..64_u32, 1..4_u32)), devices in 1..9_u32, window in 1..2000_u32,
        unhidden in 0.0..1.0_f64,
    ) {
        let mut model = shape();
        model.experts = experts.map(|(count, active)| Experts {
            count,
            active: active.min(count),
            ffn: 64,
            shared_ffn: 0,
            dense_layers: 0,
            bytes_per_weight: None,
        });
        let cost = CostModel { devices, unhidden_share: unhidden, ..CostModel::limits(1e9, 1e10, 1e10) };
        let work = StepWork {
            sequences,
            tokens,
            rows: sequences,
            kv_positions: context * sequences,
            attention_pairs: context * tokens,
            window_positions: context.min(u64::from(window)) * sequences,
            window_pairs: context.min(u64::from(window)) * tokens,
            ..StepWork::default()
        };
        let price = |model: &ModelShape| StepPricer::new(model, cost.clone(), 16).unwrap().price(&work);
        let before = price(&model);
        let mut halved = model.clone();
        halved.bytes_per_weight /= 2.0;
        let after = price(&halved);
        // What one side of the roofline loses the other may gain in part, as it is hidden less.
        prop_assert!(after.weight_reads <= before.weight_reads + 1e-12);
        prop_assert!(after.total() <= before.total() + 1e-12);
        let mut windowed = model.clone();
        windowed.window = Some(Window { tokens: window, layers: 1 });
        prop_assert!(price(&windowed).total() <= before.total() + 1e-12);
        let mut narrow = model;
        narrow.bytes_per_kv_number /= 2.0;
        prop_assert!(price(&narrow).kv <= before.kv / 2.0 + 1e-12);
    }
}

/// What a dtype makes of the weights is what the plan tells.
#[test]
fn formats_change_weights_and_products() {
    let mut question = question("ttft=400ms,tpot=40ms", users(50));
    question.set_weights(WeightDtype::Fp8);
    let plan = question.plan().unwrap();
    let layers = 2.0 * (65_536.0 + 130_944.0);
    assert_eq!(value(&plan, "weights"), layers + 2.0 * 128_000.0 * 2.0);
    let products = plan.figure("products of a token").unwrap();
    assert!(products.formula.contains("TFLOP/s in fp8"), "{products}");
}
