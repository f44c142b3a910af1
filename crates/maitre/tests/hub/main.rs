//! `maitre::hub` against a loopback server that answers as the Hub does.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod cache;
mod downloads;
mod gguf;
mod refusals;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use maitre::hub::{Hub, HubError, HubOptions, Token};
use server::FakeHub;
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
