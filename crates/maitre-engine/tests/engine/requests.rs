//! What a request may ask for, and what it gets: stops, lengths, echo, log-probabilities, `n`; and
//! everything that is wrong with a bad one, at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::toy::{Answer, Setup, answer, tokens_request};
use maitre_engine::{
    ChatMessage, ChatRequest, EngineError, Event, FinishReason, GenerateRequest, Input, Matched,
    Offload, Role,
};

const PROMPT: [u32; 3] = [300, 301, 302];

async fn run(request: GenerateRequest) -> Answer {
    let (engine, _gate) = Setup::default().start();
    answer(engine.generate(request).await.unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn an_answer_ends_at_its_length() {
    let found = run(tokens_request(&PROMPT, 5)).await;
    assert_eq!(
        (found.token_ids.len(), found.reason),
        (5, FinishReason::Length)
    );
    assert_eq!(
        (
            found.end.usage.prompt_tokens,
            found.end.usage.completion_tokens
        ),
        (3, 5)
    );
    assert!(found.end.timings.ttft <= found.end.timings.e2e);
}

#[tokio::test]
async fn an_answer_without_max_tokens_fills_the_context() {
    let mut request = tokens_request(&PROMPT, 1);
    request.stopping.max_tokens = None;
    let found = run(request).await;
    assert_eq!(
        (found.token_ids.len(), found.reason),
        (256 - 3, FinishReason::Length)
    );
}

#[tokio::test]
async fn a_stop_token_ends_it_and_min_tokens_holds_it_off() {
    let whole = run(tokens_request(&PROMPT, 12)).await;
    let mut request = tokens_request(&PROMPT, 12);
    request.stopping.stop_token_ids = vec![whole.token_ids[3]];
    let first = whole
        .token_ids
        .iter()
        .position(|id| *id == whole.token_ids[3])
        .unwrap();
    let found = run(request.clone()).await;
    assert_eq!(found.token_ids, whole.token_ids[..=first]);
    assert_eq!(found.reason, FinishReason::Stop);
    assert_eq!(found.end.matched, Some(Matched::Token(whole.token_ids[3])));
    request.stopping.min_tokens = 8;
    let held = run(request).await;
    assert!(held.token_ids.len() >= 9, "{:?}", held.token_ids);
    assert!(!held.token_ids[..8].contains(&whole.token_ids[3]));
}

#[tokio::test]
async fn a_stop_string_across_tokens_cuts_the_text_exactly() {
    let whole = run(tokens_request(&PROMPT, 20)).await;
    // From the middle of one token's text into the middle of a later one's.
    let chars: Vec<char> = whole.text.chars().collect();
    let stop: String = chars[chars.len() / 3..chars.len() / 3 + 9].iter().collect();
    let at = whole.text.find(&stop).unwrap();
    for include_stop in [false, true] {
        let mut request = tokens_request(&PROMPT, 20);
        request.stopping.stop = vec!["never in the text \u{1F37D}".into(), stop.clone()];
        request.stopping.include_stop = include_stop;
        let found = run(request).await;
        let expected = if include_stop { at + stop.len() } else { at };
        assert_eq!(found.text, whole.text[..expected]);
        assert_eq!(found.reason, FinishReason::StopSequence);
        assert_eq!(found.end.matched, Some(Matched::Text(stop.clone())));
        assert!(whole.token_ids.starts_with(&found.token_ids));
    }
}

#[tokio::test]
async fn text_held_back_for_a_stop_string_that_never_comes_is_returned() {
    let whole = run(tokens_request(&PROMPT, 6)).await;
    let mut request = tokens_request(&PROMPT, 6);
    request.stopping.stop = vec![format!("{} and more", &whole.text[whole.text.len() - 1..])];
    assert_eq!(run(request).await.text, whole.text);
}

#[tokio::test]
async fn the_prompt_is_echoed_in_front() {
    let plain = run(tokens_request(&PROMPT, 4)).await;
    let mut request = tokens_request(&PROMPT, 4);
    request.output.echo = true;
    let echoed = run(request).await;
    assert_eq!(echoed.token_ids, [&PROMPT[..], &plain.token_ids].concat());
    let prompt_text = crate::toy::tokenizer().decode(&PROMPT, true).unwrap();
    assert_eq!(echoed.text, format!("{prompt_text}{}", plain.text));
}

#[tokio::test]
async fn prompt_logprobs_score_every_token_but_the_first_in_any_chunks() {
    let prompt: Vec<u32> = (0..50).map(|i| 400 + i).collect();
    let mut all = Vec::new();
    for max_batched_tokens in [16, 64] {
        let (engine, _gate) = Setup {
            max_batched_tokens,
            ..Setup::default()
        }
        .start();
        let mut request = tokens_request(&prompt, 2);
        request.output.prompt_logprobs = Some(3);
        let mut generation = engine.generate(request).await.unwrap();
        let Some(Ok(Event::PromptLogprobs(scored))) = generation.next().await else {
            panic!("prompt log-probabilities come first")
        };
        let ids: Vec<u32> = scored.tokens.iter().map(|t| t.token.token_id).collect();
        assert_eq!(ids, prompt[1..]);
        assert!(
            scored
                .tokens
                .iter()
                .all(|t| t.top.len() == 3 && t.token.logprob < 0.0)
        );
        all.push(scored);
    }
    assert_eq!(all[0], all[1]);
}

#[tokio::test]
async fn n_answers_share_a_stream_and_differ_only_where_they_are_sampled() {
    let (engine, _gate) = Setup::default().start();
    let mut request = tokens_request(&PROMPT, 6);
    request.n = 3;
    request.sampling.temperature = Some(1.0);
    request.sampling.seed = Some(5);
    let mut generation = engine.generate(request.clone()).await.unwrap();
    let mut answers = vec![Vec::new(); 3];
    let mut finished = 0;
    while let Some(event) = generation.next().await {
        match event.unwrap() {
            Event::Delta(delta) => answers[delta.index as usize].extend(delta.token_ids),
            Event::Finished(_) => finished += 1,
            Event::PromptLogprobs(_) => {}
        }
    }
    assert_eq!(finished, 3);
    assert!(answers.iter().all(|ids| ids.len() == 6));
    assert!(answers[0] != answers[1] && answers[1] != answers[2]);
    request.n = 1;
    assert_eq!(
        run(request).await.token_ids,
        answers[0],
        "answer 0 has the request's own seed"
    );
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_with_a_delay() {
    let (engine, gate) = Setup {
        max_seqs: 1,
        max_queue: 2,
        ..Setup::default()
    }
    .start();
    gate.shut();
    let first = engine.generate(tokens_request(&PROMPT, 2)).await.unwrap();
    let second = engine.generate(tokens_request(&PROMPT, 2)).await;
    let mut third = engine.generate(tokens_request(&PROMPT, 2)).await;
    if third.is_ok() {
        // The first had left the queue already.
        third = engine.generate(tokens_request(&PROMPT, 2)).await;
    }
    assert!(
        matches!(third, Err(EngineError::QueueFull { limit: 2, .. })),
        "{third:?}"
    );
    gate.open();
    assert!(answer(first).await.is_ok() && second.is_ok());
}

async fn violations(request: GenerateRequest) -> Vec<String> {
    let (engine, _gate) = Setup::default().start();
    match engine.generate(request).await {
        Err(EngineError::Invalid { violations }) => {
            assert!(violations.iter().all(|v| !v.description.is_empty()));
            violations.into_iter().map(|v| v.field).collect()
        }
        other => panic!("expected violations, found {other:?}"),
    }
}

type Change = fn(&mut GenerateRequest);

#[tokio::test]
async fn every_bad_field_is_named() {
    let cases: &[(&str, Change)] = &[
        ("input.text", |r| r.input = Input::Text(String::new())),
        ("input.text", |r| {
            r.input = Input::Text("word ".repeat(1_000_000))
        }),
        ("input.token_ids", |r| r.input = Input::Tokens(Vec::new())),
        ("input.token_ids[1]", |r| {
            r.input = Input::Tokens(vec![5, 4096])
        }),
        ("input.token_ids", |r| {
            r.input = Input::Tokens(vec![5; 256]);
            r.stopping.max_tokens = None;
        }),
        ("messages", |r| {
            r.input = Input::Chat(ChatRequest::new(Vec::new()))
        }),
        ("request_id", |r| r.request_id = Some(String::new())),
        ("request_id", |r| r.request_id = Some("x".repeat(257))),
        ("n", |r| r.n = 0),
        ("n", |r| r.n = 17),
        ("sampling.temperature", |r| {
            r.sampling.temperature = Some(f32::NAN)
        }),
        ("sampling.temperature", |r| {
            r.sampling.temperature = Some(f32::INFINITY)
        }),
        ("sampling.temperature", |r| {
            r.sampling.temperature = Some(-0.1)
        }),
        ("sampling.top_p", |r| r.sampling.top_p = Some(0.0)),
        ("sampling.top_p", |r| r.sampling.top_p = Some(1.01)),
        ("sampling.min_p", |r| r.sampling.min_p = Some(-0.5)),
        ("sampling.repetition_penalty", |r| {
            r.sampling.repetition_penalty = Some(0.0)
        }),
        ("sampling.frequency_penalty", |r| {
            r.sampling.frequency_penalty = Some(2.5)
        }),
        ("sampling.presence_penalty", |r| {
            r.sampling.presence_penalty = Some(f32::NAN)
        }),
        ("stopping.max_tokens", |r| r.stopping.max_tokens = Some(0)),
        ("stopping.max_tokens", |r| r.stopping.max_tokens = Some(254)),
        ("stopping.min_tokens", |r| r.stopping.min_tokens = 6),
        ("stopping.stop", |r| {
            r.stopping.stop = vec!["x".into(); 1000]
        }),
        ("stopping.stop[1]", |r| {
            r.stopping.stop = vec!["x".into(), String::new()]
        }),
        ("stopping.stop[0]", |r| {
            r.stopping.stop = vec!["x".repeat(1025)]
        }),
        ("stopping.stop_token_ids[0]", |r| {
            r.stopping.stop_token_ids = vec![4096]
        }),
        ("output.logprobs", |r| r.output.logprobs = Some(1000)),
        ("output.prompt_logprobs", |r| {
            r.output.prompt_logprobs = Some(1000)
        }),
        ("service.queue_timeout", |r| {
            r.service.queue_timeout = Some(Duration::ZERO)
        }),
        ("service.time_limit", |r| {
            r.service.time_limit = Some(Duration::MAX)
        }),
    ];
    for (field, change) in cases {
        let mut request = tokens_request(&PROMPT, 5);
        change(&mut request);
        assert_eq!(violations(request).await, [*field]);
    }
    for bias in [(4096, 1.0), (5, f32::INFINITY), (5, f32::NAN), (5, 101.0)] {
        let mut request = tokens_request(&PROMPT, 5);
        request.sampling.logit_bias = vec![bias];
        let found = violations(request).await;
        assert!(
            found
                .iter()
                .all(|field| field.starts_with("sampling.logit_bias")),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_reported_at_once() {
    let mut request = tokens_request(&[5, 9999], 0);
    request.n = 0;
    request.sampling.temperature = Some(-1.0);
    request.sampling.top_p = Some(7.0);
    request.stopping.stop = vec![String::new()];
    let mut found = violations(request).await;
    found.sort();
    let expected = [
        "input.token_ids[1]",
        "n",
        "sampling.temperature",
        "sampling.top_p",
        "stopping.max_tokens",
        "stopping.stop[0]",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_conversation_is_rendered_by_the_template() {
    let (engine, _gate) = Setup::default().start();
    let chat = ChatRequest::new(vec![ChatMessage::new(Role::User, "hello")]);
    let rendered = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n";
    let mut prompts = Vec::new();
    for input in [Input::Chat(chat), Input::Text(rendered.into())] {
        let mut request = GenerateRequest::new(input);
        request.sampling.temperature = Some(0.0);
        request.stopping.max_tokens = Some(3);
        prompts.push(
            answer(engine.generate(request).await.unwrap())
                .await
                .unwrap()
                .token_ids,
        );
    }
    assert_eq!(prompts[0], prompts[1]);
}

#[tokio::test]
async fn a_time_limit_before_the_first_token_still_echoes_the_prompt() {
    let (engine, gate) = Setup::default().start();
    gate.shut();
    let mut request = tokens_request(&PROMPT, 5);
    request.output.echo = true;
    request.service.time_limit = Some(Duration::from_millis(1));
    let generation = engine.generate(request).await.unwrap();
    crate::toy::until("the time has passed", || {
        engine.uptime() > Duration::from_millis(50)
    })
    .await;
    gate.open();
    let ended = answer(generation).await.unwrap();
    assert_eq!(ended.reason, FinishReason::Deadline);
    assert_eq!(ended.token_ids[..3], PROMPT);
}

/// `do_sample: false` in the model's generation defaults means greedy, whatever stands beside it.
#[tokio::test]
async fn a_model_that_does_not_sample_by_default_is_greedy() {
    let setup = Setup {
        do_sample: Some(false),
        ..Setup::default()
    };
    let (engine, _gate) = setup.start();
    let mut silent = tokens_request(&PROMPT, 8);
    silent.sampling.temperature = None;
    let silent = answer(engine.generate(silent).await.unwrap())
        .await
        .unwrap();
    let greedy = run(tokens_request(&PROMPT, 8)).await;
    assert_eq!(silent.token_ids, greedy.token_ids);
}

/// The first look at a request does not do its work: whatever runs a template and whatever is long is
/// worked on elsewhere, so the thread that asks stays free. Here every thread that could do the work is occupied, so
/// the work can't be over by chance.
#[test]
fn templates_and_long_requests_never_run_on_the_async_worker() {
    use std::task::Poll;
    let (engine, _gate) = Setup::default().start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let lanes_are_occupied = Arc::new(Mutex::new(()));
    let occupied = lanes_are_occupied.lock().unwrap();
    let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
    for lane in [1, 100 << 10, usize::MAX] {
        for _ in 0..Offload::threads() {
            let (offload, began) = (engine.offload().clone(), began.clone());
            let released = Arc::clone(&lanes_are_occupied);
            let wait = move || {
                let _ = began.send(());
                drop(released.lock());
            };
            runtime.spawn(async move { offload.away(lane, wait).await });
        }
    }
    runtime.block_on(async {
        for _ in 0..Offload::threads() {
            begun.recv().await.unwrap();
        }
    });
    let chat = |content: &str| {
        let message = ChatMessage::new(Role::User, content);
        Input::Chat(ChatRequest::new(vec![message]))
    };
    let table = [
        ("a short text", Input::Text("Hello".into()), true),
        ("a long text", Input::Text("Hello ".repeat(1000)), false),
        ("few tokens", Input::Tokens(vec![9, 10]), true),
        ("many tokens", Input::Tokens(vec![9; 2000]), false),
        ("the shortest chat", chat(""), false),
        ("a long chat", chat(&"Hello ".repeat(1000)), false),
    ];
    for (what, input, at_once) in table {
        let mut request = GenerateRequest::new(input);
        request.stopping.max_tokens = Some(1);
        let mut submitting = Box::pin(engine.generate(request.clone()));
        let mut checking = Box::pin(engine.check(request));
        let looked = std::future::poll_fn(|context| {
            let submitted = submitting.as_mut().poll(context).is_ready();
            Poll::Ready((submitted, checking.as_mut().poll(context).is_ready()))
        });
        let looked = runtime.block_on(looked);
        assert_eq!(looked, (at_once, at_once), "{what}");
    }
    drop(occupied);
}
