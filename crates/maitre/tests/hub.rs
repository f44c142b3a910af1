//! `maitre::hub` against a loopback server that answers as the Hub does.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod hub_gguf;
mod hub_server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hub_server::{COMMIT, FakeHub, Fault, Outage};
use indicatif::ProgressBar;
use maitre::hub::{Hub, HubError, HubOptions, Token};
use tempfile::TempDir;

const NAME: &str = "tiny/model";
const WEIGHTS: &str = "model.safetensors";

/// A fake Hub with one model, and an empty cache.
struct Fixture {
    server: FakeHub,
    cache: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let server = FakeHub::start(&[
            ("config.json", b"{\"model_type\":\"tiny\"}".to_vec()),
            ("tokenizer.json", b"{}".to_vec()),
            ("README.md", b"read me".to_vec()),
            (WEIGHTS, (0..5000_u32).map(|i| (i % 251) as u8).collect()),
        ])
        .await;
        Self {
            server,
            cache: TempDir::new().unwrap(),
        }
    }

    fn hub(&self, offline: bool) -> Hub {
        hub_at(self.server.address(), self.cache.path(), offline)
    }

    async fn resolve(&self) -> Result<PathBuf, HubError> {
        self.hub(false)
            .resolve(NAME, None, &ProgressBar::hidden())
            .await
    }

    async fn resolve_offline(&self) -> Result<PathBuf, HubError> {
        self.hub(true)
            .resolve(NAME, None, &ProgressBar::hidden())
            .await
    }

    fn assert_whole(&self, directory: &Path) {
        for name in ["config.json", "tokenizer.json", WEIGHTS] {
            assert_eq!(
                std::fs::read(directory.join(name)).unwrap(),
                self.server.file(name),
                "{name}"
            );
        }
    }
}

fn hub_at(endpoint: &str, cache: &Path, offline: bool) -> Hub {
    hub_with(endpoint, cache, offline, None)
}

fn hub_with(endpoint: &str, cache: &Path, offline: bool, token: Option<Token>) -> Hub {
    let options = HubOptions {
        endpoint: Some(endpoint.to_string()),
        cache_dir: Some(cache.to_path_buf()),
        offline,
        retry_delay: Some(Duration::from_millis(1)),
    };
    Hub::with_token(options, token).unwrap()
}

#[tokio::test]
async fn the_first_call_downloads_what_serving_needs_and_the_second_nothing() {
    let fixture = Fixture::new().await;
    let bar = ProgressBar::hidden();
    let directory = fixture.hub(false).resolve(NAME, None, &bar).await.unwrap();
    fixture.assert_whole(&directory);
    assert!(
        !directory.join("README.md").exists(),
        "not part of the model"
    );
    assert!(directory.ends_with(format!("models--tiny--model/snapshots/{COMMIT}")));
    let expected: usize = ["config.json", "tokenizer.json", WEIGHTS]
        .map(|name| fixture.server.file(name).len())
        .iter()
        .sum();
    assert_eq!(
        (bar.position(), bar.length()),
        (expected as u64, Some(expected as u64))
    );

    fixture.server.forget_requests();
    assert_eq!(fixture.resolve().await.unwrap(), directory);
    assert_eq!(fixture.server.downloads(), Vec::<String>::new());
}

#[tokio::test]
async fn templates_for_special_uses_come_along_in_their_folder() {
    let mut fixture = Fixture::new().await;
    let template = "additional_chat_templates/tool_use.jinja";
    fixture.server = FakeHub::start(&[
        ("config.json", b"{\"model_type\":\"tiny\"}".to_vec()),
        (WEIGHTS, vec![1; 10]),
        (template, b"{{ tools }}".to_vec()),
        ("additional_chat_templates/notes.txt", b"no".to_vec()),
        (
            "special_tokens_map.json",
            b"{\"eos_token\": \"</s>\"}".to_vec(),
        ),
    ])
    .await;
    let directory = fixture.resolve().await.unwrap();
    for name in [template, "special_tokens_map.json"] {
        assert_eq!(
            std::fs::read(directory.join(name)).unwrap(),
            fixture.server.file(name),
            "{name}"
        );
    }
    assert!(
        !directory
            .join("additional_chat_templates/notes.txt")
            .exists()
    );
    // Nothing is downloaded twice, and nothing is missed without a network.
    fixture.server.forget_requests();
    assert_eq!(fixture.resolve().await.unwrap(), directory);
    assert_eq!(fixture.server.downloads(), Vec::<String>::new());
    assert_eq!(fixture.resolve_offline().await.unwrap(), directory);
}

