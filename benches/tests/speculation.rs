//! A little of every measurement of speculation, so that the harness keeps working.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use maitre_benches::speculation::{Record, Settings, measure};
use serde_json::Value;

#[test]
fn everything_is_measured_and_every_answer_is_that_of_the_script() {
    let settings = Settings::quick(1);
    let record = measure(&settings, &|_| {}).unwrap();
    assert_eq!(record.speed.len(), 2 * 2 * 2, "drafts, costs, pairs");
    for sample in &record.speed {
        let times = [sample.off_s, sample.step_s, sample.on_s];
        assert!(times.iter().all(|&seconds| seconds > 0.0), "{sample:?}");
        let expected = (1.0 - 0.8_f64.powi(sample.drafts as i32 + 1)) / 0.2;
        let share = sample.tokens_per_step / expected;
        assert!((0.9..1.1).contains(&share), "{sample:?}");
    }
    // The hopeless case besides.
    assert_eq!(record.auto.len(), (2 + 1) * 2);
    for sample in &record.recorded {
        assert!(sample.accepted <= sample.drafted, "{sample:?}");
        let is_sure = sample.proposer != "auto" && sample.repeat == "quote";
        let most = sample.tokens as f64;
        // A text that is repeated is found once it has begun.
        assert!(
            !is_sure || f64::from(sample.accepted) > 0.6 * most,
            "{sample:?}"
        );
    }
    let proposers = 5;
    assert!(!record.recorded.is_empty() && record.recorded.len().is_multiple_of(2 * 3 * proposers));
    has_the_form_that_tables_are_made_of(&record);
}

/// The same names as in the sample that the test of the tables reads.
fn has_the_form_that_tables_are_made_of(record: &Record) {
    let sample = include_str!("../../xtask/src/bench/speculation_sample.json");
    let sample: Value = serde_json::from_str(sample).unwrap();
    let record = serde_json::to_value(record).unwrap();
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(names(&sample), names(&record));
    assert_eq!(sample["schema"], record["schema"]);
    for list in ["speed", "auto", "recorded"] {
        assert_eq!(names(&sample[list][0]), names(&record[list][0]), "{list}");
    }
}
