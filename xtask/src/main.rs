//! The project's chores: `cargo xtask COMMAND`. This file only dispatches; each command has its own.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]

mod bench;
mod cargo;
mod ci;
mod clients;
mod examples;
mod fuzz;
mod golden;
mod inlined;
mod lint;
mod phases;
mod python;
mod server;
mod simulate_faults;
mod soak;
mod structured;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all tests; further arguments go to `cargo test`.
    Test(test::Arguments),
    /// Check formatting, clippy and rustdoc; no warning is allowed.
    Lint,
    /// Everything that must pass before a change lands: lint, examples, tests.
    Ci,
    /// Run every example, the short way.
    Examples,
    /// Make the fixtures again that independent implementations compute (needs Python).
    Golden(golden::Arguments),
    /// Measure: `maitre bench` with the given arguments, or the kernels with `bench kernels`.
    Bench(bench::Arguments),
    /// Drive the scheduler and the KV manager through random lives, with all invariants checked.
    SimulateFaults(simulate_faults::Arguments),
    /// Fuzz what reads bytes from outside (needs a nightly compiler and cargo-fuzz).
    Fuzz(fuzz::Arguments),
    /// Generate under the table of JSON schemas, and check every answer with a validator.
    Structured(structured::Arguments),
    /// Send a server thousands of requests and see that its memory does not grow; or attack it (Linux).
    Soak(soak::Arguments),
    /// Run the packages that people use against a server (needs Python).
    Clients(clients::Arguments),
    /// Run the tools that people measure servers with against one, and check what they say (needs Python).
    Tools(tools::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Lint => lint::run(),
        Command::Ci => ci::run(),
        Command::Examples => examples::run(),
        Command::Golden(arguments) => golden::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::SimulateFaults(arguments) => simulate_faults::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Structured(arguments) => structured::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Clients(arguments) => clients::run(&arguments),
        Command::Tools(arguments) => tools::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_options_of_an_attack_need_the_attack() {
        let parses = |line: &str| Arguments::try_parse_from(line.split_whitespace()).is_ok();
        assert!(parses(
            "xtask soak --hostile --minutes 10 --only cancels --only control"
        ));
        assert!(parses("xtask soak --hostile --list"));
        assert!(parses("xtask soak --requests 1000 --clients 10"));
        for line in ["--minutes 10", "--list", "--hostile --requests 1000"] {
            assert!(!parses(&format!("xtask soak {line}")), "{line}");
        }
    }
}