#[tokio::test]
async fn a_broken_download_goes_on_at_the_byte_where_it_stopped() {
    let fixture = Fixture::new().await;
    fixture.server.set_fault(Fault::EndsAt(1234));
    let error = fixture.resolve().await.unwrap_err();
    match &error {
        HubError::Interrupted {
            file,
            have: 1234,
            size: 5000,
            ..
        } => assert_eq!(file, WEIGHTS),
        other => panic!("{other}"),
    }
    assert!(
        error.to_string().contains("run the same command again"),
        "{error}"
    );
    assert!(
        fixture.resolve_offline().await.is_err(),
        "half a model is not a model"
    );

    fixture.server.set_fault(Fault::None);
    fixture.server.forget_requests();
    let directory = fixture.resolve().await.unwrap();
    fixture.assert_whole(&directory);
    assert_eq!(
        fixture.server.downloads(),
        ["model.safetensors bytes=1234-4999"]
    );
}

#[tokio::test]
async fn a_connection_that_keeps_breaking_is_taken_up_within_one_call() {
    let fixture = Fixture::new().await;
    fixture.server.set_fault(Fault::SendsAtMost(1000));
    let directory = fixture.resolve().await.unwrap();
    fixture.assert_whole(&directory);
    let weights: Vec<_> = fixture
        .server
        .downloads()
        .into_iter()
        .filter(|line| line.starts_with(WEIGHTS))
        .collect();
    assert_eq!(
        weights,
        [
            "model.safetensors",
            "model.safetensors bytes=1000-4999",
            "model.safetensors bytes=2000-4999",
            "model.safetensors bytes=3000-4999",
            "model.safetensors bytes=4000-4999",
        ]
    );
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_for_the_whole_file() {
    let fixture = Fixture::new().await;
    fixture.server.set_fault(Fault::EndsAt(4000));
    fixture.resolve().await.unwrap_err();
    // Its first 1000 bytes, taken for the missing last 1000, would give a file of the right size.
    fixture
        .server
        .set_fault(Fault::IgnoresRangesAndEndsAt(1000));
    fixture.resolve().await.unwrap_err();
    fixture.server.set_fault(Fault::IgnoresRanges);
    let directory = fixture.resolve().await.unwrap();
    fixture.assert_whole(&directory);
}

#[tokio::test]
async fn a_server_without_ranges_that_always_breaks_is_given_up() {
    let fixture = Fixture::new().await;
    fixture
        .server
        .set_fault(Fault::IgnoresRangesAndEndsAt(2000));
    let error = fixture.resolve().await.unwrap_err();
    assert!(matches!(error, HubError::Interrupted { .. }), "{error}");
}

#[tokio::test]
async fn offline_a_complete_model_is_served_and_nothing_is_asked() {
    let fixture = Fixture::new().await;
    let message = fixture.resolve_offline().await.unwrap_err().to_string();
    for part in [
        "HF_HUB_OFFLINE",
        NAME,
        "main",
        &fixture.cache.path().display().to_string(),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let directory = fixture.resolve().await.unwrap();
    fixture.server.forget_requests();
    assert_eq!(fixture.resolve_offline().await.unwrap(), directory);
    assert_eq!(fixture.server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn without_a_network_the_cache_answers_and_else_the_error_names_the_variable() {
    let fixture = Fixture::new().await;
    let directory = fixture.resolve().await.unwrap();
    // Port 1 is privileged and closed: nothing listens there.
    let nowhere = "http://127.0.0.1:1";
    let bar = ProgressBar::hidden();
    let cut_off = hub_at(nowhere, fixture.cache.path(), false);
    assert_eq!(cut_off.resolve(NAME, None, &bar).await.unwrap(), directory);

    let message = cut_off
        .resolve("tiny/other", None, &bar)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("HF_ENDPOINT") && message.contains(nowhere),
        "{message}"
    );
}

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
async fn a_new_commit_brings_only_the_files_that_changed() {
    let fixture = Fixture::new().await;
    let before = fixture.resolve().await.unwrap();
    fixture
        .server
        .commit("config.json", b"{\"model_type\":\"tiny2\"}".to_vec());
    fixture.server.forget_requests();
    let after = fixture.resolve().await.unwrap();
    assert_ne!(before, after);
    fixture.assert_whole(&after);
    assert_eq!(fixture.server.downloads(), ["config.json"]);
    assert_eq!(fixture.resolve_offline().await.unwrap(), after);
}

#[tokio::test]
async fn two_at_once_download_once() {
    let fixture = Fixture::new().await;
    let (one, two) = tokio::join!(fixture.resolve(), fixture.resolve());
    fixture.assert_whole(&one.unwrap());
    assert!(two.is_ok());
    let mut downloads = fixture.server.downloads();
    downloads.sort();
    assert_eq!(downloads, ["config.json", WEIGHTS, "tokenizer.json"]);
}

/// Every way of a Hub to say nothing about what a revision holds.
const OUTAGES: [Outage; 9] = [
    Outage::Refuses(401, "RepoNotFound"),
    Outage::Refuses(401, ""),
    Outage::Refuses(403, "GatedRepo"),
    Outage::Refuses(404, "RepoNotFound"),
    Outage::Refuses(429, ""),
    Outage::Refuses(500, ""),
    Outage::Refuses(503, ""),
    Outage::Page,
    Outage::Silent,
];

#[tokio::test]
async fn a_complete_cache_is_used_whatever_the_hub_answers() {
    let fixture = Fixture::new().await;
    let impatient = |token: Option<Token>| {
        let hub = hub_with(fixture.server.address(), fixture.cache.path(), false, token);
        let hub = hub.patience(Duration::from_millis(500));
        async move { hub.resolve(NAME, None, &ProgressBar::hidden()).await }
    };
    for outage in OUTAGES {
        fixture.server.set_outage(outage);
        assert!(impatient(None).await.is_err(), "{outage:?} without a cache");
    }
    fixture.server.set_outage(Outage::None);
    let directory = fixture.resolve().await.unwrap();
    for outage in OUTAGES {
        fixture.server.set_outage(outage);
        for token in [None, Token::new("hf_x", "HF_TOKEN")] {
            assert_eq!(impatient(token).await.unwrap(), directory, "{outage:?}");
        }
    }
    // This one is an answer: there is no such revision any more.
    fixture
        .server
        .set_outage(Outage::Refuses(404, "RevisionNotFound"));
    let error = fixture.resolve().await.unwrap_err();
    assert!(
        matches!(error, HubError::RevisionNotFound { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_newer_commit_that_cannot_be_had_leaves_the_older_one() {
    let fixture = Fixture::new().await;
    let before = fixture.resolve().await.unwrap();
    fixture
        .server
        .commit("config.json", b"{\"model_type\":\"tiny2\"}".to_vec());
    for (status, code) in [(401, "GatedRepo"), (403, "GatedRepo"), (404, ""), (500, "")] {
        fixture
            .server
            .set_outage(Outage::RefusesFiles(status, code));
        assert_eq!(fixture.resolve().await.unwrap(), before, "{status}");
    }
    fixture.server.set_outage(Outage::None);
    assert_ne!(fixture.resolve().await.unwrap(), before);
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
async fn a_snapshot_that_lacks_a_needed_file_is_not_used_without_the_hub() {
    for lost in ["config.json", "tokenizer.json", WEIGHTS] {
        let fixture = Fixture::new().await;
        let directory = fixture.resolve().await.unwrap();
        std::fs::remove_file(directory.join(lost)).unwrap();
        let named = if lost == WEIGHTS {
            "*.safetensors"
        } else {
            lost
        };
        let lacks = format!("lacks {named}");
        let offline = fixture.resolve_offline().await.unwrap_err().to_string();
        assert!(offline.contains(&lacks), "{offline}");
        for outage in OUTAGES {
            fixture.server.set_outage(outage);
            let hub = fixture.hub(false).patience(Duration::from_millis(500));
            let error = hub.resolve(NAME, None, &ProgressBar::hidden()).await;
            let error = error.unwrap_err();
            assert!(matches!(error, HubError::Incomplete { .. }), "{error}");
            assert!(error.to_string().contains(&lacks), "{error}");
        }
        fixture.server.set_outage(Outage::None);
        let directory = fixture.resolve().await.unwrap();
        fixture.assert_whole(&directory);
    }
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
async fn a_cache_that_has_everything_is_not_written() {
    let fixture = Fixture::new().await;
    fixture
        .server
        .commit("generation_config.json", b"{}".to_vec());
    let directory = fixture.resolve().await.unwrap();
    let name = directory.join("../../refs/main");
    let file = std::fs::File::options().append(true).open(&name).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    // Neither can the lock of a download be had.
    std::fs::remove_dir_all(fixture.cache.path().join(".locks")).unwrap();
    std::fs::write(fixture.cache.path().join(".locks"), "").unwrap();
    assert_eq!(fixture.resolve().await.unwrap(), directory);
    let modified = name.metadata().unwrap().modified().unwrap();
    assert_eq!(modified, std::time::UNIX_EPOCH, "written again");

    // Not even a snapshot that lacks an optional file, or whose name is out of date.
    std::fs::remove_file(directory.join("generation_config.json")).unwrap();
    assert_eq!(fixture.resolve().await.unwrap(), directory);
    std::fs::remove_dir_all(directory.join("../../refs")).unwrap();
    std::fs::write(directory.join("../../refs"), "").unwrap();
    assert_eq!(fixture.resolve().await.unwrap(), directory);
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
