//! Models in GGUF files of a repository: which one is meant, what is downloaded, and what the cache knows.

use std::path::PathBuf;

use indicatif::ProgressBar;
use maitre::hub::HubError;
use tempfile::TempDir;

use crate::hub_at;
use crate::server::{COMMIT, FakeHub, Outage};

const NAME: &str = "tiny/model";

struct Fixture {
    server: FakeHub,
    cache: TempDir,
}

impl Fixture {
    async fn new(files: &[&str]) -> Self {
        let files: Vec<(&str, Vec<u8>)> = files
            .iter()
            .map(|name| (*name, name.as_bytes().to_vec()))
            .collect();
        Self {
            server: FakeHub::start(&files).await,
            cache: TempDir::new().unwrap(),
        }
    }

    async fn resolve(&self, tag: &str, offline: bool) -> Result<PathBuf, HubError> {
        let hub = hub_at(self.server.address(), self.cache.path(), offline);
        let bar = ProgressBar::hidden();
        hub.resolve_gguf(NAME, None, tag, &bar).await
    }
}

const FILES: [&str; 8] = [
    "Q8_0/m-Q8_0-00001-of-00002.gguf",
    "Q8_0/m-Q8_0-00002-of-00002.gguf",
    "README.md",
    "config.json",
    "m-Q4_K_M.gguf",
    "m-UD-Q4_K_M.gguf",
    "m-F16.gguf",
    "mmproj-m-F16.gguf",
];

#[tokio::test]
async fn the_file_that_a_format_means_is_downloaded_alone() {
    let fixture = Fixture::new(&FILES).await;
    let path = fixture.resolve("q4_k_m", false).await.unwrap();
    let snapshot = format!("models--tiny--model/snapshots/{COMMIT}");
    assert!(
        path.ends_with(format!("{snapshot}/m-Q4_K_M.gguf")),
        "{path:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"m-Q4_K_M.gguf");
    assert_eq!(fixture.server.downloads(), ["m-Q4_K_M.gguf"]);

    // Nothing comes twice, and the cache answers alone.
    fixture.server.forget_requests();
    assert_eq!(fixture.resolve("Q4_K_M", false).await.unwrap(), path);
    assert_eq!(fixture.server.downloads(), Vec::<String>::new());
    assert_eq!(fixture.resolve("Q4_K_M", true).await.unwrap(), path);
    let absent = fixture.resolve("F16", true).await.unwrap_err();
    assert!(matches!(absent, HubError::NotCached { .. }), "{absent}");

    let whole = fixture.resolve("m-UD-Q4_K_M.gguf", false).await.unwrap();
    assert!(whole.ends_with("m-UD-Q4_K_M.gguf"), "{whole:?}");
}

#[tokio::test]
async fn all_parts_of_a_split_model_are_downloaded_and_missed() {
    let fixture = Fixture::new(&FILES).await;
    let path = fixture.resolve("Q8_0", false).await.unwrap();
    assert!(
        path.ends_with("Q8_0/m-Q8_0-00001-of-00002.gguf"),
        "{path:?}"
    );
    let mut downloads = fixture.server.downloads();
    downloads.sort();
    assert_eq!(downloads, FILES[..2]);
    let second = path.with_file_name("m-Q8_0-00002-of-00002.gguf");
    assert!(second.is_file());

    std::fs::remove_file(&second).unwrap();
    let offline = fixture.resolve("Q8_0", true).await.unwrap_err().to_string();
    assert!(
        offline.contains("it lacks Q8_0/m-Q8_0-00002-of-00002.gguf"),
        "{offline}"
    );
    fixture.server.set_outage(Outage::Refuses(503, ""));
    let error = fixture.resolve("Q8_0", false).await.unwrap_err();
    assert!(matches!(error, HubError::Incomplete { .. }), "{error}");
    fixture.server.set_outage(Outage::None);
    assert_eq!(fixture.resolve("Q8_0", false).await.unwrap(), path);
    assert!(second.is_file());
    fixture.server.set_outage(Outage::Refuses(503, ""));
    assert_eq!(fixture.resolve("Q8_0", false).await.unwrap(), path);
}

#[tokio::test]
async fn a_format_that_means_none_or_several_is_answered_with_what_there_is() {
    let fixture = Fixture::new(&FILES).await;
    let there = "F16, Q4_K_M, Q8_0, UD-Q4_K_M";
    let error = fixture.resolve("Q5_K_M", false).await.unwrap_err();
    let expected =
        format!("repository `{NAME}` has no GGUF file of the format `Q5_K_M`; it has {there}");
    assert_eq!(error.to_string(), expected);

    // A repository with two models of one format.
    let fixture = Fixture::new(&["a/m-F16.gguf", "b/m-F16.gguf"]).await;
    let error = fixture.resolve("F16", false).await.unwrap_err().to_string();
    let expected = "`F16` means several files of repository `tiny/model`: name one, as tiny/model:FILE; they are \
                    a/m-F16.gguf, b/m-F16.gguf";
    assert_eq!(error, expected);
    let path = fixture.resolve("b/m-F16.gguf", false).await.unwrap();
    assert!(path.ends_with("b/m-F16.gguf"));

    let fixture = Fixture::new(&["config.json"]).await;
    let error = fixture.resolve("F16", false).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "repository `tiny/model` has no GGUF file: leave out `:F16`"
    );

    let fixture = Fixture::new(&["m-F16-00001-of-00002.gguf"]).await;
    let error = fixture.resolve("F16", false).await.unwrap_err().to_string();
    assert!(error.contains("lacks m-F16-00002-of-00002.gguf"), "{error}");
    assert_eq!(fixture.server.downloads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_repository_of_gguf_files_asks_for_a_format() {
    let fixture = Fixture::new(&["m-Q4_K_M.gguf", "m-Q8_0.gguf", "config.json"]).await;
    let hub = hub_at(fixture.server.address(), fixture.cache.path(), false);
    let error = hub.resolve(NAME, None, &ProgressBar::hidden()).await;
    let expected = "repository `tiny/model` has GGUF files only: name one by its format, as tiny/model:Q4_K_M; there \
                    are Q4_K_M, Q8_0";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

/// Folders of folders, and names that could leave the cache, are no models.
#[tokio::test]
async fn names_that_could_leave_the_cache_are_not_seen() {
    let fixture = Fixture::new(&["../m-F16.gguf", "a/b/m-F16.gguf", ".x/m-F16.gguf"]).await;
    let error = fixture.resolve("F16", false).await.unwrap_err().to_string();
    assert!(error.contains("has no GGUF file"), "{error}");
}
