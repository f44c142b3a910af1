//! When the cache answers instead of the Hub: offline, without a network, and while the Hub says nothing of use.

use std::time::Duration;

use indicatif::ProgressBar;
use maitre::hub::{HubError, Token};

use crate::server::Outage;
use crate::{Fixture, NAME, WEIGHTS, hub_at, hub_with};

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
