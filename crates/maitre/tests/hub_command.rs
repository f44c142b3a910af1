//! Models of the Hub as the command line takes them: by name, by address, from a cache that cannot be written.
#![cfg(all(unix, feature = "hub"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

#[path = "hub/server.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output};

use server::{COMMIT, FakeHub, Outage};
use tempfile::TempDir;

/// A fake Hub with the bundled draft model, and a cache.
struct Fixture {
    server: FakeHub,
    home: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let files = maitre_bundled::DRAFT.files.iter();
        let files: Vec<(&str, Vec<u8>)> =
            files.map(|(name, bytes)| (*name, bytes.to_vec())).collect();
        Self {
            server: FakeHub::start(&files).await,
            home: TempDir::new().unwrap(),
        }
    }

    /// A command that sees this Hub and this home only.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in [
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "XDG_CACHE_HOME",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", self.server.address())
            .env("HOME", self.home.path())
            .env("HF_HOME", "~/hf");
        command
    }

    async fn run(&self, mut command: Command) -> Output {
        // The fake Hub answers on this runtime meanwhile.
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    async fn inspect(&self, model: &str) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_maitre"));
        command.args(["inspect", "--model", model]);
        self.run(command).await
    }

    fn snapshot(&self) -> std::path::PathBuf {
        let cache = self.home.path().join("hf/hub/models--tiny--model");
        cache.join("snapshots").join(COMMIT)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_models_page_is_taken_for_its_name() {
    let fixture = Fixture::new().await;
    for model in [
        "tiny/model".to_owned(),
        format!("{}/tiny/model/tree/main", fixture.server.address()),
    ] {
        let output = fixture.inspect(&model).await;
        assert!(output.status.success(), "{model}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains("Qwen3ForCausalLM"));
    }
    assert!(
        fixture.snapshot().join("config.json").exists(),
        "HF_HOME is expanded"
    );
    let output = fixture.inspect("https://example.org/tiny/model").await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("ORG/NAME"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_and_a_short_name_lead_to_a_file_whose_licence_is_told_once() {
    let fixture = Fixture::new().await;
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../maitre-model/tests/fixtures/gguf");
    let file = std::fs::read(fixtures.join("qwen2-bf16-yarn.gguf")).unwrap();
    fixture.server.commit("Qwen3-0.6B-Q8_0.gguf", file);
    let output = fixture.inspect("tiny/model:q8_0").await;
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(text(&output.stdout).contains("Qwen3-0.6B-Q8_0.gguf: Qwen2ForCausalLM"));
    assert!(said.is_empty(), "{said}");

    let licence = "qwen3:0.6b is Qwen3-0.6B-Q8_0.gguf of Qwen/Qwen3-0.6B-GGUF on the Hub, under this licence: Apache-2.0";
    for times in [1, 0] {
        let output = fixture.inspect("Qwen3:0.6B").await;
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches(licence).count(), times, "{said}");
    }
    let output = fixture.inspect("tiny/model:Q4_K_M").await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("has no GGUF file of the format `Q4_K_M`; it has Q8_0"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_question_is_a_warning_where_the_cache_is_complete() {
    let fixture = Fixture::new().await;
    assert!(fixture.inspect("tiny/model").await.status.success());
    fixture.server.set_outage(Outage::Refuses(403, "GatedRepo"));
    let output = fixture.inspect("tiny/model").await;
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("WARN using ") && said.contains("accept its terms"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_cache_and_no_hub_are_told_together() {
    let fixture = Fixture::new().await;
    assert!(fixture.inspect("tiny/model").await.status.success());
    std::fs::remove_file(fixture.snapshot().join("tokenizer.json")).unwrap();
    let mut command = fixture.command(env!("CARGO_BIN_EXE_maitre"));
    // Port 1 is privileged and closed: nothing listens there.
    command
        .env("HF_ENDPOINT", "http://127.0.0.1:1")
        .args(["inspect", "--model", "tiny/model"]);
    let output = fixture.run(command).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "is not complete",
        "it lacks tokenizer.json",
        "cannot reach the Hub",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("WARN"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_hub_is_told_once() {
    let fixture = Fixture::new().await;
    fixture.server.set_outage(Outage::Refuses(503, ""));
    let inspect = |log: Option<&str>| {
        let mut command = fixture.command(env!("CARGO_BIN_EXE_maitre"));
        command.args(["inspect", "--model", "tiny/model"]);
        match log {
            Some(log) => command.env("RUST_LOG", log),
            None => command.env_remove("RUST_LOG"),
        };
        fixture.run(command)
    };
    for log in [None, Some("warn"), Some("info")] {
        let said = text(&inspect(log).await.stderr);
        let lines = said.lines().filter(|line| line.contains("ERROR")).count();
        assert_eq!(lines, 1, "{said}");
        assert_eq!(said.matches(fixture.server.address()).count(), 1, "{said}");
    }
    let said = text(&inspect(Some("maitre=debug")).await.stderr);
    assert!(said.contains("asking the Hub again"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_given_by_its_path_is_served_under_the_models_name() {
    let fixture = Fixture::new().await;
    assert!(fixture.inspect("tiny/model").await.status.success());
    for (folder, model) in [
        (Path::new("/"), fixture.snapshot()),
        (&fixture.snapshot(), ".".into()),
    ] {
        let mut command = fixture.command(env!("CARGO_BIN_EXE_maitre"));
        command.current_dir(folder).args([
            "generate",
            "-v",
            "--prompt",
            "x",
            "--max-tokens",
            "1",
            "--model",
        ]);
        command.arg(model);
        let output = fixture.run(command).await;
        let said = text(&output.stderr);
        assert!(said.contains("INFO model tiny/model ("), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_on_a_read_only_file_system_is_used() {
    let fixture = Fixture::new().await;
    assert!(fixture.inspect("tiny/model").await.status.success());
    let script =
        "mount --bind \"$CACHE\" \"$CACHE\" && mount -o remount,bind,ro \"$CACHE\" && exec \"$@\"";
    let in_namespace = |arguments: &[&str]| {
        let mut command = fixture.command("unshare");
        command
            .env("CACHE", fixture.home.path().join("hf"))
            .args(["--mount", "sh", "-c", script, "sh"])
            .args(arguments);
        command
    };
    let mounts = in_namespace(&["true"]).output();
    if !mounts.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a read-only mount needs the superuser and `unshare`");
        return;
    }
    let maitre = [
        env!("CARGO_BIN_EXE_maitre"),
        "inspect",
        "--model",
        "tiny/model",
    ];
    let output = fixture.run(in_namespace(&maitre)).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        !text(&output.stderr).contains("WARN"),
        "{}",
        text(&output.stderr)
    );
    // A newer commit, which cannot be written.
    fixture.server.commit("README.md", Vec::new());
    fixture.server.commit("config.json", b"{}".to_vec());
    let output = fixture.run(in_namespace(&maitre)).await;
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("WARN using ") && said.contains("Read-only file system"),
        "{said}"
    );
}
