//! A gRPC client: a streamed conversation, and what a refusal looks like.
//!
//! Talks to a running server (`cargo run --release --example grpc_client -- http://127.0.0.1:50051`),
//! or starts one in this process. The page is `docs/src/guide/grpc.md`.

use std::io::Write;

use anyhow::{Context, Result};
use maitre::Engine;
use maitre::server::{Listeners, Server};
use maitre_proto::v1::generation_service_client::GenerationServiceClient;
use maitre_proto::v1::stream_chat_response::Event;
use maitre_proto::v1::{
    ChatMessage, ListModelsRequest, SamplingParams, StoppingParams, StreamChatRequest,
};
use tonic::transport::Channel;
use tonic_types::StatusExt;

#[tokio::main]
async fn main() -> Result<()> {
    let url = match std::env::args().nth(1) {
        Some(url) => url,
        None => start_server().await?,
    };
    println!("server:  {url}");
    let mut client = GenerationServiceClient::connect(url)
        .await
        .context("is the server up?")?;

    let models = client
        .list_models(ListModelsRequest {})
        .await?
        .into_inner()
        .models;
    for model in &models {
        println!(
            "model:   {} ({}, {} tokens)",
            model.name, model.architecture, model.max_model_len
        );
    }
    chat(&mut client).await?;
    refused(&mut client).await;
    Ok(())
}

/// A server of the bundled model on a free port of this machine.
async fn start_server() -> Result<String> {
    let engine = Engine::builder(maitre::bundled()).build()?;
    let listeners = Listeners::bind(([127, 0, 0, 1], 0).into(), None).await?;
    let url = format!("http://{}", listeners.grpc_address());
    tokio::spawn(Server::builder(engine).serve(listeners, std::future::pending()));
    Ok(url)
}

fn request(temperature: f32) -> StreamChatRequest {
    StreamChatRequest {
        messages: vec![ChatMessage {
            role: "user".into(),
            content: "I would like a large latte, please.".into(),
            ..ChatMessage::default()
        }],
        sampling: Some(SamplingParams {
            temperature: Some(temperature),
            ..SamplingParams::default()
        }),
        stopping: Some(StoppingParams {
            max_tokens: Some(40),
            ..StoppingParams::default()
        }),
        ..StreamChatRequest::default()
    }
}

async fn chat(client: &mut GenerationServiceClient<Channel>) -> Result<()> {
    let mut stream = client.stream_chat(request(0.0)).await?.into_inner();
    print!("answer:  ");
    while let Some(message) = stream.message().await? {
        match message.event {
            Some(Event::Delta(delta)) => {
                print!("{}", delta.text);
                std::io::stdout().flush()?;
            }
            Some(Event::Finished(finished)) => {
                let usage = finished.usage.unwrap_or_default();
                println!(
                    "\nusage:   {} prompt tokens, {} generated",
                    usage.prompt_tokens, usage.completion_tokens
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Status codes carry machine-readable details: which field, and what was expected.
async fn refused(client: &mut GenerationServiceClient<Channel>) {
    let Err(status) = client.stream_chat(request(-1.0)).await else {
        return;
    };
    println!("refused: {:?} {}", status.code(), status.message());
    for violation in status
        .get_details_bad_request()
        .into_iter()
        .flat_map(|b| b.field_violations)
    {
        println!("         {}: {}", violation.field, violation.description);
    }
}
