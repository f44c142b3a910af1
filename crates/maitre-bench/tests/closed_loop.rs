//! The closed loop against a scripted target in virtual time: every number is known beforehand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod virtual_time;

use std::time::Duration;

use expect_test::expect;
use maitre_bench::{
    BenchError, Percentiles, PromptFile, Prompts, Questions, Report, Settings, Stop, Workload,
    measure,
};
use virtual_time::{Script, ScriptedTarget, VirtualClock, evenly};

fn settings(output_tokens: u32, requests: usize, users: &[u32]) -> Settings {
    let workload = Workload {
        requests: Some(requests),
        seed: 1,
        ..Workload::of(10, output_tokens)
    };
    Settings::closed_loop(workload, users)
}

fn report(
    settings: &Settings,
    script: impl Fn(usize) -> Script + Send + Sync + 'static,
) -> (Report, ScriptedTarget) {
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, script);
    let report = clock
        .run(measure(&target, &clock, settings, &Stop::default(), |_| {}))
        .unwrap();
    (report, target)
}

#[track_caller]
fn assert_ms(found: Option<Percentiles>, p50: f64, max: f64) {
    let found = found.unwrap();
    let close = |value: f64, expected: f64| (value - expected).abs() <= expected * 2e-3;
    assert!(
        close(found.p50, p50) && close(found.max, max),
        "{found:?}, expected {p50} and {max}"
    );
}

#[test]
fn one_user_s_numbers_are_those_of_the_script() {
    // 100 ms to the first token, then 4 gaps of 20 ms: 180 ms a request, ten after one another.
    let (report, target) = report(&settings(5, 10, &[1]), |_| evenly(100, 20, 5));
    let run = &report.runs[0];
    assert_ms(run.ttft_ms, 100.0, 100.0);
    assert_ms(run.itl_ms, 20.0, 20.0);
    assert_ms(run.tpot_ms, 20.0, 20.0);
    assert_ms(run.e2e_ms, 180.0, 180.0);
    assert_eq!(
        (run.completed, run.output_tokens, run.input_tokens),
        (10, 50, 100)
    );
    assert!((run.duration_s - 1.8).abs() < 1e-9);
    assert!((run.output_tokens_per_second - 50.0 / 1.8).abs() < 1e-9);
    assert!((run.total_tokens_per_second - 150.0 / 1.8).abs() < 1e-9);
    assert!((run.requests_per_second - 10.0 / 1.8).abs() < 1e-9);
    let seen = target.seen.lock().unwrap();
    assert!(
        seen.iter()
            .all(|request| request.prompt.len() == 10 && request.output_tokens == 5)
    );
}

#[test]
fn users_wait_for_their_own_answer_only() {
    // Of two users one draws a request of 1000 ms; the other answers nine of 100 ms meanwhile.
    let (report, _) = report(&settings(1, 10, &[2]), |index| {
        evenly(if index == 0 { 1000 } else { 100 }, 0, 1)
    });
    let run = &report.runs[0];
    assert!((run.duration_s - 1.0).abs() < 1e-9, "{}", run.duration_s);
    assert_ms(run.ttft_ms, 100.0, 1000.0);
    assert_eq!(run.itl_ms, None, "one token has no gap");
    assert_eq!(run.tpot_ms, None);
}

#[test]
fn forty_users_run_at_once() {
    let (report, _) = report(&settings(2, 40, &[40]), |_| evenly(50, 50, 2));
    assert!((report.runs[0].duration_s - 0.1).abs() < 1e-9);
    assert!((report.runs[0].output_tokens_per_second - 800.0).abs() < 1e-6);
}

#[test]
fn a_stall_shows_in_the_worst_gap_and_tokens_that_come_together_are_one_arrival() {
    // Messages without a token, such as the one that says why an answer ended, are no arrivals.
    let arrivals = vec![(5, 0), (25, 1), (10, 1), (500, 3), (10, 1), (70, 0)];
    let script = Script {
        arrivals,
        ..Script::default()
    };
    let (report, _) = report(&settings(6, 1, &[1]), move |_| script.clone());
    let run = &report.runs[0];
    assert_ms(run.ttft_ms, 30.0, 30.0);
    assert_ms(run.itl_ms, 10.0, 500.0);
    assert_ms(run.e2e_ms, 620.0, 620.0);
    // 520 ms for the five tokens after the first.
    assert_ms(run.tpot_ms, 104.0, 104.0);
}

#[test]
fn failures_are_counted_by_code_and_kept_out_of_the_latencies() {
    let (report, _) = report(&settings(2, 8, &[2]), |index| match index {
        0 => Script {
            arrivals: vec![(7000, 1)],
            failure: Some("UNAVAILABLE"),
            ..Script::default()
        },
        1 | 2 => Script {
            failure: Some("RESOURCE_EXHAUSTED"),
            ..Script::default()
        },
        3 => evenly(9000, 1, 1),
        _ => evenly(10, 10, 2),
    });
    let run = &report.runs[0];
    let errors: Vec<_> = run
        .errors
        .iter()
        .map(|(code, count)| (code.as_str(), *count))
        .collect();
    assert_eq!(
        errors,
        [
            ("RESOURCE_EXHAUSTED", 2),
            ("UNAVAILABLE", 1),
            ("WRONG_LENGTH", 1)
        ]
    );
    assert_eq!((run.completed, run.requests, run.output_tokens), (4, 8, 8));
    assert_ms(run.ttft_ms, 10.0, 10.0);
    assert!(!report.is_complete());
}

