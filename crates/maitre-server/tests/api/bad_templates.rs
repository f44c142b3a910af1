//! Chat templates that fail or do not end: the request fails, nothing else does.

use maitre_engine::ModelSource;
use maitre_proto::v1;
use tonic::Code;

use crate::test_server::{TestServer, engine_of, refused, short_request};

/// The bundled model with another chat template. The files of a model in memory live as long as
/// the program, so this test's do too.
fn with_template(template: &'static str) -> ModelSource {
    let bundled = &maitre_bundled::TARGET;
    let mut files: Vec<(&'static str, &'static [u8])> = bundled
        .files
        .iter()
        .filter(|(name, _)| *name != "chat_template.jinja")
        .copied()
        .collect();
    files.push(("chat_template.jinja", template.as_bytes()));
    ModelSource::Memory {
        name: bundled.name,
        files: files.leak(),
    }
}

async fn chat_is_refused(template: &'static str) {
    let served = TestServer::with(engine_of(with_template(template)), |server| server).await;
    let request = v1::ChatRequest {
        messages: vec![v1::ChatMessage {
            role: "user".into(),
            content: "Hello".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let result = served.generation().chat(request).await;
    refused(
        result,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        &["messages"],
    );
    assert!(
        served
            .generation()
            .generate(short_request("Hello"))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_raises_refuses_the_request() {
    chat_is_refused("{{ raise_exception('only the system may speak') }}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_does_not_end_is_stopped() {
    chat_is_refused(
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
         {% endfor %}{% endfor %}{% endfor %}",
    )
    .await;
}
