//! The neighbours: clients of several tenants that stream answers and read them as they come.
//!
//! Every second one keeps its connection and asks for long answers; the others connect anew for each short one.
//! Half of them name their requests, as callers with a request id of their own do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use maitre_proto::v1::generation_service_client::GenerationServiceClient;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::stream_generate_response::Event;
use maitre_proto::v1::{SamplingParams, ServiceOptions, StoppingParams, StreamGenerateRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::door::name_of;
use super::samples::{Recorder, Wait};

const LONG_TOKENS: u32 = 512;
const SHORT_TOKENS: u32 = 24;
const THINKING: Duration = Duration::from_millis(20);
/// Names a client uses in turn: the server may still be putting the last one away.
const NAMES: usize = 4;

/// Clients at work until this value is dropped.
#[derive(Debug)]
pub(crate) struct Neighbours {
    _tasks: JoinSet<()>,
    gate: watch::Sender<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    open: bool,
    busy: usize,
}

impl Neighbours {
    /// `count` clients, which begin with [`Neighbours::resume`].
    pub(crate) fn start(count: usize, server: SocketAddr, recorder: &Recorder) -> Result<Self> {
        let gate = watch::Sender::new(Gate::default());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let client = Client {
                number,
                endpoint: Endpoint::from_shared(format!("http://{server}"))?.tcp_nodelay(true),
                recorder: recorder.clone(),
            };
            tasks.spawn(client.work(gate.clone()));
        }
        Ok(Self {
            _tasks: tasks,
            gate,
        })
    }

    pub(crate) fn resume(&self) {
        self.gate.send_modify(|gate| gate.open = true);
    }

    /// Lets no request begin and waits until all are answered. Returns how many are not, after `limit`.
    pub(crate) async fn pause(&self, limit: Duration) -> usize {
        self.gate.send_modify(|gate| gate.open = false);
        let mut state = self.gate.subscribe();
        // The sender lives in `self`: only the time can run out.
        let _ = timeout(limit, state.wait_for(|gate| gate.busy == 0)).await;
        self.gate.borrow().busy
    }
}

/// The name of a client's request, for those that name them.
pub(crate) fn request_name(client: usize, turn: usize) -> String {
    format!("neighbour-{client}-{}", turn % NAMES)
}

/// All names in use by `clients` neighbours.
pub(crate) fn request_names(clients: usize) -> impl Iterator<Item = String> {
    (0..clients).flat_map(|client| (0..NAMES).map(move |turn| request_name(client, turn)))
}

/// Code and reason, which are the same for all failures of a kind; the message if there is no reason.
fn failure(status: &Status) -> String {
    let info = status.get_details_error_info();
    let reason = info.map_or_else(|| status.message().to_owned(), |info| info.reason);
    format!("{}: {reason}", name_of(status.code()))
}

struct Client {
    number: usize,
    endpoint: Endpoint,
    recorder: Recorder,
}

impl Client {
    fn is_long(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    async fn work(self, gate: watch::Sender<Gate>) {
        let kept = self.is_long().then(|| self.endpoint.connect_lazy());
        let mut state = gate.subscribe();
        for turn in 0.. {
            // The sender lives in this function.
            let _ = state.wait_for(|gate| gate.open).await;
            let entered = gate.send_if_modified(|gate| {
                gate.busy += usize::from(gate.open);
                gate.open
            });
            if !entered {
                continue;
            }
            if let Err(status) = self.ask(kept.clone(), turn).await {
                self.recorder.fail(failure(&status));
                sleep(THINKING * 5).await;
            }
            gate.send_modify(|gate| gate.busy -= 1);
            sleep(THINKING).await;
        }
    }

    /// One request, from its connection to the end of its answer.
    async fn ask(&self, kept: Option<Channel>, turn: usize) -> Result<(), Status> {
        let mut waiting = self.recorder.wait(Wait::FirstToken);
        let channel = match kept {
            Some(channel) => channel,
            None => self
                .endpoint
                .connect()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?,
        };
        let mut client = GenerationServiceClient::new(channel);
        let answer = client.stream_generate(self.request(turn)).await?;
        let mut events = answer.into_inner();
        let mut has_finished = false;
        while let Some(event) = events.message().await? {
            match event.event {
                Some(Event::Delta(delta)) if !delta.token_ids.is_empty() => {
                    waiting.over();
                    self.recorder.tokens(delta.token_ids.len());
                    waiting = self.recorder.wait(Wait::Token);
                }
                Some(Event::Finished(_)) => has_finished = true,
                _ => {}
            }
        }
        if has_finished {
            Ok(())
        } else {
            Err(Status::data_loss("the answer has no end"))
        }
    }

    fn request(&self, turn: usize) -> StreamGenerateRequest {
        let length = if self.is_long() {
            LONG_TOKENS
        } else {
            SHORT_TOKENS
        };
        let request_id = if self.number % 4 < 2 {
            request_name(self.number, turn)
        } else {
            String::new()
        };
        StreamGenerateRequest {
            request_id,
            input: Some(Input::Text(format!(
                "Neighbour {} asks question {turn}: what is the weather like?",
                self.number
            ))),
            sampling: Some(SamplingParams {
                temperature: Some(1.0),
                ..Default::default()
            }),
            stopping: Some(StoppingParams {
                max_tokens: Some(length),
                ignore_eos: true,
                ..Default::default()
            }),
            service: Some(ServiceOptions {
                tenant: format!("neighbour-{}", self.number % 3),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}
