//! Greedy generation equals what independent implementations generated from the same weights.
//!
//! Each case runs twice: its prompt at once, and in chunks as chunked prefill feeds it.

use crate::support::{Host, bundled, greedy, in_dtype, test_data};
use maitre_model::ModelSource;
use maitre_tensor::WeightFormat;
use serde_json::Value;

pub(crate) struct Case {
    pub(crate) prompt: Vec<u32>,
    pub(crate) expected: Vec<u32>,
}

pub(crate) fn cases(json: &[u8]) -> Vec<Case> {
    let ids = |value: &Value| -> Vec<u32> {
        let ids = value.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let case = |value: &Value| Case {
        prompt: ids(&value["prompt_ids"]),
        expected: ids(&value["greedy_ids"]),
    };
    match serde_json::from_slice(json).unwrap() {
        Value::Array(cases) => cases.iter().map(case).collect(),
        single => vec![case(&single)],
    }
}

fn check(host: &Host, cases: &[Case]) {
    let stops = host.model().generation_defaults().eos_token_ids.clone();
    assert!(!cases.is_empty());
    for (index, case) in cases.iter().enumerate() {
        for chunk in [usize::MAX / 2, 5] {
            let max_tokens = case.expected.len();
            let found = greedy(&mut host.runner(), &case.prompt, chunk, max_tokens, &stops);
            assert_eq!(found, case.expected, "case {index}, chunks of {chunk}");
        }
    }
}

#[test]
fn bundled_model_generates_the_golden_ids() {
    let golden = include_bytes!("../../../maitre-bundled/tests/golden_greedy.json");
    let source = bundled(&maitre_bundled::TARGET);
    check(
        &Host::new(&source, &in_dtype(WeightFormat::F32), 2),
        &cases(golden),
    );
}

#[test]
fn shared_models_generate_the_golden_ids() {
    let Some(data) = test_data() else { return };
    for name in ["stories260k-hf", "tinystories-656k-bf16"] {
        let directory = data.join("models").join(name);
        let golden = std::fs::read(directory.join("golden_greedy.json")).unwrap();
        let source = ModelSource::Directory(directory);
        check(
            &Host::new(&source, &in_dtype(WeightFormat::F32), 2),
            &cases(&golden),
        );
    }
}
