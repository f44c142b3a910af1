//! What a server has been asked before it may have in its prefix cache: runs ask other prompts, and a report says where they were known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod virtual_time;

use std::collections::HashSet;
use std::sync::Arc;

use maitre_bench::workload::{BadLines, Chats, Length, Trace};
use maitre_bench::{
    Comparison, Dimension, Load, Questions, RecordedChats, Report, Settings, Stop, Workload,
    find_capacity, measure,
};
use virtual_time::{Script, ScriptedTarget, VirtualClock, evenly};

fn settings(users: &[u32]) -> Settings {
    let workload = Workload {
        seed: 1,
        input_tokens: Length::Uniform(5..=20),
        ..Workload::of(10, 2)
    };
    Settings {
        warmup_requests: 1,
        ..Settings::closed_loop(workload, users)
    }
}

/// What came of it, and the prompts in the order in which they were asked.
fn asked(settings: &Settings, cached: Option<u32>) -> (Report, Vec<Vec<u32>>) {
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, move |_| Script {
        cached,
        ..evenly(10, 10, 2)
    });
    let report = clock.run(measure(&target, &clock, settings, &Stop::default(), |_| {}));
    let seen = std::mem::take(&mut *target.seen.lock().unwrap());
    let prompts = seen.into_iter().map(|request| request.prompt).collect();
    (report.unwrap(), prompts)
}

#[track_caller]
fn assert_all_differ(prompts: &[Vec<u32>]) {
    let different: HashSet<_> = prompts.iter().collect();
    assert_eq!(different.len(), prompts.len());
}

#[test]
fn every_load_of_a_sweep_asks_other_prompts() {
    let (report, prompts) = asked(&settings(&[1, 4, 16]), None);
    assert_eq!(prompts.len(), 3 + 8 + 16 + 64);
    assert_all_differ(&prompts);
    assert!(report.warnings.is_empty());
}

#[test]
fn another_seed_of_prompts_changes_their_tokens_alone() {
    let first = settings(&[1, 4]);
    let mut second = first.clone();
    second.workload.prompt_seed = 1_764_000_000_000;
    let (ours, theirs) = (asked(&first, None).1, asked(&second, None).1);
    assert_eq!(ours, asked(&first, None).1, "the same seed asks the same");
    let lengths = |prompts: &[Vec<u32>]| prompts.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&ours), lengths(&theirs));
    assert_all_differ(&[ours, theirs].concat());
}

#[test]
fn every_run_of_a_search_asks_other_prompts() {
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |index| {
        let failure = (index % 100 == 7).then_some("INTERNAL");
        Script {
            cached: Some(9),
            failure,
            ..evenly(10, 10, 2)
        }
    });
    let (stop, mut settings) = (Stop::default(), settings(&[]));
    settings.workload.input_tokens = Length::Fixed(10);
    settings.slo = "ttft=1s".parse().unwrap();
    settings.workload.requests = Some(64);
    let mut runs = 0;
    let searching = find_capacity(
        &target,
        &clock,
        &settings,
        (Dimension::Users, 0.9),
        &stop,
        |it| {
            runs += usize::from(matches!(it, maitre_bench::Progress::Finished(_)));
            if runs == 6 {
                stop.stop();
            }
        },
    );
    let found = clock.run(searching).unwrap();
    let seen = target.seen.lock().unwrap();
    let prompts: Vec<_> = seen.iter().map(|request| request.prompt.clone()).collect();
    assert!(prompts.len() >= 6 * 64);
    assert_all_differ(&prompts);
    let said = found.to_string();
    for expected in [
        "warning: 90 % of the random prompts' tokens",
        "requests failed with INTERNAL and count as too slow, the first: scripted",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(found.warnings.len(), 2);
}

#[test]
fn prompts_that_ought_to_be_new_and_are_not_are_told() {
    let settings = Settings {
        workload: Workload::of(10, 2),
        ..settings(&[1, 2])
    };
    let (report, _) = asked(&settings, Some(6));
    assert_eq!(report.warnings.len(), 2);
    let said = report.to_string();
    let expected =
        "warning: 2 users: 60 % of the random prompts' tokens were in the server's prefix cache";
    assert!(said.contains(expected) && said.contains("--seed"), "{said}");
    assert!(report.to_json().contains("60 % of the random prompts"));
    assert!(report.to_markdown().contains(expected));
    let compared = Comparison::of(&report, &report).to_string();
    assert!(
        compared.contains("of the second report: 2 users: 60 %"),
        "{compared}"
    );
    let (report, _) = asked(&settings, Some(0));
    assert!(report.warnings.is_empty());

    // A turn begins with the one before it, and a trace that is played has beginnings of its own.
    let mut turns = settings.clone();
    turns.workload.turns = Some(Length::Fixed(2));
    assert!(asked(&turns, Some(6)).0.warnings.is_empty());
    let row = "{\"timestamp\": 0, \"input_length\": 10, \"output_length\": 2, \"hash_ids\": [1]}\n";
    let trace = Trace::read(row.as_bytes(), None, BadLines::Refuse).unwrap();
    let mut played = Settings {
        questions: Questions::Trace(Arc::new(trace)),
        loads: vec![Load::Replay { speed: 1.0 }],
        ..settings
    };
    assert!(asked(&played, Some(6)).0.warnings.is_empty());
    // Its lengths alone come without them.
    played.loads = vec![Load::Users(1)];
    assert_eq!(asked(&played, Some(6)).0.warnings.len(), 1);
}

#[test]
fn every_load_of_a_sweep_asks_other_conversations() {
    let chat = |name: &str| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{name}\"}}, {{\"role\": \"assistant\", \"content\": \"ok\"}}]}}\n"
        )
    };
    let lines: String = ('a'..='z').map(|name| chat(&name.to_string())).collect();
    let chats = Chats::read(lines.as_bytes(), BadLines::Refuse).unwrap();
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |_| evenly(10, 10, 2));
    let chats = clock
        .run(RecordedChats::read(&chats, &target, None))
        .unwrap();
    let mut settings = Settings {
        questions: Questions::Chats(Arc::new(chats)),
        warmup_requests: 0,
        ..settings(&[1, 2, 1])
    };
    let (report, prompts) = asked(&settings, None);
    assert_eq!(prompts.len(), 24);
    assert_all_differ(&prompts);
    assert!(report.warnings.is_empty());
    // The 26 conversations do not suffice for a fourth run.
    settings.loads.push(Load::Users(1));
    let (report, prompts) = asked(&settings, None);
    assert_eq!(prompts[26..], prompts[..6]);
    let said = report.to_string();
    assert!(
        said.contains("warning: 6 recorded conversations were asked a second time"),
        "{said}"
    );
    // Fewer conversations than users are no load of so many users.
    settings.loads = vec![Load::Users(27)];
    let refused = clock.run(measure(
        &target,
        &clock,
        &settings,
        &Stop::default(),
        |_| {},
    ));
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("recorded conversations is 26"),
        "{message}"
    );
}