#[test]
fn the_warm_up_is_not_counted_and_asks_other_prompts() {
    let mut settings = settings(1, 2, &[1, 2]);
    settings.warmup_requests = 3;
    // Requests 0 to 2 and 5 to 7 are warm-up, and slow.
    let slow = |index| matches!(index, 0..=2 | 5..=7);
    let (report, target) = report(&settings, move |index| {
        evenly(if slow(index) { 900 } else { 10 }, 0, 1)
    });
    for run in &report.runs {
        assert_ms(run.ttft_ms, 10.0, 10.0);
    }
    assert!((report.runs[0].duration_s - 0.02).abs() < 1e-9);
    let mut prompts: Vec<_> = target
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.prompt.clone())
        .collect();
    assert_eq!(prompts.len(), 10);
    prompts.sort();
    prompts.dedup();
    assert_eq!(prompts.len(), 10, "no prompt is asked twice");
}

#[test]
fn the_first_message_of_each_code_is_kept_on_one_line() {
    let (report, _) = report(&settings(2, 6, &[1]), |index| Script {
        failure: Some(if index < 2 { "INTERNAL" } else { "UNAVAILABLE" }),
        message: match index {
            0 => "max_tokens must\n  be \u{1b}[31mpositive".to_owned(),
            2 => "x".repeat(10_000),
            _ => "another".to_owned(),
        },
        ..Script::default()
    });
    let run = &report.runs[0];
    assert_eq!((run.errors["INTERNAL"], run.errors["UNAVAILABLE"]), (2, 4));
    assert_eq!(
        run.error_messages["INTERNAL"],
        "max_tokens must be [31mpositive"
    );
    assert_eq!(run.error_messages["UNAVAILABLE"].chars().count(), 301);
    let said = report.to_string();
    assert!(
        said.contains("1 users: 2 requests failed with INTERNAL, the first: max_tokens must be"),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["runs"][0]["errors"]["INTERNAL"], 2);
    assert!(
        json["runs"][0]["error_messages"]["INTERNAL"]
            .as_str()
            .unwrap()
            .starts_with("max_tokens")
    );
}

#[test]
fn a_server_that_goes_silent_holds_nothing_up() {
    // The first answer never begins, the second stops in the middle; the others bring a token every 50 s, and two after 50 s each.
    let slow = || evenly(50_000, 50_000, 3);
    let mut settings = settings(3, 6, &[2]);
    settings.timeout = Duration::from_secs(60);
    let (report, _) = report(&settings, move |index| match index {
        0 => evenly(36_000_000, 0, 3),
        1 => Script {
            // What is no token does not count as one.
            arrivals: vec![(10_000, 1), (50_000, 0), (50_000, 2)],
            ..Script::default()
        },
        _ => slow(),
    });
    let run = &report.runs[0];
    assert_eq!((run.requests, run.completed), (6, 4), "{report}");
    assert_eq!(run.errors["TIMEOUT"], 2);
    // The first user gives up after 60 s, the second after 10 s and 60 s.
    assert_eq!(run.duration_s, 370.0, "{report}");
    assert!(
        report.to_string().contains(
            "2 requests failed with TIMEOUT, the first: no token came for 60s (--timeout)"
        ),
        "{report}"
    );
    settings.timeout = Duration::ZERO;
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |_| evenly(1, 1, 3));
    let stop = Stop::default();
    let refused = clock.run(measure(&target, &clock, &settings, &stop, |_| {}));
    assert!(matches!(refused, Err(BenchError::Setting(_))));
}

