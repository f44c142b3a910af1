//! What a server has been asked before it may have in its prefix cache: runs ask other prompts, and a report says where they were known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod virtual_time;

use std::collections::HashSet;
use std::sync::Arc;

use maitre_bench::workload::{BadLines, Chats, Length, Trace};
use maitre_bench::{
    Capacity, ChatsNeeded, Comparison, Dimension, Load, PromptFile, Questions, RecordedChats,
    Report, Settings, Stop, Workload, find_capacity, measure,
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

/// So many prompts of a file, no two of them alike.
fn prompts_of_a_file(count: usize) -> Questions {
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |_| evenly(1, 1, 1));
    let lines = (0..count).map(|number| format!("\"prompt {number:04}\"\n"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.collect::<String>()).unwrap();
    let file = PromptFile::read(file.path()).unwrap();
    Questions::InTurn(clock.run(file.tokens(&target)).unwrap())
}

/// What a search finds in six runs of 64 requests and a warm-up, and the prompts in the order in which they were asked.
fn searched(questions: Questions) -> (Capacity, Vec<Vec<u32>>) {
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
    settings.questions = questions;
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
    let seen = std::mem::take(&mut *target.seen.lock().unwrap());
    let prompts = seen.into_iter().map(|request| request.prompt).collect();
    (found, prompts)
}

#[test]
fn every_run_of_a_search_asks_other_prompts() {
    let failed = "requests failed with INTERNAL and count as too slow, the first: scripted";
    let known = "warning: 90 % of the random prompts' tokens";
    for (questions, expected) in [
        (Questions::Random, &[known, failed][..]),
        (prompts_of_a_file(6 * 65), &[failed]),
    ] {
        let (found, prompts) = searched(questions);
        assert_eq!(prompts.len(), 6 * 65);
        assert_all_differ(&prompts);
        let said = found.to_string();
        for expected in expected {
            assert!(said.contains(expected), "{said}");
        }
        assert_eq!(found.warnings.len(), expected.len(), "{said}");
    }
}

#[test]
fn prompts_of_a_file_that_do_not_suffice_for_a_search_are_told() {
    let (found, prompts) = searched(prompts_of_a_file(300));
    assert_eq!(prompts[300..], prompts[..90]);
    let said = found.to_string();
    let expected = "warning: 90 requests asked a prompt of the file once more, when the server could have them in its prefix cache";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn prompts_of_a_file_that_are_asked_again_are_told_unless_the_server_kept_none() {
    let of_a_file = Settings {
        questions: prompts_of_a_file(10),
        warmup_requests: 0,
        ..settings(&[1, 1])
    };
    // Eight requests a run.
    for (cached, is_told) in [(None, true), (Some(6), true), (Some(0), false)] {
        let (report, _) = asked(&of_a_file, cached);
        let expected = "6 requests asked a prompt of the file once more";
        let told = report.warnings.iter().any(|it| it.starts_with(expected));
        assert_eq!(told, is_told, "{report}");
    }
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

#[test]
fn as_many_conversations_are_read_as_users_and_requests_need() {
    // Eight turns each, and at the end one that does not fit into the context: it is left out if it is read.
    let turn = |text: &str| {
        format!(
            "{{\"role\": \"user\", \"content\": \"{text}\"}}, {{\"role\": \"assistant\", \"content\": \"ok\"}}"
        )
    };
    let line = |turns: &[String]| format!("{{\"messages\": [{}]}}\n", turns.join(", "));
    let turns: Vec<String> = (0..8).map(|_| turn("a")).collect();
    let mut lines = vec![line(&turns); 24];
    lines.push(line(&[turn(&"x".repeat(200))]));
    let chats = Chats::read(lines.concat().as_bytes(), BadLines::Refuse).unwrap();
    let clock = VirtualClock::default();
    let target = ScriptedTarget::new(&clock, |_| evenly(10, 10, 1));
    // By turns alone two or eight conversations suffice; sixteen users need sixteen, and the last ones may ask but one turn.
    for (requests, at_once, left_out) in [(16, 16, 0), (64, 16, 0), (16, 1, 0), (200, 1, 1)] {
        let needed = ChatsNeeded { requests, at_once };
        let read = RecordedChats::read(&chats, &target, Some(needed));
        let read = clock.run(read).unwrap();
        assert_eq!(read.left_out(), left_out, "{needed:?}");
        let mut settings = Settings {
            questions: Questions::Chats(Arc::new(read)),
            warmup_requests: 0,
            ..settings(&[at_once as u32])
        };
        settings.workload.requests = Some(requests);
        let (report, prompts) = asked(&settings, None);
        assert_eq!(prompts.len(), requests.min(24 * 8), "{needed:?}");
        assert!(report.warnings.is_empty(), "{report}");
    }
}
