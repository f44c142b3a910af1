//! What the machine gives or refuses at start: ports, names of hosts, threads.

use std::net::TcpListener;
use std::process::Command;

use super::{fails, stderr};

#[test]
fn a_taken_port_is_told_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--grpc-addr", "--http-addr"] {
        let other = match flag {
            "--grpc-addr" => "--http-addr",
            _ => "--grpc-addr",
        };
        let said = fails(&["serve", flag, &address, other, "127.0.0.1:0"], 1);
        let expected = format!("cannot listen on {address} for ");
        assert_eq!(said.matches(&expected).count(), 1, "{said}");
        assert_eq!(said.matches("Address already in use").count(), 1, "{said}");
    }
}

#[test]
fn a_host_that_is_not_found_is_named() {
    let said = fails(
        &[
            "serve",
            "--grpc-addr",
            "no-such-host.invalid:0",
            "--http-addr",
            "127.0.0.1:0",
        ],
        1,
    );
    assert!(
        said.contains("\"no-such-host.invalid\"") && said.contains("127.0.0.1:0"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn a_limit_of_threads_is_an_error_and_no_panic() {
    use std::os::unix::process::CommandExt as _;

    let limited = |arguments: &[&str]| {
        let mut command = Command::new("prlimit");
        command
            .arg("--nproc=1")
            .arg(env!("CARGO_BIN_EXE_maitre"))
            .args(arguments);
        command.env_remove("RUST_BACKTRACE");
        // The superuser has no such limit.
        if std::fs::metadata("/proc/self")
            .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
        {
            command.uid(65_534).gid(65_534);
        }
        command.output()
    };
    let output = match limited(&["generate", "--prompt", "x", "--max-tokens", "1"]) {
        Ok(output) if output.status.code() != Some(126) && output.status.code() != Some(127) => {
            output
        }
        _ => {
            println!("skipped: needs `prlimit`, and a build that other users may run");
            return;
        }
    };
    let said = stderr(&output);
    if output.status.success() {
        println!("skipped: no limit of threads holds here");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("start only 0 of the") && said.contains("ulimit -u"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}
