//! Constrained answers: what comes is what the constraint allows, whatever else runs, and however long it takes.

use std::sync::Arc;

use maitre_engine::{
    ConstraintHandle, Engine, EngineError, FinishReason, GenerateRequest, Speculate,
};
use maitre_model::CacheMoves;
use maitre_speculative::{Acceptance, DraftError, DraftRequest, Drafted, Drafter, Drafting};

use crate::allowed_ids::{Door, End, Only, only};
use crate::toy::{Answer, EOS, Setup, answer, answers, idle, tokens_request, until};

fn ids(of: u32) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..3 + of * 4).map(|i| 300 + (of + i * 7) % 900).collect();
    if of.is_multiple_of(2) {
        ids.push(EOS);
    }
    ids
}

fn request(of: u32, max_tokens: u32) -> GenerateRequest {
    let prompt: Vec<u32> = (0..5 + of % 7).map(|i| 100 + of * 13 + i).collect();
    let mut request = tokens_request(&prompt, max_tokens);
    request.sampling.temperature = Some([0.0, 0.9, 2.0][of as usize % 3]);
    request.sampling.top_p = [None, Some(0.8)][of as usize % 2];
    request.sampling.seed = Some(u64::from(of));
    request.output.logprobs = Some(2);
    if of.is_multiple_of(2) {
        request.stopping.stop_token_ids = vec![ids(of)[1]];
    }
    request
}

fn constrained(of: u32, max_tokens: u32, constraint: Only) -> GenerateRequest {
    GenerateRequest {
        constraint: Some(ConstraintHandle::new(constraint)),
        ..request(of, max_tokens)
    }
}

/// A bias so large that no other token can win: what the toy says with it, it has to say under a constraint.
fn biased(of: u32, max_tokens: u32) -> GenerateRequest {
    let mut request = request(of, max_tokens);
    request.sampling.logit_bias = ids(of).into_iter().map(|id| (id, 100.0)).collect();
    request
}

async fn answer_to(engine: &Engine, request: GenerateRequest) -> Answer {
    answer(engine.generate(request).await.unwrap())
        .await
        .unwrap()
}

/// What counts of an answer: its tokens, their log-probabilities, why it ended.
fn said(answer: &Answer) -> (&[u32], &[(u32, u32)], FinishReason) {
    (&answer.token_ids, &answer.logprobs, answer.reason)
}

/// Proposes the same token over and over, asking no constraint.
struct Repeats(u32);

impl Drafter for Repeats {
    fn behind(&self, _request: &DraftRequest<'_>, _text: &[u32]) -> Option<usize> {
        Some(0)
    }

    fn draft(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        _acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        for drafting in draftings {
            let drafted = Drafted {
                token: self.0,
                distribution: None,
            };
            drafting.push(drafted, 0.5);
        }
        Ok(())
    }

    fn moved(&mut self, _moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        Ok(())
    }

    fn written(&mut self, _table: &[u32], _kept: usize, _end: usize) {}
}

const CROWD: u32 = 9;

/// Each answer alone, with a bias instead of the constraint.
async fn alone() -> Vec<Answer> {
    let (engine, _) = Setup::default().start();
    let mut expected = Vec::new();
    for of in 0..CROWD {
        expected.push(answer_to(&engine, biased(of, 30)).await);
    }
    expected
}

/// Constrained requests between others, in a pool so small that some are preempted.
async fn crowd(setup: Setup, drafter: Option<Repeats>, late: bool) -> Vec<Answer> {
    let setup = Setup {
        num_blocks: 70,
        ..setup
    };
    let (engine, gate) = match drafter {
        None => setup.start(),
        Some(drafter) => setup.start_with_drafter(Box::new(drafter)),
    };
    gate.shut();
    let (mut generations, mut others) = (Vec::new(), Vec::new());
    for of in 0..CROWD {
        let constraint = Only {
            late: late.then(|| Arc::clone(&gate)),
            ..only(&ids(of))
        };
        let request = constrained(of, 30, constraint);
        generations.push(engine.generate(request).await.unwrap());
        if of % 3 == 0 {
            let other = tokens_request(&[of, of + 1], 20);
            others.push(engine.generate(other).await.unwrap());
        }
    }
    gate.open();
    let mut answers = Vec::new();
    for generation in generations {
        answers.push(answer(generation).await.unwrap());
    }
    for other in others {
        answer(other).await.unwrap();
    }
    idle(&engine).await;
    answers
}

