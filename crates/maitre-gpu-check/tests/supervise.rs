//! The supervisor with workers that are scripts: what each ending of a worker costs, and where the next one goes on.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::cell::RefCell;
use std::fs;
use std::io;
use std::process::Command;

use maitre_gpu_check::{GpuCheckError, Half, Options, Resume, ShapeChoice, supervise};
use maitre_tensor::DeviceName;
use serde_json::Value;
use tempfile::TempDir;

/// Two items, the rates, which every run has.
fn options() -> Options {
    Options {
        device: DeviceName::Cpu,
        only: Some(Half::Speeds),
        rows: vec!["no row has this in its name".into()],
        time_limit_s: 100.0,
        shape: ShapeChoice::Tiny,
        models: Vec::new(),
        bundled: None,
        threads: 1,
    }
}

/// What came of a run.
struct Ran {
    outcome: Result<(), GpuCheckError>,
    /// What each worker was told.
    resumes: Vec<Resume>,
    /// The rows of the report.
    rows: Vec<Value>,
}

impl Ran {
    fn firsts(&self) -> Vec<usize> {
        self.resumes.iter().map(|it| it.first).collect()
    }
}

/// Runs with workers that say these lines and then end, the last of them again and again.
fn run(workers: &[&[&str]]) -> Ran {
    let folder = TempDir::new().unwrap();
    let resumes = RefCell::new(Vec::new());
    let start = |resume: &Resume| {
        let mut resumes = resumes.borrow_mut();
        let lines = workers[resumes.len().min(workers.len() - 1)];
        resumes.push(*resume);
        let mut worker = Command::new("sh");
        let say = r#"for line; do printf '%s\n' "$line"; done"#;
        worker.args(["-c", say, "worker"]).args(lines);
        Ok(worker)
    };
    let outcome = supervise(&options(), Some(folder.path()), &start);
    let rows =
        fs::read_to_string(folder.path().join("gpu-check.json")).map_or(Vec::new(), |text| {
            let report: Value = serde_json::from_str(&text).unwrap();
            report["speeds"].as_array().unwrap().clone()
        });
    Ran {
        outcome,
        resumes: resumes.into_inner(),
        rows,
    }
}

const BEGUN: &str = r#"{"Begun":{"item":0}}"#;
const LEFT_OUT: &str =
    r#"{"Ended":{"item":1,"took_s":0.5,"outcome":{"NotRun":{"reason":"in a test"}}}}"#;
const DONE: &str = r#""Done""#;

/// The first item with a rate of 3 GB/s.
const MEASURED: &str = r#"{"Ended":{"item":0,"took_s":0.5,"outcome":{"Timed":{"unit":"GigabytesPerS","measured":3.0,
    "predicted":null,"reference":null,"goal":null,"figures":{},"note":null}}}}"#;

fn measured() -> String {
    MEASURED.replace('\n', " ")
}

#[test]
fn a_run_in_which_nothing_fails_is_no_error() {
    let ran = run(&[&[BEGUN, &measured(), LEFT_OUT, DONE]]);
    ran.outcome.as_ref().unwrap();
    assert_eq!(ran.firsts(), [0]);
    assert_eq!(ran.rows[0]["measured_gigabytes_per_s"], 3.0);
    assert_eq!(ran.rows[1]["message"], "in a test");
}

#[test]
fn a_worker_that_dies_costs_the_item_it_was_at() {
    let ran = run(&[&[BEGUN], &[LEFT_OUT, DONE]]);
    let Err(GpuCheckError::Failed { failures, rows }) = ran.outcome else {
        panic!("{:?}", ran.outcome);
    };
    assert_eq!((failures, rows), (1, 2));
    assert_eq!(ran.firsts(), [0, 1]);
    assert_eq!(ran.rows[0]["result"], "failed");
    let why = ran.rows[0]["message"].as_str().unwrap();
    assert!(why.contains("ended before it was done"), "{why}");
    assert_eq!(ran.rows[1]["result"], "not run");
}

#[test]
fn what_was_measured_is_told_to_the_next_worker() {
    let ran = run(&[&[BEGUN, &measured()], &[LEFT_OUT, DONE]]);
    ran.outcome.as_ref().unwrap();
    let [first, second] = ran.resumes[..] else {
        panic!("{:?}", ran.resumes);
    };
    assert_eq!((first.first, first.copy_bytes_per_s), (0, None));
    assert_eq!((second.first, second.copy_bytes_per_s), (1, Some(3e9)));
    assert_eq!(second.matmul_flop_per_s, None);
    assert!(second.time_limit_s <= first.time_limit_s && first.time_limit_s <= 100.0);
}

#[test]
fn workers_that_get_nowhere_are_given_up() {
    let ran = run(&[&[]]);
    assert!(
        matches!(ran.outcome, Err(GpuCheckError::Failed { failures: 2, .. })),
        "{:?}",
        ran.outcome
    );
    assert_eq!(ran.firsts(), [0; 3]);
}

#[test]
fn a_line_that_means_nothing_costs_its_row() {
    let ran = run(&[&[BEGUN, "no JSON", LEFT_OUT, DONE]]);
    assert!(
        matches!(ran.outcome, Err(GpuCheckError::Failed { failures: 1, .. })),
        "{:?}",
        ran.outcome
    );
    let why = ran.rows[0]["message"].as_str().unwrap();
    assert!(why.contains("no JSON"), "{why}");
}

#[test]
fn a_device_that_is_not_there_is_told_as_such() {
    let ran = run(&[&[r#"{"Refused":{"device":"cuda:7","reason":"there are two"}}"#]]);
    let Err(GpuCheckError::NoDevice { device, reason }) = ran.outcome else {
        panic!("{:?}", ran.outcome);
    };
    assert_eq!(
        (device.as_str(), reason.as_str()),
        ("cuda:7", "there are two")
    );
    assert!(ran.rows.is_empty());
}

#[test]
fn a_worker_that_can_t_be_started_is_an_error() {
    let start = |_: &Resume| Err(io::Error::other("no such program"));
    let outcome = supervise(&options(), None, &start);
    let Err(GpuCheckError::Io { doing, source }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(doing, "starting a worker");
    assert_eq!(source.to_string(), "no such program");
}
