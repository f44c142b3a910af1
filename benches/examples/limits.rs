//! What this machine can do: `cargo run --release --package maitre-benches --example limits [THREADS]`.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]

use std::time::Duration;

use anyhow::{Context, Result};
use maitre_tensor::Limits;

fn main() -> Result<()> {
    let threads = match std::env::args().nth(1) {
        Some(given) => given
            .parse()
            .with_context(|| format!("`{given}` is no number of threads"))?,
        None => std::thread::available_parallelism()?.get(),
    };
    let limits = Limits::measure(threads, Duration::from_secs(2))?;
    println!("{threads} threads: {limits}");
    Ok(())
}