fn check(found: &[Answer], expected: &[Answer], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (of, (found, expected)) in (0..).zip(found.iter().zip(expected)) {
        let ids = ids(of);
        assert!(found.token_ids.iter().all(|token| ids.contains(token)));
        assert_eq!(said(found), said(expected), "{what}: request {of}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_allowed_comes_and_it_is_what_a_bias_would_give() {
    let expected = alone().await;
    let ended = expected.iter().filter(|it| it.reason == FinishReason::Stop);
    assert!(ended.count() > 0, "none ends by a token");
    let (engine, _) = Setup::default().start();
    let mut found = Vec::new();
    for of in 0..CROWD {
        found.push(answer_to(&engine, constrained(of, 30, only(&ids(of)))).await);
    }
    check(&found, &expected, "alone");
    idle(&engine).await;
    for late in [false, true] {
        let found = crowd(Setup::default(), None, late).await;
        check(&found, &expected, "in a crowd");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_drafter_changes_a_constrained_answer() {
    let expected = alone().await;
    for speculate in [Speculate::Ngram, Speculate::Suffix, Speculate::Auto] {
        let setup = Setup {
            speculate: Some(speculate),
            ..Setup::default()
        };
        let found = crowd(setup, None, true).await;
        check(&found, &expected, &format!("{speculate:?}"));
    }
    // An allowed token of some, a token of none, the end.
    for token in [300, 5, EOS] {
        let found = crowd(Setup::default(), Some(Repeats(token)), true).await;
        check(&found, &expected, &format!("{token} over and over"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_have_to_come_are_drafted_and_accepted() {
    let text: Vec<u32> = (0..40).map(|i| 500 + i * i % 97).collect();
    for speculate in [Speculate::Suffix, Speculate::Auto, Speculate::Draft] {
        let setup = Setup {
            speculate: Some(speculate),
            ..Setup::default()
        };
        let (engine, _) = setup.start();
        let constraint = Only {
            forces: true,
            ..only(&text)
        };
        let found = answer_to(&engine, constrained(1, 40, constraint)).await;
        assert_eq!(found.token_ids, text, "{speculate:?}");
        let usage = found.end.usage;
        assert!(usage.drafted_tokens > 0, "{speculate:?}: {usage:?}");
        assert_eq!(usage.accepted_tokens, usage.drafted_tokens, "{speculate:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_n_answers_has_a_constraint_of_its_own() {
    let n_answers = |request: GenerateRequest| GenerateRequest { n: 4, ..request };
    let (engine, _) = Setup::default().start();
    let expected = engine.generate(n_answers(biased(1, 20))).await.unwrap();
    let expected = answers(expected).await.unwrap();
    let constraint = Only {
        end: End::Complete(12),
        ..only(&ids(1))
    };
    let found = n_answers(constrained(1, 20, constraint));
    let found = answers(engine.generate(found).await.unwrap())
        .await
        .unwrap();
    assert_eq!(found.len(), 4);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.token_ids, expected.token_ids[..12]);
        assert_eq!(found.logprobs, expected.logprobs[..found.logprobs.len()]);
        assert_eq!(found.reason, FinishReason::Stop);
    }
    assert_ne!(found[0].token_ids, found[1].token_ids);
    idle(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_constraint_holds_up_no_other_request() {
    let (engine, _) = Setup::default().start();
    let expected = answer_to(&engine, constrained(2, 20, only(&ids(2)))).await;
    let door = Door::shut();
    let slow = Only {
        door: Some(Arc::clone(&door)),
        ..only(&ids(2))
    };
    let slow = engine.generate(constrained(2, 20, slow)).await.unwrap();
    until("the constraint is asked", || door.is_waited_at()).await;
    // Others begin, stream and end meanwhile, constrained ones among them.
    for of in 3..6 {
        let free = answer_to(&engine, request(of, 20)).await;
        assert!(!free.token_ids.is_empty());
        let quick = answer_to(&engine, constrained(of, 20, only(&ids(of)))).await;
        assert!(!quick.token_ids.is_empty());
    }
    assert!(door.is_waited_at());
    assert_eq!(engine.load().in_flight, 1);
    door.open();
    let slow = answer(slow).await.unwrap();
    assert_eq!(said(&slow), said(&expected));
    idle(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_cancelled_while_its_constraint_is_late_leaves_nothing_behind() {
    let (engine, gate) = Setup::default().start();
    let door = Door::shut();
    let slow = Only {
        door: Some(Arc::clone(&door)),
        ..only(&ids(2))
    };
    let slow = engine.generate(constrained(2, 20, slow)).await.unwrap();
    until("the constraint is asked", || door.is_waited_at()).await;
    let computed = gate.computed();
    until("it is planned again", || gate.computed() > computed + 2).await;
    drop(slow);
    idle(&engine).await;
    assert!(door.is_waited_at(), "the constraint itself is still at it");
    door.open();
    let after = answer_to(&engine, constrained(1, 20, only(&ids(1)))).await;
    assert_eq!(after.reason, FinishReason::Length);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_constraint_that_is_complete_ends_its_answer_well() {
    for at in [0, 1, 7] {
        for speculate in [None, Some(Speculate::Suffix)] {
            let setup = Setup {
                speculate,
                ..Setup::default()
            };
            let (engine, gate) = setup.start();
            let constraint = Only {
                end: End::Complete(at),
                late: speculate.map(|_| gate),
                ..only(&[700, 701])
            };
            let mut request = constrained(1, 20, constraint);
            request.output.prompt_logprobs = Some(1);
            let found = answer_to(&engine, request).await;
            assert_eq!(
                (found.token_ids.len(), found.reason),
                (at, FinishReason::Stop)
            );
            assert_eq!(found.end.usage.completion_tokens as usize, at);
            idle(&engine).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_constraint_that_fails_fails_its_request_alone() {
    let (engine, _) = Setup::default().start();
    let expected = answer_to(&engine, request(4, 30)).await;
    let ends = [
        (End::Impossible(0), "allows no token here"),
        (End::Impossible(5), "allows no token here"),
        (End::Panic(0), "the constraint panicked: injected panic"),
        (End::Panic(3), "the constraint panicked: injected panic"),
        (End::PanicAtStart, "the constraint panicked: assertion"),
    ];
    for (end, message) in ends {
        let other = engine.generate(request(4, 30)).await.unwrap();
        let constraint = Only {
            end,
            ..only(&ids(1))
        };
        let failing = engine
            .generate(constrained(1, 30, constraint))
            .await
            .unwrap();
        let failed = answer(failing).await.unwrap_err();
        let said_so = match (&failed, end) {
            (EngineError::ConstraintFailed { message: it }, End::Impossible(_)) => it,
            (EngineError::Failed { message: it }, End::Panic(_) | End::PanicAtStart) => it,
            _ => panic!("{end:?}: {failed}"),
        };
        assert!(said_so.contains(message), "{end:?}: {failed}");
        let other = answer(other).await.unwrap();
        assert_eq!(said(&other), said(&expected), "{end:?}");
        idle(&engine).await;
        assert!(engine.health().ready);
    }
    let constraint = Only {
        end: End::PanicInDrop,
        ..only(&ids(1))
    };
    answer_to(&engine, constrained(1, 30, constraint)).await;
    assert_eq!(
        said(&answer_to(&engine, request(4, 30)).await),
        said(&expected)
    );
    assert!(engine.health().ready);
}
