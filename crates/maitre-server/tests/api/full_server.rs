//! Full load over gRPC: 200 clients stream at once, and each gets the text that a client alone gets.

use maitre_engine::{Engine, ModelSource};
use maitre_proto::v1::stream_generate_response::Event;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::test_server::{TestServer, short_request, stream_of};

const USERS: usize = 200;
const PROMPTS: [&str; 5] = [
    "Once upon a time",
    "I would like to order",
    "The weather in Paris",
    "Find me a restaurant",
    "Play some music",
];

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_streams_at_once_bring_the_right_text() {
    let bundled = &maitre_bundled::TARGET;
    let engine = Engine::builder(ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    })
    .build()
    .unwrap();
    let served = TestServer::with(engine, |server| server).await;
    let mut alone = Vec::new();
    for prompt in PROMPTS {
        let answer = served.generation().generate(short_request(prompt)).await;
        alone.push(answer.unwrap().into_inner().answers.remove(0).text);
    }
    let mut users = JoinSet::new();
    for user in 0..USERS {
        let mut client = served.generation();
        users.spawn(async move {
            let request = stream_of(short_request(PROMPTS[user % PROMPTS.len()]));
            let mut stream = client.stream_generate(request).await.unwrap().into_inner();
            let (mut text, mut finished) = (String::new(), 0);
            while let Some(message) = stream.next().await {
                match message.unwrap().event.unwrap() {
                    Event::Delta(delta) => text.push_str(&delta.text),
                    Event::Finished(_) => finished += 1,
                    Event::PromptLogprobs(_) => {}
                }
            }
            (user, text, finished)
        });
    }
    let mut served = 0;
    while let Some(told) = users.join_next().await {
        let (user, text, finished) = told.unwrap();
        assert_eq!(text, alone[user % PROMPTS.len()], "request {user}");
        assert_eq!(finished, 1, "request {user}");
        served += 1;
    }
    assert_eq!(served, USERS);
}
