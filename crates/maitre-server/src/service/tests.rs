//! A front of a few lines: a protocol whose messages are lines of text, spoken by plain function calls. It shows that a
//! front decodes, calls the service and encodes, and that limits, deadlines, tenants and errors need no other front.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use maitre_engine::{Engine, Event, GenerateRequest, Input, ModelSource};
use tokio::time::Instant;

use super::admission::{CallRecord, Method};
use super::api_error::{ApiError, Kind};
use super::call::{Call, Client};
use super::call_pools::Class;
use super::deadline::Deadline;
use super::outcome::Outcome;
use super::registry::ConnectionState;
use super::request::ApiRequest;
use super::text::{Detokenize, Tokenize};
use super::violations::Violations;
use super::*;

/// `max=8 as=acme Once upon a time`: words with `=` first, then the prompt.
fn decoded(line: &str) -> ApiRequest {
    let mut violations = Violations::default();
    let mut model = String::new();
    let mut request = GenerateRequest::new(Input::Text(String::new()));
    request.sampling.temperature = Some(0.0);
    let mut rest = line;
    while let Some((word, after)) = rest.split_once(' ')
        && let Some((name, value)) = word.split_once('=')
    {
        rest = after;
        match name {
            "model" => model = value.to_owned(),
            "as" => request.service.tenant = value.to_owned(),
            "id" => request.request_id = Some(value.to_owned()),
            "n" => request.n = value.parse().unwrap_or(1),
            "forever" => request.stopping.ignore_eos = true,
            "max" => match value.parse() {
                Ok(max) => request.stopping.max_tokens = Some(max),
                Err(_) => violations.add("max", format!("is {value:?}; expected a number")),
            },
            _ => violations.add(name, "is no word of this protocol"),
        }
    }
    request.input = Input::Text(rest.to_owned());
    ApiRequest {
        model,
        request,
        token_ids: false,
        violations,
    }
}

/// What the protocol calls the fields of a request.
fn field_name(engine: &str) -> String {
    match engine {
        "stopping.max_tokens" => "max".to_owned(),
        other => other.to_owned(),
    }
}

/// How the protocol says that something went wrong.
fn encoded(error: &ApiError) -> String {
    let fields: Vec<&str> = error
        .violations
        .iter()
        .map(|it| it.field.as_str())
        .collect();
    let retry = error.retry_after.map_or("", |_| " later");
    let code = error.kind.codes().http;
    format!("{code} {} [{}]{retry}", error.reason, fields.join(" "))
}

/// A client on a connection of its own.
struct LineClient {
    service: Service,
    client: Client,
    tenant: Option<String>,
    deadline: Option<Duration>,
}

impl LineClient {
    fn new(service: &Service) -> Self {
        let connection = Arc::new(ConnectionState::new(false, Arc::default()));
        Self {
            service: service.clone(),
            client: Client::new(connection),
            tenant: None,
            deadline: None,
        }
    }

    /// What a front does before it has a message.
    fn begin(&self) -> Result<(CallRecord, Call), ApiError> {
        let method = Method {
            family: &crate::metrics::GRPC,
            name: Arc::from("line/ask"),
            class: Class::Work,
            needs_engine: true,
        };
        let record = self.service.admit(&self.client, method)?;
        let mut call = Call::new(self.client.turns.clone(), field_name);
        call.tenant.clone_from(&self.tenant);
        call.deadline = self.deadline.map(|left| Deadline(Instant::now() + left));
        Ok((record, call))
    }

    /// Asks for whole answers.
    async fn ask(&self, line: &str) -> String {
        let answered = async {
            let (mut record, mut call) = self.begin()?;
            record.received();
            let line = line.to_owned();
            let decode = move |_engine: &Engine| Ok(decoded(&line));
            let request = self.service.work(&mut call, 1, decode).await?;
            let answers = self.service.generate(call, request).await?.whole().await?;
            record.ends_as(Outcome::of_number(0));
            let texts: Vec<String> = answers.into_iter().map(|answer| answer.text).collect();
            Ok(texts.join("|"))
        };
        answered
            .await
            .unwrap_or_else(|error: ApiError| encoded(&error))
    }

    /// Asks for an answer piece by piece, and gives it back once it has begun.
    async fn listen(&self, line: &str) -> Result<(CallRecord, answer::AnswerStream), String> {
        let begun = async {
            let (record, call) = self.begin()?;
            record.received();
            let answer = self.service.generate(call, decoded(line)).await?;
            Ok((record, answer.begun().await?))
        };
        begun.await.map_err(|error: ApiError| encoded(&error))
    }
}

fn engine() -> Engine {
    let bundled = &maitre_bundled::TARGET;
    let source = ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    };
    let engine = Engine::builder(source).threads(Some(1)).max_seqs(4);
    engine.build().unwrap()
}

fn service() -> (Service, Engine) {
    let engine = engine();
    let service = Service::new(Startup::of(engine.clone()), Limits::for_tests());
    (service, engine)
}