#[test]
fn without_an_answer_there_are_no_latencies() {
    let (report, _) = report(&settings(1, 2, &[1]), |_| Script {
        failure: Some("INTERNAL"),
        ..Script::default()
    });
    assert_eq!(report.runs[0].ttft_ms, None);
    assert_eq!(report.runs[0].output_tokens_per_second, 0.0);
    expect![[r#"
        fake at scripted: 10 input and 1 output tokens a request, latencies in ms
        users  done  errors  output tok/s  total tok/s  TTFT p50  p99  TPOT p50  p99  ITL p50  p99  max  E2E p50  p99  CPU
            1     0       2           0.0          0.0         -    -         -    -        -    -    -        -    -    -
        1 users: 2 requests failed with INTERNAL, the first: scripted
    "#]]
    .assert_eq(&report.to_string());
}

#[test]
fn impossible_settings_are_refused_before_anything_is_sent() {
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |_| Script::default());
    for bad in [
        settings(1, 4, &[]),
        settings(1, 4, &[1, 0]),
        settings(91, 4, &[1]),
        settings(1, 1, &[2]),
    ] {
        let refused = clock.run(measure(&target, &clock, &bad, &Stop::default(), |_| {}));
        assert!(matches!(
            refused,
            Err(BenchError::Concurrency { .. }
                | BenchError::TooLong { .. }
                | BenchError::Setting { .. })
        ));
    }
    assert!(target.seen.lock().unwrap().is_empty());
}

#[test]
fn the_files_have_the_documented_names() {
    let (report, _) = report(&settings(3, 8, &[1, 4]), |_| evenly(10, 5, 3));
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("new/folder");
    report.write(&folder).unwrap();
    let json = std::fs::read_to_string(folder.join("report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut run = json["runs"][1].clone();
    // The client's own load is the one number that virtual time does not decide.
    // So is its energy.
    for own in ["client_cpu_share", "energy_joules"] {
        run[own] = serde_json::Value::Null;
    }
    assert_eq!(
        run["timeline"]["output_tokens"].as_array().unwrap().len(),
        60
    );
    let samples = run["samples"].take();
    assert_eq!(samples["ttft_ms"], serde_json::json!(vec![10.0; 8]));
    assert_eq!(samples["itl_percentiles_ms"].as_array().unwrap().len(), 101);
    run["timeline"].take();
    expect![[r#"{"load":"4 users","concurrency":4,"offered_per_second":null,"requests":8,"completed":8,"errors":{},"error_messages":{},"refusals":{},"unfinished":0,"duration_s":0.04,"input_tokens":80,"cached_tokens":null,"output_tokens":24,"requests_per_second":200.0,"output_tokens_per_second":600.0,"total_tokens_per_second":2600.0,"goodput":null,"ttft_ms":{"mean":10.0,"p50":10.0,"p90":10.0,"p95":10.0,"p99":10.0,"max":10.0},"tpot_ms":{"mean":5.0,"p50":5.0,"p90":5.0,"p95":5.0,"p99":5.0,"max":5.0},"itl_ms":{"mean":5.0,"p50":5.0,"p90":5.0,"p95":5.0,"p99":5.0,"max":5.0},"e2e_ms":{"mean":20.0,"p50":20.0,"p90":20.0,"p95":20.0,"p99":20.0,"max":20.0},"lateness_ms":{"mean":0.0,"p50":0.0,"p90":0.0,"p95":0.0,"p99":0.0,"max":0.0},"client_cpu_share":null,"energy_joules":null,"server":null,"timeline":null,"samples":null}"#]]
    .assert_eq(&run.to_string());
    assert_eq!(json["schema"], "maitre.bench/2");
    assert_eq!(json["workload"]["input_tokens"], 10);
    let svg = std::fs::read_to_string(folder.join("report.svg")).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("output tokens per second"),
        "{svg}"
    );
    let blocked = folder.join("report.json").join("x");
    assert!(matches!(
        report.write(&blocked),
        Err(BenchError::Write { .. })
    ));
}

/// Prompts of one token a character, through a file.
fn prompts(clock: &VirtualClock, lines: &str) -> Prompts {
    let target = ScriptedTarget::new(clock, |_| evenly(1, 1, 1));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let file = PromptFile::read(file.path()).unwrap();
    clock.run(file.tokens(&target)).unwrap()
}

#[test]
fn prompts_are_asked_in_turn_and_counted_as_they_are() {
    let clock = VirtualClock::default();
    let settings = Settings {
        questions: Questions::InTurn(prompts(&clock, "\"a\"\n\"bb\"\n{\"prompt\": \"ccc\"}\n")),
        warmup_requests: 1,
        ..settings(2, 4, &[1, 2])
    };
    let (report, target) = report(&settings, |_| evenly(10, 5, 2));
    let seen = target.seen.lock().unwrap();
    let lengths: Vec<usize> = seen.iter().map(|request| request.prompt.len()).collect();
    // A warm-up, four requests, and both once more.
    assert_eq!(lengths, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(seen[1].prompt, [u32::from(b'b'); 2]);
    assert!(seen.iter().all(|request| request.output_tokens == 2));
    assert_eq!(
        (report.runs[0].input_tokens, report.runs[1].input_tokens),
        (8, 7)
    );
    assert_eq!(report.prompts, Some(3));
    let heading = "fake at scripted: 3 prompts in turn and 2 output tokens a request";
    assert!(report.to_string().starts_with(heading), "{report}");
}

#[test]
fn a_prompt_that_is_too_long_is_refused_before_anything_is_asked() {
    let clock = VirtualClock::default();
    let long = "x".repeat(99);
    let settings = Settings {
        questions: Questions::InTurn(prompts(&clock, &format!("\"a\"\n\"{long}\""))),
        ..settings(2, 4, &[1])
    };
    let target = ScriptedTarget::new(&clock, |_| evenly(1, 1, 2));
    let refused = clock.run(measure(
        &target,
        &clock,
        &settings,
        &Stop::default(),
        |_| {},
    ));
    let message = refused.unwrap_err().to_string();
    assert!(
        message.starts_with("99 input and 2 output tokens"),
        "{message}"
    );
}
