//! What the Hub refuses, and how that is told: the Hub's reason, the token that was sent, and what to do.

use indicatif::ProgressBar;
use maitre::hub::{HubError, Token};

use crate::server::Outage;
use crate::{Fixture, NAME, WEIGHTS, hub_with};

#[tokio::test]
async fn what_the_hub_refuses_is_told_in_its_own_words() {
    let fixture = Fixture::new().await;
    let (hub, bar) = (fixture.hub(false), ProgressBar::hidden());
    let server = fixture.server.address();
    let cases = [
        (
            "no/such",
            None,
            format!("no repository `no/such` at {server}"),
        ),
        (
            NAME,
            Some("v9"),
            "repository `tiny/model` has no revision `v9`".to_string(),
        ),
        (
            "tiny/gated",
            None,
            format!("accept its terms on {server}/tiny/gated and set HF_TOKEN"),
        ),
        ("tiny/private", None, "or it is private".to_string()),
        (
            "tiny/broken",
            None,
            format!("the Hub at {server} answered 503 Service Unavailable: try again later"),
        ),
        ("just-a-name", None, "expected ORG/NAME".to_string()),
    ];
    for (name, revision, expected) in cases {
        let message = hub
            .resolve(name, revision, &bar)
            .await
            .unwrap_err()
            .to_string();
        assert!(message.contains(&expected), "{name}: {message}");
    }
}

#[tokio::test]
async fn a_repository_without_weights_is_no_model() {
    let fixture = Fixture::new().await;
    fixture.server.remove(WEIGHTS);
    let error = fixture.resolve().await.unwrap_err();
    assert!(
        matches!(
            error,
            HubError::NotAModel {
                missing: "*.safetensors",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        fixture.server.downloads(),
        Vec::<String>::new(),
        "refused before any download"
    );
}

#[tokio::test]
async fn an_answer_that_the_hub_is_failing_is_no_matter_of_the_network() {
    let fixture = Fixture::new().await;
    let server = fixture.server.address();
    let cases = [
        (429, format!("the Hub at {server} is rate limiting (429)")),
        (
            500,
            format!("the Hub at {server} answered 500 Internal Server Error (refused)"),
        ),
        (
            503,
            format!("the Hub at {server} answered 503 Service Unavailable (refused)"),
        ),
    ];
    for (status, expected) in cases {
        fixture.server.set_outage(Outage::Refuses(status, ""));
        let error = fixture.resolve().await.unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(error.matches(server).count(), 1, "{error}");
        assert!(!error.contains("network"), "{error}");
        // Of a file it is said with what has come of it.
        fixture.server.set_outage(Outage::RefusesFiles(status, ""));
        let error = fixture.resolve().await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("the Hub answered {status}")),
            "{error}"
        );
        assert!(!error.contains("url="), "{error}");
    }
    fixture.server.set_outage(Outage::Refuses(429, ""));
    let error = fixture.resolve().await.unwrap_err().to_string();
    assert!(error.contains("set HF_TOKEN"), "{error}");
    let token = Token::new("hf_x", "the file /t");
    let hub = hub_with(server, fixture.cache.path(), false, token);
    let error = hub.resolve(NAME, None, &ProgressBar::hidden()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the token of the file /t"), "{error}");
}

#[tokio::test]
async fn files_that_are_listed_and_refused_are_told_as_a_refusal() {
    let fixture = Fixture::new().await;
    fixture
        .server
        .set_outage(Outage::RefusesFiles(403, "GatedRepo"));
    let error = fixture.resolve().await.unwrap_err().to_string();
    assert!(error.contains("accept its terms on"), "{error}");
}

#[tokio::test]
async fn a_token_is_sent_as_it_is_meant_and_its_refusal_is_told_apart() {
    let fixture = Fixture::new().await;
    let asked = |token: Option<Token>, name: &'static str| {
        let hub = hub_with(fixture.server.address(), fixture.cache.path(), false, token);
        async move { hub.resolve(name, None, &ProgressBar::hidden()).await }
    };
    let token = || Token::new(" hf_x\n", "the file /t");
    asked(token(), NAME).await.unwrap();
    let sent = fixture.server.authorizations();
    assert!(
        sent.iter()
            .all(|sent| sent.as_deref() == Some("Bearer hf_x")),
        "{sent:?}"
    );

    let count = sent.len();
    let none = asked(None, "tiny/private").await.unwrap_err().to_string();
    assert_eq!(
        fixture.server.authorizations()[count..],
        [None],
        "no token, none is sent"
    );
    assert!(
        none.contains("set HF_TOKEN") && !none.contains("refuses"),
        "{none}"
    );

    let refused = asked(token(), "tiny/private")
        .await
        .unwrap_err()
        .to_string();
    let expected = "refuses the token of the file /t (refused)";
    assert!(
        refused.contains(expected) && refused.contains("expired"),
        "{refused}"
    );
    let unseen = asked(token(), "no/such").await.unwrap_err().to_string();
    assert!(
        unseen.contains("the token of the file /t may not see it"),
        "{unseen}"
    );
    let gated = asked(token(), "tiny/gated").await.unwrap_err().to_string();
    assert!(
        gated.contains("make sure that the token of the file /t"),
        "{gated}"
    );
}
