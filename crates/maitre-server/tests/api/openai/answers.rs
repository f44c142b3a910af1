//! Answers, whole and streamed.

use serde_json::{Value, json};

use super::client::{good, stream};
use crate::test_server::TestServer;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn chat() -> Value {
    json!({
        "model": maitre_bundled::TARGET.name,
        "messages": [{"role": "user", "content": "I would like to order a large latte."}],
        "temperature": 0,
        "max_tokens": 12,
    })
}

fn completion() -> Value {
    json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 12})
}

/// The texts of a stream's choices, by index.
fn texts(chunks: &[Value], of: fn(&Value) -> &Value, choices: usize) -> Vec<String> {
    let mut texts = vec![String::new(); choices];
    for choice in chunks
        .iter()
        .flat_map(|it| it["choices"].as_array().unwrap())
    {
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        texts[index] += of(choice).as_str().unwrap_or_default();
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_answered_and_the_stream_says_the_same() {
    let served = TestServer::open().await;
    let whole = good(served.http, CHAT, &chat()).await;
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], maitre_bundled::TARGET.name);
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    let usage = &whole["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert!(count("completion_tokens") > 0 && count("prompt_tokens") > 5);
    assert_eq!(
        count("total_tokens"),
        count("prompt_tokens") + count("completion_tokens")
    );
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 0);

    let chunks = stream(served.http, CHAT, &chat()).await;
    let first = &chunks[0]["choices"][0];
    assert_eq!(first["delta"], json!({"role": "assistant", "content": ""}));
    assert!(
        chunks
            .iter()
            .all(|it| it["object"] == "chat.completion.chunk")
    );
    assert!(chunks.iter().all(|it| it["id"] == chunks[0]["id"]));
    assert!(chunks.iter().all(|it| it.get("usage").is_none()));
    assert_eq!(texts(&chunks, |it| &it["delta"]["content"], 1), [text]);
    let last = &chunks.last().unwrap()["choices"][0];
    assert_eq!(last["finish_reason"], choice["finish_reason"]);
    assert_eq!(last["delta"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_continued_whichever_way_it_is_given() {
    let served = TestServer::open().await;
    let whole = good(served.http, COMPLETIONS, &completion()).await;
    assert_eq!(whole["object"], "text_completion");
    let choice = &whole["choices"][0];
    let text = choice["text"].as_str().unwrap();
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 12);
    let chunks = stream(served.http, COMPLETIONS, &completion()).await;
    assert_eq!(texts(&chunks, |it| &it["text"], 1), [text]);

    let tokens = good(
        served.http,
        "/tokenize",
        &json!({"prompt": "Once upon a time"}),
    )
    .await;
    let mut by_ids = completion();
    for prompt in [tokens["tokens"].clone(), json!([tokens["tokens"]])] {
        by_ids["prompt"] = prompt;
        let answer = good(served.http, COMPLETIONS, &by_ids).await;
        assert_eq!(answer["choices"][0]["text"], text);
    }
    let mut short = completion();
    short.as_object_mut().unwrap().remove("max_tokens");
    let answer = good(served.http, COMPLETIONS, &short).await;
    assert_eq!(answer["usage"]["completion_tokens"], 16, "the default");
}

/// More prompts than run at once: their answers come in the order of the prompts.
#[tokio::test(flavor = "multi_thread")]
async fn many_prompts_are_answered_in_their_order() {
    let served = TestServer::open().await;
    let prompts: Vec<String> = (0..40)
        .map(|number| format!("Number {number} is"))
        .collect();
    let request =
        json!({"prompt": prompts, "temperature": 0, "max_tokens": 3, "echo": true, "n": 2});
    let whole = good(served.http, COMPLETIONS, &request).await;
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 80);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        let text = choice["text"].as_str().unwrap();
        assert!(text.starts_with(&prompts[index / 2]), "{index}: {text}");
    }
    assert_eq!(whole["usage"]["completion_tokens"], 240);
    let chunks = stream(served.http, COMPLETIONS, &request).await;
    let expected: Vec<&str> = choices
        .iter()
        .map(|it| it["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts(&chunks, |it| &it["text"], 80), expected);
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_answers_differ_in_their_seed_alone() {
    let served = TestServer::open().await;
    let mut request = chat();
    request["n"] = 3.into();
    request["temperature"] = 1.into();
    request["seed"] = 7.into();
    let whole = good(served.http, CHAT, &request).await;
    let choices = whole["choices"].as_array().unwrap();
    let of_whole: Vec<&str> = choices
        .iter()
        .map(|it| it["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(of_whole.len(), 3);
    let chunks = stream(served.http, CHAT, &request).await;
    assert_eq!(texts(&chunks, |it| &it["delta"]["content"], 3), of_whole);
    let roles = chunks
        .iter()
        .filter(|it| it["choices"][0]["delta"]["role"] == "assistant");
    assert_eq!(roles.count(), 3, "each answer says who speaks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_counts_of_tokens_if_asked() {
    let served = TestServer::open().await;
    for (path, request) in [(CHAT, chat()), (COMPLETIONS, completion())] {
        let whole = good(served.http, path, &request).await;
        let mut request = request;
        request["stream_options"] = json!({"include_usage": true});
        let chunks = stream(served.http, path, &request).await;
        let (last, others) = chunks.split_last().unwrap();
        assert_eq!(last["choices"], json!([]), "{path}");
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][count], whole["usage"][count], "{path}");
        }
        assert!(last["usage"]["prompt_tokens_details"]["cached_tokens"].is_u64());
        assert!(
            others
                .iter()
                .all(|it| it.get("usage") == Some(&Value::Null))
        );

        request["stream_options"]["continuous_usage_stats"] = true.into();
        let chunks = stream(served.http, path, &request).await;
        let generated: Vec<u64> = chunks
            .iter()
            .map(|it| it["usage"]["completion_tokens"].as_u64().unwrap())
            .collect();
        assert!(generated.is_sorted(), "{path}: {generated:?}");
        let prompt = &whole["usage"]["prompt_tokens"];
        assert!(
            chunks
                .iter()
                .all(|it| it["usage"]["prompt_tokens"] == *prompt)
        );
        let texts = texts(
            &chunks,
            |it| {
                if it.get("text").is_some() {
                    &it["text"]
                } else {
                    &it["delta"]["content"]
                }
            },
            1,
        );
        let text = &whole["choices"][0];
        let text = text.get("text").unwrap_or(&text["message"]["content"]);
        assert_eq!(texts, [text.as_str().unwrap()], "the prompt is not shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_was_cached_is_counted() {
    let served = TestServer::open().await;
    let prompt = "A long story begins here. ".repeat(20);
    let request = json!({"prompt": prompt, "max_tokens": 1});
    let cached = |answer: &Value| {
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached(&good(served.http, COMPLETIONS, &request).await), 0);
    assert!(cached(&good(served.http, COMPLETIONS, &request).await) > 0);
    let mut salted = request.clone();
    salted["cache_salt"] = "pepper".into();
    assert_eq!(cached(&good(served.http, COMPLETIONS, &salted).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_an_answer_is_told() {
    let served = TestServer::open().await;
    let whole = good(served.http, COMPLETIONS, &completion()).await;
    let text = whole["choices"][0]["text"].as_str().unwrap();
    let word = text.split_whitespace().nth(2).unwrap();
    let mut request = completion();
    request["stop"] = word.into();
    let stopped = good(served.http, COMPLETIONS, &request).await;
    let choice = &stopped["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["stop_reason"]),
        (&"stop".into(), &word.into())
    );
    assert!(!choice["text"].as_str().unwrap().contains(word));
    request["include_stop_str_in_output"] = true.into();
    let stopped = good(served.http, COMPLETIONS, &request).await;
    assert!(
        stopped["choices"][0]["text"]
            .as_str()
            .unwrap()
            .ends_with(word)
    );

    let mut request = completion();
    request["return_token_ids"] = true.into();
    let with_ids = good(served.http, COMPLETIONS, &request).await;
    let third = &with_ids["choices"][0]["token_ids"][2];
    request["stop_token_ids"] = json!([third]);
    let stopped = good(served.http, COMPLETIONS, &request).await;
    assert_eq!(stopped["choices"][0]["stop_reason"], *third);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_ids_come_back_if_asked() {
    let served = TestServer::open().await;
    for (path, request) in [(CHAT, chat()), (COMPLETIONS, completion())] {
        let mut request = request;
        request["return_token_ids"] = true.into();
        let whole = good(served.http, path, &request).await;
        let rendered = good(served.http, &format!("{path}/render"), &request).await;
        let rendered = rendered
            .get("token_ids")
            .unwrap_or(&rendered[0]["token_ids"])
            .clone();
        let choice = &whole["choices"][0];
        let prompt = whole
            .get("prompt_token_ids")
            .unwrap_or(&choice["prompt_token_ids"]);
        assert_eq!(*prompt, rendered, "{path}");
        let count = choice["token_ids"].as_array().unwrap().len();
        assert_eq!(whole["usage"]["completion_tokens"], count, "{path}");
        let chunks = stream(served.http, path, &request).await;
        let streamed: Vec<&Value> = chunks
            .iter()
            .flat_map(|it| it["choices"][0]["token_ids"].as_array())
            .flatten()
            .collect();
        let expected: Vec<&Value> = choice["token_ids"].as_array().unwrap().iter().collect();
        assert_eq!(streamed, expected, "{path}");
        let prompts: Vec<&Value> = chunks
            .iter()
            .filter_map(|it| {
                it.get("prompt_token_ids")
                    .or(it["choices"][0].get("prompt_token_ids"))
            })
            .collect();
        assert_eq!(prompts, [&rendered], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_cut_to_its_last_tokens_if_asked() {
    let served = TestServer::open().await;
    for (path, request) in [(CHAT, chat()), (COMPLETIONS, completion())] {
        let render = format!("{path}/render");
        let ids = |rendered: Value| {
            let ids = rendered
                .get("token_ids")
                .unwrap_or(&rendered[0]["token_ids"])
                .clone();
            ids.as_array().unwrap().clone()
        };
        let all = ids(good(served.http, &render, &request).await);
        let mut request = request;
        request["truncate_prompt_tokens"] = 3.into();
        let cut = ids(good(served.http, &render, &request).await);
        assert_eq!(cut, all[all.len() - 3..], "{path}");
        let answer = good(served.http, path, &request).await;
        assert_eq!(answer["usage"]["prompt_tokens"], 3, "{path}");
    }
}
