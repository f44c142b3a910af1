//! The open loop, conversations and early ends against a scripted target in virtual time: every number is known
//! beforehand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod virtual_time;

use std::sync::Arc;
use std::time::Duration;

use maitre_bench::workload::{BadLines, Chats, Length, Trace};
use maitre_bench::{
    BenchError, Load, Progress, Questions, RecordedChats, Report, Run, Settings, Stop, Workload,
    measure,
};
use virtual_time::{Script, ScriptedTarget, VirtualClock, evenly};

fn settings(load: Load, requests: Option<usize>) -> Settings {
    let workload = Workload {
        requests,
        ..Workload::of(10, 2)
    };
    Settings {
        loads: vec![load],
        ..Settings::closed_loop(workload, &[])
    }
}

fn arrivals(process: &str) -> Load {
    Load::Arrivals(process.parse().unwrap())
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

fn run(settings: &Settings, script: impl Fn(usize) -> Script + Send + Sync + 'static) -> Run {
    report(settings, script).0.runs.remove(0)
}

#[test]
fn requests_come_at_their_times_while_others_are_answered() {
    // One a second, each answered after five: five are under way at once, and none waits.
    let run = run(&settings(arrivals("constant:1"), Some(10)), |_| {
        evenly(4000, 1000, 2)
    });
    assert_eq!((run.completed, run.concurrency), (10, None));
    assert!((run.duration_s - 15.0).abs() < 1e-9, "{}", run.duration_s);
    assert_eq!(run.offered_per_second, Some(1.0));
    let due: Vec<f64> = (1..=10).map(f64::from).collect();
    assert_eq!(run.samples.scheduled_s, due);
    assert_eq!(run.samples.ttft_ms, [4000.0; 10]);
    assert_eq!(run.lateness_ms.unwrap().max, 0.0);
}

/// A target whose client is stuck while it sends: each request takes it 300 ms of the client's own time.
#[test]
fn latency_counts_from_when_a_request_was_due() {
    let clock = VirtualClock::default();
    let busy = clock.clone();
    let target = ScriptedTarget::new(&clock, move |_| {
        busy.pass(Duration::from_millis(300));
        evenly(100, 0, 1)
    });
    let mut settings = settings(arrivals("constant:10"), Some(5));
    settings.workload.output_tokens = Length::Fixed(1);
    let run = clock
        .run(measure(
            &target,
            &clock,
            &settings,
            &Stop::default(),
            |_| {},
        ))
        .unwrap()
        .runs
        .remove(0);
    // Due at 100, 200, … ms; sent at 100, 400, 700, … ms, since sending keeps the client busy.
    let late = run.lateness_ms.unwrap();
    assert!((late.max - 800.0).abs() < 1.0, "{late:?}");
    assert_eq!(run.samples.lateness_ms, [0.0, 200.0, 400.0, 600.0, 800.0]);
    let ttft = run.ttft_ms.unwrap();
    assert!(ttft.max >= late.max + 400.0, "{ttft:?}");
}

#[test]
fn a_rate_that_changes_ends_with_its_process() {
    let (found, _) = report(&settings(arrivals("steps:10x20,40x20"), None), |_| {
        evenly(1, 1, 2)
    });
    let run = &found.runs[0];
    assert!((800..1200).contains(&run.requests), "{}", run.requests);
    let early = run
        .samples
        .scheduled_s
        .iter()
        .filter(|at| **at < 20.0)
        .count();
    assert!((130..270).contains(&early), "{early}");
    assert!(found.to_string().contains("late p99"), "{found}");
}

#[test]
fn a_trace_is_played_at_its_times_with_its_shared_beginnings() {
    let rows = [(0, 600, 5), (1000, 30, 5), (4000, 600, 6)];
    let lines = rows.map(|(at, input, hash)| {
        format!("{{\"timestamp\": {at}, \"input_length\": {input}, \"output_length\": 20, \"hash_ids\": [{hash}]}}\n")
    });
    let trace = Trace::read(lines.concat().as_bytes(), None, BadLines::Refuse).unwrap();
    let trace = trace.scaled(0.1);
    let mut settings = settings(Load::Replay { speed: 2.0 }, None);
    settings.questions = Questions::Trace(Arc::new(trace));
    let (report, target) = report(&settings, |_| evenly(10, 10, 2));
    assert_eq!(report.runs[0].samples.scheduled_s, [0.0, 0.5, 2.0]);
    let seen = target.seen.lock().unwrap();
    let prompts: Vec<&[u32]> = seen.iter().map(|request| &request.prompt[..]).collect();
    let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
    assert_eq!(lengths, [60, 3, 60]);
    assert_eq!(prompts[0][..3], prompts[1][..3], "the same block");
    assert_ne!(prompts[0][..3], prompts[2][..3], "another block");
}

#[test]
fn a_turn_begins_with_what_was_said_and_waits_for_the_answer() {
    let mut settings = settings(Load::Users(1), Some(4));
    settings.workload.turns = Some(Length::Fixed(2));
    let (report, target) = report(&settings, |_| evenly(10, 10, 2));
    let seen = target.seen.lock().unwrap();
    let lengths: Vec<usize> = seen.iter().map(|request| request.prompt.len()).collect();
    assert_eq!(lengths, [10, 22, 10, 22]);
    assert_eq!(seen[0].prompt[..], seen[1].prompt[..10]);
    assert_ne!(seen[0].prompt, seen[2].prompt);
    assert!((report.runs[0].duration_s - 0.08).abs() < 1e-9);
}

#[test]
fn users_think_before_they_ask() {
    let mut settings = settings(Load::Users(2), Some(2000));
    settings.workload.think_time = Some(Duration::from_secs(1));
    let run = run(&settings, |_| evenly(100, 100, 2));
    // A request takes 1.2 s on average, of which 200 ms are the answer's.
    assert!(
        (run.requests_per_second - 2.0 / 1.2).abs() < 0.1,
        "{}",
        run.requests_per_second
    );
    assert_eq!(run.e2e_ms.unwrap().max, 200.0);
}

#[test]
fn recorded_conversations_are_asked_once() {
    let chats = "{\"messages\": [{\"role\": \"user\", \"content\": \"abc\"}, {\"role\": \"assistant\", \"content\": \"de\"}, \
                 {\"role\": \"user\", \"content\": \"f\"}, {\"role\": \"assistant\", \"content\": \"gh\"}]}\n\
                 {\"messages\": [{\"role\": \"user\", \"content\": \"LONG\"}, {\"role\": \"assistant\", \"content\": \"?\"}]}\n";
    let chats = chats.replace("LONG", &"x".repeat(100));
    let chats = Chats::read(chats.as_bytes(), BadLines::Refuse).unwrap();
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |_| evenly(10, 10, 2));
    let chats = clock
        .run(RecordedChats::read(&chats, &target, None))
        .unwrap();
    assert_eq!(chats.left_out(), 1);
    let mut settings = settings(arrivals("poisson:1"), Some(100));
    settings.questions = Questions::Chats(Arc::new(chats));
    let report = clock
        .run(measure(
            &target,
            &clock,
            &settings,
            &Stop::default(),
            |_| {},
        ))
        .unwrap();
    assert_eq!(report.runs[0].completed, 2, "{report}");
    let seen = target.seen.lock().unwrap();
    let text = |index: usize| {
        seen[index]
            .prompt
            .iter()
            .map(|it| char::from(*it as u8))
            .collect::<String>()
    };
    assert_eq!((text(0), text(1)), ("abc".to_owned(), "abcdef".to_owned()));
    drop(seen);
    settings.loads = vec![Load::Replay { speed: 1.0 }];
    let refused = clock.run(measure(
        &target,
        &clock,
        &settings,
        &Stop::default(),
        |_| {},
    ));
    assert!(matches!(refused, Err(BenchError::Setting(_))));
}

