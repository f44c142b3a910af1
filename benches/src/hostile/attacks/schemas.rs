//! Forms for answers that are small to send and large to compile, or large to follow.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::super::door::RETRY;
use super::{Arena, Attack, Attacking};

pub(super) const ATTACKS: [Attack; 7] = [
    Attack::new(
        "schema-of-a-megabyte",
        "4 senders: a JSON schema of 1 MB, 15,000 properties",
        |arena| send(arena, schema(properties(15_000))),
    )
    .beside(|arena| send(arena, None)),
    Attack::new(
        "schema-of-enums",
        "4 senders: a JSON schema of 10,000 values",
        |arena| send(arena, schema(values(10_000))),
    )
    .beside(|arena| send(arena, None)),
    Attack::new(
        "schema-of-references",
        "4 senders: a JSON schema of 200 definitions that all hold each other",
        |arena| send(arena, schema(references(200))),
    )
    .beside(|arena| send(arena, None)),
    Attack::new(
        "schema-nested",
        "4 senders: a JSON schema of 5,000 objects, one in the other",
        |arena| send(arena, nested(5_000)),
    )
    .beside(|arena| send(arena, None)),
    Attack::new(
        "regex-repeated",
        "4 senders: a regular expression of repetitions of repetitions",
        |arena| send(arena, regex("(((a|b|ab){1,500}c){1,500}d){1,500}")),
    )
    .beside(|arena| send(arena, None)),
    Attack::new(
        "regex-ambiguous",
        "4 senders: a regular expression with exponentially many states",
        |arena| send(arena, regex("([a-z ]+)*[aeiou][a-z ]{60}[A-Z][a-z ]*")),
    )
    .beside(|arena| send(arena, None)),
    Attack::new(
        "grammar-ambiguous",
        "4 senders: a grammar in which each text has exponentially many trees",
        |arena| send(arena, grammar("start: s\ns: s s | s s s | /[a-z ]/\n")),
    )
    .beside(|arena| send(arena, None)),
];

const SENDERS: usize = 4;

fn schema(schema: Value) -> Option<String> {
    let form = json!({"type": "json_schema", "json_schema": {"name": "form", "schema": schema}});
    Some(format!(r#","response_format":{form}"#))
}

fn regex(pattern: &str) -> Option<String> {
    Some(format!(
        r#","structured_outputs":{}"#,
        json!({"regex": pattern})
    ))
}

fn grammar(grammar: &str) -> Option<String> {
    Some(format!(
        r#","structured_outputs":{}"#,
        json!({"grammar": grammar})
    ))
}

fn properties(count: usize) -> Value {
    let property = |at| {
        (
            format!("property_{at:08}"),
            json!({"type": ["string", "null"]}),
        )
    };
    let properties: Map<String, Value> = (0..count).map(property).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn values(count: usize) -> Value {
    let values: Vec<String> = (0..count)
        .map(|at| format!("value {:x}", at * 7919))
        .collect();
    json!({"enum": values})
}

/// Each definition may hold any other.
fn references(count: usize) -> Value {
    let name = |at: usize| format!("d{at}");
    let all: Vec<Value> = (0..count)
        .map(|at| json!({"$ref": format!("#/$defs/{}", name(at))}))
        .collect();
    let definition = json!({"type": "array", "items": {"anyOf": all}, "minItems": 1});
    let definitions: Map<String, Value> = (0..count)
        .map(|at| (name(at), definition.clone()))
        .collect();
    json!({"$defs": definitions, "$ref": "#/$defs/d0"})
}

/// As text: a value so deep is not one that serde_json takes.
fn nested(depth: usize) -> Option<String> {
    let open = r#"{"type":"object","required":["a"],"properties":{"a":"#.repeat(depth);
    let close = "}}".repeat(depth);
    let form = format!(
        r#"{{"type":"json_schema","json_schema":{{"name":"form","schema":{open}{{"type":"null"}}{close}}}}}"#
    );
    Some(format!(r#","response_format":{form}"#))
}

/// Senders that ask for an answer of this form, again and again; without one, for as many tokens of text.
fn send(arena: Arena, form: Option<String>) -> Attacking {
    Box::pin(async move {
        let form = form.unwrap_or_default();
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"Fill in the form."}}],"max_tokens":64{form}}}"#
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        join_all((0..SENDERS).map(|_| async {
            loop {
                match ask(arena.target.http, &request).await {
                    Ok(status) => {
                        arena.tally.count(status.as_str());
                        if status != "200" {
                            sleep(RETRY).await;
                        }
                    }
                    Err(_lost) => {
                        arena.tally.count("connection lost");
                        sleep(RETRY).await;
                    }
                }
            }
        }))
        .await;
        Ok(())
    })
}

/// The status of the answer, once all of it is read.
async fn ask(server: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let head = answer.get(9..12).context("no status")?;
    Ok(String::from_utf8_lossy(head).into_owned())
}