#[tokio::test]
async fn lines_are_answered_whole_and_piece_by_piece() {
    let (service, _engine) = service();
    let client = LineClient::new(&service);
    let whole = client.ask("max=8 Once upon a time").await;
    assert!(!whole.is_empty());
    assert_eq!(
        client.ask("max=8 n=2 Once upon a time").await,
        format!("{whole}|{whole}")
    );
    let (_record, mut answer) = client.listen("max=8 Once upon a time").await.unwrap();
    let mut pieces = String::new();
    while let Some(event) = answer.next().await {
        if let Event::Delta(delta) = event.unwrap() {
            assert!(delta.token_ids.is_empty(), "they were not asked for");
            pieces.push_str(delta.text());
        }
    }
    assert_eq!(pieces, whole);
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once_in_the_names_of_the_protocol() {
    let (service, _engine) = service();
    let client = LineClient::new(&service);
    for (line, expected) in [
        ("model=other hi", "404 MODEL_NOT_FOUND [model]"),
        ("max=0 hi", "400 INVALID_REQUEST [max]"),
        ("max=x n=0 hi", "400 INVALID_REQUEST [max n]"),
        ("made=up max=0 n=0 hi", "400 INVALID_REQUEST [made n max]"),
    ] {
        let mut said: Vec<String> = Vec::new();
        for answer in [client.ask(line).await, expected.to_owned()] {
            let mut words: Vec<&str> = answer.split([' ', '[', ']']).collect();
            words.sort_unstable();
            said.push(words.join(" "));
        }
        assert_eq!(said[0], said[1], "{line}");
    }
}

#[tokio::test]
async fn a_server_that_loads_and_one_that_drains_say_so() {
    let startup = Startup::new("reading weights");
    let service = Service::new(startup.clone(), Limits::for_tests());
    let client = LineClient::new(&service);
    assert_eq!(client.ask("hi").await, "503 MODEL_LOADING [] later");
    assert_eq!(service.engine().unwrap_err().kind, Kind::Unavailable);
    let engine = engine();
    startup.ready(engine.clone());
    assert!(!client.ask("max=4 hi").await.starts_with("503"));
    engine.drain(Duration::ZERO).await;
    assert_eq!(client.ask("hi").await, "503 DRAINING []");
    service.idle().await;
}

#[tokio::test]
async fn a_connection_has_its_share_of_the_calls() {
    let (service, _engine) = service();
    let greedy = LineClient::new(&service);
    let mut held = Vec::new();
    let refused = loop {
        match greedy.begin() {
            Ok(begun) => held.push(begun),
            Err(error) => break encoded(&error),
        }
    };
    assert_eq!(refused, "429 TOO_MANY_CALLS_ON_CONNECTION [] later");
    assert_eq!(held.len(), 4);
    let (answered, refusals) = greedy.client.connection.calls_over();
    assert_eq!((answered, refusals), (0, 1));
    let other = LineClient::new(&service);
    assert!(!other.ask("max=4 hi").await.starts_with("429"));
    drop(held);
    service.idle().await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_whatever_it_waits_for() {
    let (service, engine) = service();
    let mut client = LineClient::new(&service);
    client.deadline = Some(Duration::from_millis(50));
    let late = "408 DEADLINE_EXCEEDED []";
    let ask = async |line| {
        let asked = tokio::time::timeout(Duration::from_secs(60), client.ask(line));
        asked.await.expect("still waiting")
    };
    assert_eq!(ask("forever=1 Once upon a time").await, late);
    // It waits for its turn behind requests that are worked on for ever.
    let turns = &client.client.turns;
    let _held = (turns.turn().await, turns.turn().await);
    assert!(turns.turn().now_or_never().is_none());
    assert_eq!(ask("hi").await, late);
    assert_eq!(engine.load().in_flight, 0);
}

#[tokio::test]
async fn a_credential_stands_for_a_tenant() {
    let (service, engine) = service();
    let mut acme = LineClient::new(&service);
    acme.tenant = Some("acme".into());
    let refused = acme.ask("as=other hi").await;
    assert_eq!(refused, "403 OTHER_TENANT [service.tenant]");
    let begun = acme.listen("id=long forever=1 Once upon a time").await;
    let (_record, mut answer) = begun.unwrap();
    assert_eq!(answer.request_id(), "long");
    // The request runs on its caller's account: no other tenant's abort finds it.
    assert!(!engine.abort("", "long"));
    let (_, other) = LineClient::new(&service).begin().unwrap();
    assert_eq!(service.abort(&other, String::new(), "long"), Ok(false));
    let (_, own) = acme.begin().unwrap();
    assert_eq!(service.abort(&own, String::new(), "long"), Ok(true));
    let last = async { while let Some(Ok(_)) = answer.next().await {} };
    last.await;
    let unnamed = service.abort(&own, String::new(), "").unwrap_err();
    assert_eq!(encoded(&unnamed), "400 INVALID_REQUEST [request_id]");
}

#[tokio::test]
async fn a_request_in_flight_has_its_name_alone() {
    let (service, _engine) = service();
    let client = LineClient::new(&service);
    let _held = client.listen("id=one forever=1 Once").await.unwrap();
    let again = client.ask("id=one Once").await;
    assert_eq!(again, "409 DUPLICATE_REQUEST_ID [request_id]");
}

#[tokio::test]
async fn text_becomes_tokens_and_text_again() {
    let (service, _engine) = service();
    let client = LineClient::new(&service);
    let text = "Once upon a time, ".repeat(100);
    let request = Tokenize {
        model: String::new(),
        text: text.clone(),
        special_tokens: false,
        token_texts: true,
    };
    let call = || client.begin().unwrap().1;
    let tokens = service.tokenize(call(), request).await.unwrap();
    assert_eq!(tokens.token_texts.len(), tokens.token_ids.len());
    let request = |token_ids| Detokenize {
        model: String::new(),
        token_ids,
        skip_special_tokens: true,
    };
    let back = service.detokenize(call(), request(tokens.token_ids)).await;
    assert_eq!(back.unwrap(), text);
    let outside = service.detokenize(call(), request(vec![0, u32::MAX])).await;
    let said = encoded(&outside.unwrap_err());
    assert_eq!(said, "400 INVALID_REQUEST [token_ids[1]]");
}
