//! From tokens to text at the two seams of an answer: after its prompt, and at `min_tokens`.

use futures_util::FutureExt;

use crate::toy::{Answer, Setup, answer, answers, tokenizer, tokens_request};
use maitre_engine::{EngineError, Event, FinishReason, GenerateRequest, Input, Matched};
use maitre_text::Detokenizer;

const PROMPT: [u32; 3] = [300, 301, 302];

async fn run(request: GenerateRequest) -> Answer {
    let (engine, _gate) = Setup::default().start();
    answer(engine.generate(request).await.unwrap())
        .await
        .unwrap()
}

/// The text that is certain after the first `count` of these tokens.
fn text_of_first(token_ids: &[u32], count: usize) -> String {
    let mut detokenizer = Detokenizer::after_prompt(tokenizer(), true, &PROMPT);
    token_ids[..count]
        .iter()
        .map(|&id| detokenizer.push(id))
        .collect()
}

/// Where the first stop string that is complete after `exempt` bytes begins and ends.
fn naive(text: &str, stop: &str, exempt: usize) -> Option<(usize, usize)> {
    let ends =
        (exempt + 1..=text.len()).find(|&end| text.as_bytes()[..end].ends_with(stop.as_bytes()));
    ends.map(|end| (end - stop.len(), end))
}

#[tokio::test]
async fn a_stop_string_that_begins_before_min_tokens_is_found_and_one_that_ends_there_is_not() {
    let whole = run(tokens_request(&PROMPT, 20)).await;
    let boundaries: Vec<usize> = whole
        .text
        .char_indices()
        .map(|(at, _)| at)
        .chain([whole.text.len()])
        .collect();
    let mut across = 0;
    for min_tokens in [1, 4, 7, 12] {
        let exempt = text_of_first(&whole.token_ids, min_tokens).len();
        let at = boundaries.iter().position(|&b| b == exempt).unwrap();
        // Around the seam by one to three characters on each side, and wholly before it.
        for (before, after) in [(1, 1), (3, 1), (1, 3), (2, 2), (2, 0), (1, 0)] {
            let Some(from) = at.checked_sub(before) else {
                continue;
            };
            let stop = &whole.text[boundaries[from]..boundaries[at + after]];
            let expected = naive(&whole.text, stop, exempt);
            across += usize::from(after > 0);
            for include_stop in [false, true] {
                let mut request = tokens_request(&PROMPT, 20);
                request.stopping.min_tokens = min_tokens as u32;
                request.stopping.stop = vec![stop.to_owned()];
                request.stopping.include_stop = include_stop;
                let found = run(request).await;
                let Some((start, end)) = expected else {
                    assert_eq!(
                        (found.text.as_str(), found.reason),
                        (whole.text.as_str(), FinishReason::Length)
                    );
                    continue;
                };
                let cut = if include_stop { end } else { start };
                assert_eq!(found.text, whole.text[..cut], "{stop:?} after {min_tokens}");
                assert_eq!(found.reason, FinishReason::StopSequence);
                assert_eq!(found.end.matched, Some(Matched::Text(stop.to_owned())));
                assert!(found.token_ids.len() > min_tokens);
            }
        }
    }
    assert!(across >= 12, "{across} stop strings across the seam");
}

/// A character that the bundled tokenizer writes with two tokens.
fn character_of_two_tokens() -> (String, [u32; 2]) {
    let tokenizer = tokenizer();
    ('\u{a1}'..'\u{3000}')
        .find_map(|c| {
            let ids = tokenizer.encode_plain(&c.to_string()).unwrap();
            let half = ids.len() == 2 && tokenizer.decode(&ids[..1], true).unwrap() == "\u{fffd}";
            half.then(|| (c.to_string(), [ids[0], ids[1]]))
        })
        .unwrap()
}

#[tokio::test]
async fn an_echoed_prompt_that_ends_inside_a_character_shows_it_once() {
    let (character, ids) = character_of_two_tokens();
    let (engine, _gate) = Setup::default().start();
    let prompt = [300, ids[0]];
    let before = tokenizer().decode(&[300], true).unwrap();
    for (echo, n, stop, skip_special) in [
        (true, 1, false, true),
        (true, 3, false, true),
        (true, 1, true, true),
        (true, 2, false, false),
        (false, 2, false, true),
    ] {
        let mut request = tokens_request(&prompt, 1);
        request.sampling.logit_bias = vec![(ids[1], 100.0)];
        request.output.echo = echo;
        request.output.skip_special_tokens = skip_special;
        request.n = n;
        if stop {
            request.stopping.stop = vec!["never in the text".into()];
        }
        let expected = if echo {
            format!("{before}{character}")
        } else {
            character.clone()
        };
        for found in answers(engine.generate(request).await.unwrap())
            .await
            .unwrap()
        {
            assert_eq!(found.text, expected);
            assert_eq!(found.end.usage.prompt_tokens, 2);
        }
    }
    // The stop string is the character that prompt and answer share.
    let mut request = tokens_request(&prompt, 1);
    request.sampling.logit_bias = vec![(ids[1], 100.0)];
    request.output.echo = true;
    request.stopping.stop = vec![character];
    let found = answer(engine.generate(request).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (found.text, found.reason),
        (before, FinishReason::StopSequence)
    );
}

