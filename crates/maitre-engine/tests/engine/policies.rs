//! Which request is admitted first, as the program that embeds the engine says.

use std::collections::BTreeSet;
use std::sync::Arc;

use maitre_engine::{CustomPolicy, Place, Policy, PolicyKind, Service, Waiting};

use crate::toy::{Answer, Setup, answer, tokens_request};

/// The shortest answer first, then the shortest prompt.
#[derive(Debug, Default)]
struct ShortestFirst {
    waiting: BTreeSet<(usize, usize, Place)>,
}

impl ShortestFirst {
    fn rank(request: &Waiting) -> (usize, usize, Place) {
        let left = request.max_tokens - request.output_tokens;
        (left, request.prompt_tokens, request.place)
    }
}

impl Policy for ShortestFirst {
    fn enter(&mut self, request: &Waiting) {
        assert!(self.waiting.insert(Self::rank(request)));
    }

    fn leave(&mut self, request: &Waiting) {
        assert!(self.waiting.remove(&Self::rank(request)), "told as before");
    }

    fn next(&self, _limit: usize) -> Vec<Place> {
        let first = self.waiting.first();
        first.map(|&(_, _, place)| place).into_iter().collect()
    }

    fn served(&mut self, service: Service) {
        assert!(service.prompt_tokens + service.output_tokens > 0);
    }
}

/// What is answered by an engine that serves one request at a time, if these prompts and lengths are asked for
/// while another request is served.
async fn serve(setup: Setup, asked: &[(u32, u32)]) -> Vec<Answer> {
    let (engine, gate) = Setup {
        max_seqs: 1,
        ..setup
    }
    .start();
    gate.shut();
    let first = engine.generate(tokens_request(&[9], 2)).await.unwrap();
    let at_gate = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || at_gate.wait_for_step())
        .await
        .unwrap();
    let mut waiting = Vec::new();
    for &(prompt, max_tokens) in asked {
        let prompt: Vec<u32> = (100..100 + prompt).collect();
        let request = tokens_request(&prompt, max_tokens);
        waiting.push(engine.generate(request).await.unwrap());
    }
    gate.open();
    answer(first).await.unwrap();
    let mut answers = Vec::new();
    for generation in waiting {
        answers.push(answer(generation).await.unwrap());
    }
    answers
}

/// The indices of the answers, the one whose first step came first in front. All were asked for at about the same
/// time, before any of them had its turn, and one begins when another has ended.
fn order(answers: &[Answer]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..answers.len()).collect();
    order.sort_by_key(|&index| answers[index].end.timings.queue);
    order
}

#[tokio::test]
async fn an_engine_takes_any_policy() {
    let asked = [(40, 9), (30, 3), (20, 3)];
    let fcfs = serve(Setup::default(), &asked).await;
    assert_eq!(order(&fcfs), [0, 1, 2]);
    let shortest = serve(
        Setup {
            custom_policy: Some(|| CustomPolicy::new("shortest", ShortestFirst::default)),
            ..Setup::default()
        },
        &asked,
    )
    .await;
    assert_eq!(order(&shortest), [2, 1, 0]);
    let tokens = |answers: &[Answer]| -> Vec<Vec<u32>> {
        answers.iter().map(|one| one.token_ids.clone()).collect()
    };
    assert_eq!(tokens(&fcfs), tokens(&shortest));
}

#[tokio::test]
async fn the_banner_names_the_policy() {
    for &policy in PolicyKind::ALL {
        let (engine, _gate) = Setup {
            policy,
            ..Setup::default()
        }
        .start();
        let banner = engine.info().to_string();
        assert!(banner.contains(&format!("policy {policy},")), "{banner}");
    }
    let (engine, _gate) = Setup {
        custom_policy: Some(|| CustomPolicy::new("shortest", ShortestFirst::default)),
        ..Setup::default()
    }
    .start();
    let scheduling = &engine.info().scheduling;
    assert!(scheduling.to_string().contains("policy shortest,"));
}
