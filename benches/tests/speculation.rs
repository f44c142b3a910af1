//! A little of every measurement of speculation, so that the harness keeps working.

use maitre_benches::speculation::{Settings, measure};

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
        assert!((0.95..1.05).contains(&share), "{sample:?}");
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
    assert!(!record.recorded.is_empty() && record.recorded.len() % (2 * 3 * proposers) == 0);
}