/// Piece by piece and in all: what an echoed answer shows is what its ids decode to.
#[tokio::test]
async fn an_echoed_answer_is_the_text_of_all_its_ids() {
    let (engine, _gate) = Setup::default().start();
    let (_, half) = character_of_two_tokens();
    for prompt in [
        vec![300, half[0]],
        vec![300, half[0], half[0]],
        vec![half[0]],
        vec![1, 300, 2],
    ] {
        for skip_special in [true, false] {
            let mut request = tokens_request(&prompt, 9);
            request.output.echo = true;
            request.output.skip_special_tokens = skip_special;
            let mut generation = engine.generate(request).await.unwrap();
            let (mut text, mut ids) = (String::new(), Vec::new());
            while let Some(event) = generation.next().await {
                if let Event::Delta(delta) = event.unwrap() {
                    text.push_str(delta.text());
                    ids.extend(delta.token_ids);
                }
            }
            assert!(ids.starts_with(&prompt));
            assert_eq!(
                text,
                tokenizer().decode(&ids, skip_special).unwrap(),
                "{ids:?}"
            );
        }
    }
}

fn largest_stop_strings() -> Vec<String> {
    (b'0'..)
        .take(64)
        .map(|first| char::from(first).to_string().repeat(1024))
        .collect()
}

/// With every blocking thread taken, a request that needs one stands still, and others pass.
#[test]
fn long_work_never_runs_on_an_async_worker() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (engine, _gate) = Setup::default().start();
    let long = |change: fn(&mut GenerateRequest)| {
        let mut request = tokens_request(&PROMPT, 2);
        request.n = 4;
        change(&mut request);
        request
    };
    let (release, taken) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let busy = tokio::task::spawn_blocking(move || taken.recv());
        let changes: [fn(&mut GenerateRequest); 3] = [
            |request| request.stopping.stop = largest_stop_strings(),
            |request| request.input = Input::Tokens(vec![300; 5000]),
            |request| request.input = Input::Text("word ".repeat(5000)),
        ];
        for change in changes {
            let waiting = engine.generate(long(change)).now_or_never();
            assert!(waiting.is_none(), "{waiting:?}");
        }
        let short = engine.generate(long(|_| {})).now_or_never();
        assert!(short.is_some_and(|answer| answer.is_ok()));
        drop(release);
        assert!(busy.await.is_ok());
        assert!(engine.generate(long(changes[0])).await.is_ok());
    });
}

/// Stop strings of 64 KiB are legal; the pool for them is bounded, and comes back with the answers.
#[tokio::test]
async fn stop_strings_are_charged_to_a_pool_once_per_request() {
    let (engine, gate) = Setup::default().start();
    let mut large = tokens_request(&PROMPT, 2);
    large.n = 4;
    large.stopping.stop = largest_stop_strings();
    gate.shut();
    let mut held = Vec::new();
    let refused = loop {
        match engine.generate(large.clone()).await {
            Ok(generation) => held.push(generation),
            Err(refused) => break refused,
        }
    };
    assert_eq!(
        held.len(),
        32,
        "the four answers of one share its stop strings"
    );
    assert!(
        matches!(
            refused,
            EngineError::StopStringsFull {
                bytes: 65_536,
                free: 0,
                ..
            }
        ),
        "{refused}"
    );
    let mut small = GenerateRequest::new(Input::Tokens(PROMPT.to_vec()));
    small.stopping.max_tokens = Some(2);
    small.stopping.stop = vec!["\n\nUser:".into(); 8];
    let small = engine.generate(small).await.unwrap();
    gate.open();
    assert!(answer(small).await.is_ok());
    for generation in held {
        assert_eq!(answers(generation).await.unwrap().len(), 4);
    }
    // The last answer's share comes back when the publisher has put it away.
    let mut again = engine.generate(large.clone()).await;
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while matches!(again, Err(EngineError::StopStringsFull { .. })) {
        assert!(std::time::Instant::now() < give_up, "{again:?}");
        tokio::task::yield_now().await;
        again = engine.generate(large.clone()).await;
    }
    assert!(again.is_ok(), "{again:?}");
}
