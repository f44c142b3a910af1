//! `maitre serve` as an operator runs it: the ready line, a taken port, SIGTERM.
#![cfg(unix)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process that is killed with the test that started it.
struct Served {
    child: Child,
    grpc: String,
    http: String,
}

impl Served {
    fn start() -> Self {
        Self::start_at("127.0.0.1:0", &[])
    }

    fn start_at(address: &str, flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_maitre"))
            .args(["serve", "--grpc-addr", address, "--http-addr", address])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("ready"), "{line}");
        let address = |word: Option<&str>, name: &str| {
            word.and_then(|word| word.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let grpc = address(words.next(), "grpc=");
        let http = address(words.next(), "http=");
        Self { child, grpc, http }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn terminate(&self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_hosts_name_stands_for_its_address() {
    let served = Served::start_at("localhost:0", &[]);
    for address in [&served.grpc, &served.http] {
        let address: std::net::SocketAddr = address.parse().unwrap();
        assert!(
            address.ip().is_loopback() && address.port() > 0,
            "{address}"
        );
        assert!(TcpStream::connect(address).is_ok());
    }
}

#[test]
fn it_is_ready_when_it_says_so_and_leaves_with_0_when_told_to() {
    let mut served = Served::start();
    assert!(served.get("/health/ready").starts_with("HTTP/1.1 200"));
    assert!(served.get("/health/live").starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(&served.grpc).is_ok());
    served.terminate();
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn its_metrics_have_our_names_and_the_ones_that_dashboards_look_for() {
    let served = Served::start();
    let metrics = served.get("/metrics");
    for name in [
        "maitre_kv_blocks_total",
        "maitre_requests_running",
        "vllm:num_requests_waiting",
    ] {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
}

/// Whether this build has the emulator; says so if not.
fn has_emulator() -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_maitre"))
        .args(["inspect", "--device", "emulator"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let is_absent = said.contains("--features cuda-emulator") || said.contains("C++ compiler");
    assert!(output.status.success() || is_absent, "{said}");
    if is_absent {
        println!("skipped: {said}");
    }
    !is_absent
}

/// The driver is asked beside the step loop, so that the first numbers come a moment after the server is ready.
#[test]
fn the_memory_of_a_gpu_is_shown() {
    if !has_emulator() {
        return;
    }
    let small = [
        "--max-seqs",
        "2",
        "--max-model-len",
        "64",
        "--kv-cache-bytes",
        "4000000",
    ];
    let served = Served::start_at(
        "127.0.0.1:0",
        &[&["--device", "emulator"][..], &small].concat(),
    );
    let value = |metrics: &str, name: &str| -> Option<f64> {
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name));
        values.find_map(|rest| rest.trim().parse().ok())
    };
    let began = Instant::now();
    let (total, free) = loop {
        let metrics = served.get("/metrics");
        let total = value(&metrics, "maitre_gpu_memory_total_bytes");
        let free = value(&metrics, "maitre_gpu_memory_free_bytes");
        if let (Some(total), Some(free)) = (total, free) {
            break (total, free);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{metrics}");
    };
    // What the emulator says it has, less weights, KV cache and workspace.
    assert_eq!(total, (2u64 << 30) as f64);
    assert!(free > 0.0 && free < total - 4e6, "{free}");
}

#[test]
fn without_a_gpu_none_is_shown() {
    let served = Served::start_at("127.0.0.1:0", &["--device", "cpu"]);
    let metrics = served.get("/metrics");
    assert!(!metrics.contains("maitre_gpu_memory"), "{metrics}");
}

/// Before the first request: a dashboard tells "nothing was drafted" from "not there".
#[test]
fn what_is_drafted_is_counted_from_zero() {
    let served = Served::start();
    let metrics = served.get("/metrics");
    let zero = |series: &str| {
        let line = format!("{series} 0");
        assert!(
            metrics.lines().any(|given| given == line),
            "{line} is missing in {metrics}"
        );
    };
    for name in [
        "maitre_drafts_total",
        "maitre_drafted_tokens_total",
        "maitre_accepted_tokens_total",
        "maitre_draft_failures_total",
        "vllm:spec_decode_num_drafts_total",
        "vllm:spec_decode_num_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
    ] {
        zero(name);
    }
    for name in [
        "maitre_drafted_tokens_by_position_total",
        "maitre_accepted_tokens_by_position_total",
        "vllm:spec_decode_num_accepted_tokens_per_pos_total",
    ] {
        for position in 0..8 {
            zero(&format!("{name}{{position=\"{position}\"}}"));
        }
    }
    assert!(!metrics.contains("position=\"8\""), "{metrics}");
}

#[test]
fn a_taken_port_is_named_before_a_model_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--grpc-addr", "--http-addr"] {
        let other = if flag == "--grpc-addr" {
            "--http-addr"
        } else {
            "--grpc-addr"
        };
        let output = Command::new(env!("CARGO_BIN_EXE_maitre"))
            .args(["serve", flag, &address, other, "127.0.0.1:0"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&address) && said.contains("choose another port"),
            "{said}"
        );
        assert!(!said.contains("loading"), "{said}");
    }
}
