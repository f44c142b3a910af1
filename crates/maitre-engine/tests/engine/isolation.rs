//! Invariant 4: one request cannot hurt another. A forward pass that errors or panics, and logits
//! that are not numbers, fail the culprit alone; the others get the tokens they get without it.

use crate::toy::{Answer, Fault, MARKED, Setup, answer, idle, tokens_request};
use maitre_engine::EngineError;

fn prompt(of: u32) -> Vec<u32> {
    (0..5 + of % 7).map(|i| 100 + of * 13 + i).collect()
}

async fn crowd(fault: Option<Fault>, culprit: Option<usize>) -> Vec<Result<Answer, EngineError>> {
    let (engine, gate) = Setup {
        fault,
        ..Setup::default()
    }
    .start();
    // All of them stand in the queue before the first step, so that they share it.
    gate.shut();
    let mut generations = Vec::new();
    for of in 0..9 {
        let mut prompt = prompt(of as u32);
        if culprit == Some(of) {
            prompt.push(MARKED);
        }
        generations.push(engine.generate(tokens_request(&prompt, 12)).await.unwrap());
    }
    gate.open();
    let mut answers = Vec::new();
    for generation in generations {
        answers.push(answer(generation).await);
    }
    idle(&engine).await;
    assert!(engine.health().ready, "the engine goes on");
    let later = answer(
        engine
            .generate(tokens_request(&prompt(0), 12))
            .await
            .unwrap(),
    )
    .await;
    assert!(later.is_ok(), "{later:?}");
    answers
}

async fn fails_alone(fault: Fault, message: &str) {
    let without = crowd(None, None).await;
    for culprit in [0, 4, 8] {
        let with = crowd(Some(fault), Some(culprit)).await;
        for (of, (with, without)) in with.iter().zip(&without).enumerate() {
            if of == culprit {
                let Err(EngineError::Failed { message: found }) = with else {
                    panic!("{fault:?}: request {of} got {with:?}")
                };
                assert!(found.contains(message), "{found}");
            } else {
                let (with, without) = (with.as_ref().unwrap(), without.as_ref().unwrap());
                assert_eq!(
                    with.token_ids, without.token_ids,
                    "{fault:?} of {culprit} hurt {of}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_forward_error_fails_the_culprit_alone() {
    fails_alone(Fault::Error, "injected").await;
}

#[tokio::test]
async fn a_panic_fails_the_culprit_alone() {
    fails_alone(Fault::Panic, "injected panic").await;
    fails_alone(Fault::PanicInLogits, "injected panic").await;
}

#[tokio::test]
async fn logits_that_are_not_numbers_fail_the_culprit_alone() {
    fails_alone(Fault::NanLogits, "logit").await;
}

/// Requests that are admitted one after the other, each with a copy of the block that its prompt shares with the
/// others'. The budget holds one prompt beside the decodes, so the next admission is planned behind the step of the one
/// before. Every third one fails its step.
#[tokio::test]
async fn a_step_that_fails_before_one_with_copies_hurts_nobody_else() {
    let run = async |fails: bool| {
        let setup = Setup {
            max_seqs: 8,
            max_batched_tokens: 11,
            fault: fails.then_some(Fault::Error),
            ..Setup::default()
        };
        let (engine, _) = setup.start();
        let mut generations = Vec::new();
        for of in 0..40 {
            let mut prompt: Vec<u32> = (100..106).collect();
            prompt.extend((0..2 + of % 5).map(|i| 200 + of * 13 + i));
            let culprit = of % 3 == 2;
            prompt.extend(culprit.then_some(MARKED));
            let request = tokens_request(&prompt, 3 + of % 29);
            generations.push((culprit, engine.generate(request).await.unwrap()));
        }
        let mut answers = Vec::new();
        for (culprit, generation) in generations {
            answers.push((culprit, answer(generation).await));
        }
        idle(&engine).await;
        answers
    };
    let (without, with) = (run(false).await, run(true).await);
    for (of, ((culprit, with), (_, without))) in with.iter().zip(&without).enumerate() {
        assert_eq!(with.is_err(), *culprit, "{of}: {with:?}");
        if let Ok(with) = with {
            let without = without.as_ref().unwrap();
            assert_eq!(with.token_ids, without.token_ids, "{of}");
        }
    }
}
