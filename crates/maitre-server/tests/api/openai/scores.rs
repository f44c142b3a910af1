//! Log-probabilities, as chats have them and as evaluation harnesses read them.

use serde_json::{Value, json};

use super::client::{good, stream};
use crate::test_server::TestServer;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// What lm-eval sends, and what it does with the answer: the log-likelihood of a continuation.
#[tokio::test(flavor = "multi_thread")]
async fn a_harness_reads_the_likelihood_of_a_continuation() {
    let served = TestServer::open().await;
    let tokens = good(
        served.http,
        "/tokenize",
        &json!({"prompt": "Once upon a time"}),
    )
    .await;
    let ids = tokens["tokens"].as_array().unwrap();
    let mut seen: Option<Vec<Value>> = None;
    for max_tokens in [0, 1] {
        let request = json!({
            "prompt": [ids], "temperature": 0, "max_tokens": max_tokens, "logprobs": 1,
            "echo": true, "seed": 1234,
        });
        let answer = good(served.http, COMPLETIONS, &request).await;
        let choice = &answer["choices"][0];
        let scores = &choice["logprobs"];
        let list = |name: &str| scores[name].as_array().unwrap().clone();
        let (chosen, top) = (list("token_logprobs"), list("top_logprobs"));
        let count = ids.len() + max_tokens;
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(list(name).len(), count, "{name}");
        }
        assert_eq!((&chosen[0], &top[0]), (&Value::Null, &Value::Null));
        for (place, (chosen, top)) in chosen.iter().zip(&top).enumerate().skip(1) {
            let best = top.as_object().unwrap().values().filter_map(Value::as_f64);
            let best = best.fold(f64::NEG_INFINITY, f64::max);
            let chosen = chosen.as_f64().unwrap();
            assert!(chosen <= best && chosen <= 0.0, "{place}: {chosen} {best}");
            let text = list("tokens")[place].as_str().unwrap().to_owned();
            assert!(
                top.get(&text).is_some(),
                "the one that stands there is among them"
            );
        }
        let text = choice["text"].as_str().unwrap();
        assert!(text.starts_with("Once upon a time"), "{text}");
        assert_eq!(answer["usage"]["completion_tokens"], max_tokens);
        assert_eq!(choice["finish_reason"], "length");
        let of_prompt = chosen[..ids.len()].to_vec();
        assert_eq!(*seen.get_or_insert_with(|| of_prompt.clone()), of_prompt);

        let chunks = stream(served.http, COMPLETIONS, &request).await;
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let streamed: Vec<Value> = chunks
                .iter()
                .filter_map(|it| it["choices"][0]["logprobs"][name].as_array())
                .flatten()
                .cloned()
                .collect();
            assert_eq!(streamed, list(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_generated_for_no_tokens() {
    let served = TestServer::open().await;
    let request = json!({"prompt": "Once", "max_tokens": 0});
    let answer = good(served.http, COMPLETIONS, &request).await;
    assert_eq!(answer["choices"][0]["text"], "");
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    assert_eq!(
        answer["usage"]["total_tokens"],
        answer["usage"]["prompt_tokens"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_may_be_written_by_their_ids() {
    let served = TestServer::open().await;
    let mut by_ids =
        json!({"prompt": "Grüße", "temperature": 0, "max_tokens": 6, "logprobs": 0, "echo": true});
    by_ids["return_tokens_as_token_ids"] = true.into();
    let answer = good(served.http, COMPLETIONS, &by_ids).await;
    let first = &answer["choices"][0]["logprobs"]["tokens"][0];
    assert!(first.as_str().unwrap().starts_with("token_id:"), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversations_answer_has_alternatives() {
    let served = TestServer::open().await;
    let request = json!({
        "messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 5,
        "logprobs": true, "top_logprobs": 3,
    });
    let whole = good(served.http, CHAT, &request).await;
    let scores = whole["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(whole["usage"]["completion_tokens"], scores.len());
    for score in scores {
        let top = score["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["token"], score["token"], "greedy");
        assert_eq!(top[0]["logprob"], score["logprob"]);
        let bytes: Vec<u8> = serde_json::from_value(score["bytes"].clone()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            score["token"].as_str().unwrap()
        );
    }
    let chunks = stream(served.http, CHAT, &request).await;
    let streamed: Vec<&Value> = chunks
        .iter()
        .filter_map(|it| it["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(streamed, scores.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_has_scores_by_ids() {
    let served = TestServer::open().await;
    let messages = json!([{"role": "user", "content": "Hello"}]);
    for (path, mut request) in [
        (CHAT, json!({"messages": messages})),
        (COMPLETIONS, json!({"prompt": "Once upon a time"})),
    ] {
        request["max_tokens"] = 1.into();
        request["prompt_logprobs"] = 2.into();
        request["return_token_ids"] = true.into();
        let whole = good(served.http, path, &request).await;
        let choice = &whole["choices"][0];
        let of = |name: &str| whole.get(name).unwrap_or(&choice[name]).clone();
        let (scores, ids) = (of("prompt_logprobs"), of("prompt_token_ids"));
        let (scores, ids) = (scores.as_array().unwrap(), ids.as_array().unwrap());
        assert_eq!(scores.len(), ids.len(), "{path}");
        assert_eq!(scores[0], Value::Null);
        for (score, id) in scores.iter().zip(ids).skip(1) {
            let own = &score[id.to_string()];
            assert!(own["logprob"].as_f64().unwrap() <= 0.0, "{path}: {score}");
            let alternatives = score.as_object().unwrap().values();
            assert!(
                alternatives.into_iter().any(|it| it["rank"] == 1),
                "{score}"
            );
        }
    }
}

/// Special tokens are left out of the text, and some tokens hold a part of a character.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_places_in_the_returned_text() {
    let served = TestServer::open().await;
    let tokens = json!({"messages": [{"role": "user", "content": "Zoë’s ☕ costs 3 €, 好 👍🏽"}]});
    let tokens = good(served.http, "/tokenize", &tokens).await;
    let ids = tokens["tokens"].as_array().unwrap();
    for (skip, echo) in [(true, true), (false, true), (true, false)] {
        let request = json!({
            "prompt": ids, "max_tokens": 12, "logprobs": 0, "echo": echo, "seed": 3, "temperature": 1,
            "skip_special_tokens": skip, "ignore_eos": true,
        });
        let answer = good(served.http, COMPLETIONS, &request).await;
        let choice = &answer["choices"][0];
        let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
        let scores = &choice["logprobs"];
        let offsets: Vec<usize> = serde_json::from_value(scores["text_offset"].clone()).unwrap();
        let names: Vec<String> = serde_json::from_value(scores["tokens"].clone()).unwrap();
        assert!(names.len() >= 12);
        let end = text.len();
        let ends = offsets.iter().skip(1).chain([&end]);
        let mut partial = 0;
        for ((begin, end), name) in offsets.iter().zip(ends).zip(&names) {
            assert!(
                begin <= end && *end <= text.len(),
                "{offsets:?} in {text:?}"
            );
            let shown: String = text[*begin..*end].iter().collect();
            if name.contains(char::REPLACEMENT_CHARACTER) {
                partial += 1;
            } else if !shown.is_empty() || !skip {
                assert_eq!(shown, *name, "{names:?} {offsets:?}");
            }
        }
        assert!(!echo || partial > 1, "{names:?}");
        let chunks = stream(served.http, COMPLETIONS, &request).await;
        let streamed: Vec<usize> = chunks
            .iter()
            .filter_map(|it| it["choices"][0]["logprobs"]["text_offset"].as_array())
            .flatten()
            .map(|offset| serde_json::from_value(offset.clone()).unwrap())
            .collect();
        assert_eq!(streamed, offsets);
    }
}
