//! What a download brings, and how it goes on after a connection broke.

use indicatif::ProgressBar;
use maitre::hub::HubError;

use crate::server::{COMMIT, FakeHub, Fault};
use crate::{Fixture, NAME, WEIGHTS};

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