#[test]
fn goodput_counts_what_was_answered_in_full_and_in_time() {
    let mut settings = settings(Load::Users(1), Some(10));
    settings.slo = "ttft=50ms,tpot=20ms".parse().unwrap();
    let script = |index| match index {
        0 => evenly(60, 10, 2),
        1 => evenly(10, 30, 2),
        2 => Script {
            failure: Some("INTERNAL"),
            ..Script::default()
        },
        _ => evenly(50, 20, 2),
    };
    let (found, _) = report(&settings, script);
    let goodput = found.runs[0].goodput.clone().unwrap();
    assert_eq!((goodput.good, goodput.share), (7, 0.7));
    assert!(found.to_string().contains("70.0 %"), "{found}");

    let (none, _) = report(&settings, |_| evenly(60, 10, 2));
    let said = none.to_string();
    assert!(
        said.contains("no request met the SLO ttft=50ms,tpot=20ms"),
        "{said}"
    );
    assert!(said.contains("no request of any run met the SLO"), "{said}");
}

#[test]
fn an_early_end_keeps_what_there_is() {
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |_| evenly(500, 500, 2));
    let settings = Settings {
        loads: vec![arrivals("constant:1"), Load::Users(1)],
        ..settings(arrivals("constant:1"), Some(100))
    };
    let stop = Stop::default();
    let measuring = measure(&target, &clock, &settings, &stop, |progress| {
        if let Progress::Ended { done: 5, of } = progress {
            assert_eq!(of, Some(100));
            stop.stop();
        }
    });
    let report = clock.run(measuring).unwrap();
    assert!(report.interrupted && report.is_complete());
    let [run] = &report.runs[..] else {
        panic!("{report}");
    };
    assert_eq!((run.completed, run.requests, run.unfinished), (5, 5, 1));
    // The sixth was due after six seconds.
    assert_eq!(run.offered_per_second, Some(1.0));
    assert!(
        report
            .to_string()
            .ends_with("interrupted: this is what there was until then\n")
    );
}
