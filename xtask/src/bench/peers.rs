//! `cargo xtask bench peers`: Maitre and another engine side by side, in one run.
//!
//! A machine's speed wanders, so the two take turns: a pair of measurements for each workload, the
//! order reversed from pair to pair. What is compared is the ratio within pairs. The limits of the
//! machine are measured in between, and the best of them is what both are held against.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::contestant::{Batched, Contestant, Warm};
use super::kept::Kept;
use super::pairs::{Record, print_table};
use super::roofline::{Machine, STORED, Shape};
use super::served::{Served, free_port};
use crate::cargo::{root, target_directory};

/// The model that needs no folder.
const BUNDLED: &str = "bundled";

/// Maitre beside another engine: pairs of measurements, their ratio, and its 95 % bounds.
///
/// The same number of threads, the same prompts' lengths, the prompts' time included for both.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "cargo xtask bench peers")]
pub(crate) struct Arguments {
    /// The model: a directory in Hugging Face's layout, a GGUF file, or `bundled` (with --against only).
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Dtype of Maitre's weights; `stored`: a GGUF file's own.
    #[arg(long, default_value = "bf16")]
    dtype: String,
    /// A Python with vLLM: compare with it.
    #[arg(
        long,
        value_name = "PYTHON",
        required_unless_present_any = ["llama_batched_bench", "against", "llama_server", "peer_url"]
    )]
    vllm_python: Option<PathBuf>,
    /// Dtype of vLLM's weights.
    #[arg(long, default_value = "bfloat16")]
    vllm_dtype: String,
    /// llama.cpp's program of this name: compare with it.
    #[arg(
        long,
        value_name = "PROGRAM",
        requires = "gguf",
        conflicts_with = "vllm_python"
    )]
    llama_batched_bench: Option<PathBuf>,
    /// llama.cpp's server: compare with it over HTTP, where Maitre is a server too.
    #[arg(
        long,
        value_name = "PROGRAM",
        requires = "gguf",
        conflicts_with_all = ["vllm_python", "llama_batched_bench", "against", "peer_url"]
    )]
    llama_server: Option<PathBuf>,
    /// Compare with a server that runs already, as http://HOST:PORT/v1, over HTTP. It goes on running while Maitre is
    /// measured.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = ["vllm_python", "llama_batched_bench", "against"]
    )]
    peer_url: Option<String>,
    /// How many tokens the model of --peer-url knows, if that server does not say so.
    #[arg(long, value_name = "N", requires = "peer_url")]
    vocab_size: Option<usize>,
    /// The same model for llama.cpp.
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
    /// Further flags of Maitre, such as "--no-prefix-cache".
    #[arg(
        long,
        value_name = "FLAGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    with: String,
    /// Compare with a second Maitre that has these flags instead, such as "--max-seqs 1".
    #[arg(
        long,
        value_name = "FLAGS",
        allow_hyphen_values = true,
        conflicts_with_all = ["vllm_python", "llama_batched_bench"]
    )]
    against: Option<String>,
    /// The second Maitre is this program, such as one that was built from another commit.
    #[arg(long, value_name = "PROGRAM", requires = "against")]
    against_program: Option<PathBuf>,
    /// Ask both the prompts of this file in turn, instead of random ones of --input-tokens; see `maitre
    /// bench --prompts`. There is no workload of one long prompt then.
    #[arg(
        long,
        value_name = "FILE",
        requires = "against",
        conflicts_with_all = ["input_tokens", "vllm_python", "llama_batched_bench"]
    )]
    prompts: Option<PathBuf>,
    /// Threads of each.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = positive)]
    threads: usize,
    /// Pairs of measurements of each workload.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = positive)]
    pairs: usize,
    /// Users at once, a workload for each.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,32,64", value_parser = positive)]
    users: Vec<usize>,
    /// Tokens of each prompt.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = positive)]
    input_tokens: usize,
    /// Tokens of each answer.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    output_tokens: usize,
    /// Tokens of prompts with one token of answer, a workload of one user for each.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1024", value_parser = positive)]
    prefill_tokens: Vec<usize>,
    /// Tokens of long prompts with answers of --output-tokens, a workload for each: the time of the prompts and that of
    /// the answers are compared apart.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = positive, conflicts_with_all = ["vllm_python", "prompts"])]
    contexts: Vec<usize>,
    /// Users at once with each of --contexts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive, requires = "contexts")]
    context_users: usize,
    /// Measure --contexts alone.
    #[arg(long, requires = "contexts")]
    only_contexts: bool,
    /// Go on with the pairs that an interrupted run with the same flags has left.
    #[arg(long)]
    resume: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number above 0".into()),
        Ok(number) => Ok(number),
    }
}

/// Requests that are sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) users: usize,
    /// Tokens of each prompt; 0: those of a file, which are not counted.
    pub(super) input: usize,
    /// Tokens of each answer.
    pub(super) output: usize,
    /// Whether prompts and answers are compared apart.
    pub(super) is_apart: bool,
}

impl Workload {
    /// What its speed is counted in: generated tokens, or the prompt's where there is one token of
    /// answer only.
    pub(super) fn tokens(&self) -> usize {
        self.users
            * if self.output == 1 {
                self.input
            } else {
                self.output
            }
    }

    /// `USERS x INPUT -> OUTPUT`.
    pub(super) fn name(&self) -> String {
        match self.input {
            0 => format!("{} x file -> {}", self.users, self.output),
            input => format!("{} x {input} -> {}", self.users, self.output),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let shape = arguments.shape()?;
    let logs = target_directory().join("bench-peers");
    fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    let mut maitre = arguments.ours(&logs)?;
    let (name, mut peer) = arguments.peer(&logs)?;
    println!(
        "maitre and {name} are ready; their logs are in {}",
        logs.display()
    );

    let mut machine = Machine::of_weights(&arguments.dtype)?;
    let mut records: Vec<Record> = arguments.workloads().map(Record::new).collect();
    let (file, flags) = (logs.join("pairs.jsonl"), arguments.flags());
    let mut kept = Kept::open(&file, &flags, arguments.resume, &mut records)?;
    // The first round is not counted: caches, pages and compilers of both warm up.
    for round in 0..=arguments.pairs {
        for record in &mut records {
            if round > 0 && record.pairs.len() >= round {
                continue;
            }
            machine.learn(&maitre.ask("limits")?)?;
            let pair = record.measure(&mut maitre, &mut peer, round % 2 == 0)?;
            if round > 0 {
                kept.add(&record.workload.name(), pair)?;
                record.pairs.push(pair);
                let (pairs, ratios) = (arguments.pairs, record.ratios(pair));
                println!("pair {round} of {pairs}, {ratios}");
            }
        }
        if round == 0 {
            println!("warmed up; the pairs are written to {}", file.display());
        }
    }
    print_table(&name, &records, &shape, machine);
    Ok(())
}

impl Arguments {
    /// What pairs depend on.
    fn flags(&self) -> String {
        let pairs = Self {
            pairs: 0,
            resume: false,
            ..self.clone()
        };
        format!("{pairs:?}")
    }

    fn is_bundled(&self) -> bool {
        self.model.as_os_str() == BUNDLED
    }

    fn shape(&self) -> Result<Shape> {
        if self.model.extension().is_none_or(|name| name != "gguf") {
            ensure!(
                self.dtype != STORED,
                "--dtype {STORED} takes a GGUF file as --model"
            );
            return Shape::read(&self.model_folder()?);
        }
        let mut inspect = Command::new(super::build_maitre()?);
        inspect.args(["inspect", "--json", "--model"]);
        let output = inspect.arg(&self.model).output();
        let output = output.context("cannot start `maitre inspect`")?;
        let report = String::from_utf8_lossy(&output.stdout);
        Shape::of_inspected(&report).with_context(|| {
            let log = String::from_utf8_lossy(&output.stderr);
            format!(
                "in what `maitre inspect` says of {}: {log}",
                self.model.display()
            )
        })
    }

    /// Where the model's shape is to be read.
    fn model_folder(&self) -> Result<PathBuf> {
        if !self.is_bundled() {
            return Ok(self.model.clone());
        }
        ensure!(
            self.against.is_some(),
            "`bundled` is no directory that another engine could read; it goes with --against"
        );
        Ok(root().join("crates/maitre-bundled/model/target"))
    }

    /// A build of Maitre with these flags beside the common ones, to be asked line by line.
    fn maitre(&self, program: PathBuf, flags: &str) -> Result<Command> {
        let mut command = self.maitre_command(program, "bench", flags)?;
        command.args(["--target", "in-process", "--line-by-line"]);
        if let Some(prompts) = &self.prompts {
            command.arg("--prompts").arg(absolute(prompts)?);
        }
        Ok(command)
    }

    /// A command of Maitre with the model and these flags.
    fn maitre_command(&self, program: PathBuf, name: &str, flags: &str) -> Result<Command> {
        let mut command = Command::new(program);
        command.args([name, "--model"]);
        match self.is_bundled() {
            true => command.arg(BUNDLED),
            false => command.arg(absolute(&self.model)?),
        };
        if self.dtype != STORED {
            command.args(["--dtype", &self.dtype]);
        }
        command.args(["--threads", &self.threads.to_string()]);
        command.args(flags.split_ascii_whitespace());
        Ok(command)
    }

    fn is_over_http(&self) -> bool {
        self.llama_server.is_some() || self.peer_url.is_some()
    }

    /// Maitre with the first flags.
    fn ours(&self, logs: &Path) -> Result<Contestant> {
        let program = super::build_maitre()?;
        if !self.is_over_http() {
            let command = self.maitre(program, &self.with)?;
            return Ok(Contestant::Warm(Warm::start(
                command,
                logs.join("maitre.log"),
            )?));
        }
        let (grpc, port) = (free_port()?, free_port()?);
        let mut server = self.maitre_command(program, "serve", &self.with)?;
        server.args(["--grpc-addr", &format!("127.0.0.1:{grpc}")]);
        server.args(["--http-addr", &format!("127.0.0.1:{port}")]);
        let client = |address: &str| self.client(address);
        let served = Served::start(server, port, &logs.join("maitre.log"), client)?;
        Ok(Contestant::Served(served))
    }

    /// `maitre bench` as the client of a server.
    fn client(&self, address: &str) -> Result<Command> {
        let mut client = Command::new(super::build_maitre()?);
        client.args(["bench", "--line-by-line", "--target", address]);
        client.args(["--threads", &self.threads.to_string()]);
        if let Some(size) = self.vocab_size {
            client.args(["--vocab-size", &size.to_string()]);
        }
        Ok(client)
    }

    /// llama.cpp's server, with a place for each user.
    fn llama_server(&self, program: &Path, gguf: &Path) -> Result<(Command, u16)> {
        let port = free_port()?;
        let users = self.users.iter().copied().max().unwrap_or(1);
        let prompts = self.prefill_tokens.iter().chain(&self.contexts);
        let longest = prompts.fold(self.input_tokens, |most, prompt| most.max(*prompt));
        let longest = longest + self.output_tokens;
        let mut command = Command::new(absolute(program)?);
        command.arg("-m").arg(absolute(gguf)?);
        for (flag, number) in [
            ("--port", usize::from(port)),
            ("-t", self.threads),
            ("-tb", self.threads),
            ("-np", users),
            ("-c", users * longest),
        ] {
            command.arg(flag).arg(number.to_string());
        }
        Ok((command, port))
    }

    /// The other engine over HTTP.
    fn served_peer(&self, logs: &Path) -> Result<(String, Contestant)> {
        if let Some(address) = &self.peer_url {
            let served = Served::running(self.client(address)?, logs.join("peer.log"))?;
            return Ok((address.clone(), Contestant::Served(served)));
        }
        let (Some(program), Some(gguf)) = (&self.llama_server, &self.gguf) else {
            bail!("name a server: --llama-server with --gguf, or --peer-url");
        };
        let (server, port) = self.llama_server(program, gguf)?;
        let client = |address: &str| self.client(address);
        let served = Served::start(server, port, &logs.join("llama-server.log"), client)?;
        let file = gguf.file_name().unwrap_or_default();
        let name = format!("llama.cpp's server, {}", file.display());
        Ok((name, Contestant::Served(served)))
    }

    /// The other engine and what the table calls it.
    fn peer(&self, logs: &Path) -> Result<(String, Contestant)> {
        if self.is_over_http() {
            return self.served_peer(logs);
        }
        if let Some(python) = &self.vllm_python {
            let mut command = Command::new(absolute(python)?);
            command.arg(root().join("benches/peers/vllm_lines.py"));
            command.arg(absolute(&self.model)?);
            command.args([&self.vllm_dtype, &self.threads.to_string()]);
            let process = Warm::start(command, logs.join("vllm.log"))?;
            let name = format!("vLLM {}", self.vllm_dtype);
            return Ok((name, Contestant::Warm(process)));
        }
        if let Some(flags) = &self.against {
            let program = match &self.against_program {
                Some(program) => absolute(program)?,
                None => super::build_maitre()?,
            };
            let name = match &self.against_program {
                Some(program) => format!("{} {flags}", program.display()),
                None => format!("maitre {flags}"),
            };
            let process = Warm::start(self.maitre(program, flags)?, logs.join("against.log"))?;
            let name = name.trim_end().to_owned();
            return Ok((name, Contestant::Warm(process)));
        }
        let (Some(program), Some(gguf)) = (&self.llama_batched_bench, &self.gguf) else {
            bail!("name a peer: --vllm-python, --llama-batched-bench with --gguf, or --against");
        };
        let file = gguf.file_name().unwrap_or_default();
        let name = format!("llama.cpp {}", file.display());
        let program = Batched {
            program: absolute(program)?,
            gguf: absolute(gguf)?,
            threads: self.threads,
        };
        Ok((name, Contestant::Batched(program)))
    }

    fn workloads(&self) -> impl Iterator<Item = Workload> {
        let has_prompts = self.prompts.is_some();
        let workload = |users, input, output| Workload {
            users,
            input,
            output,
            is_apart: false,
        };
        let input = if has_prompts { 0 } else { self.input_tokens };
        let crowds = self.users.iter();
        let crowds = crowds.map(move |&users| workload(users, input, self.output_tokens));
        let prefills = self.prefill_tokens.iter().filter(move |_| !has_prompts);
        let prefills = prefills.map(move |&tokens| workload(1, tokens, 1));
        let short = crowds.chain(prefills).filter(|_| !self.only_contexts);
        let long = self.contexts.iter().map(move |&tokens| Workload {
            is_apart: true,
            ..workload(self.context_users, tokens, self.output_tokens)
        });
        short.chain(long)
    }
}

/// The path as other folders see it. Links are not followed: a virtual environment's Python is one.
fn absolute(path: &Path) -> Result<PathBuf> {
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(std::path::absolute(path)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn prompts_of_a_file_take_the_place_of_random_ones() {
        let names = |line: &str| -> Vec<String> {
            let arguments = parse(line).unwrap();
            arguments.workloads().map(|it| it.name()).collect()
        };
        assert_eq!(
            names("peers --model m --against= --users 1,8"),
            ["1 x 16 -> 32", "8 x 16 -> 32", "1 x 1024 -> 1"]
        );
        assert_eq!(
            names("peers --model m --against= --users 1,8 --prompts f"),
            ["1 x file -> 32", "8 x file -> 32"]
        );
        assert_eq!(
            names("peers --model m --against= --contexts 2048,4096 --only-contexts"),
            ["1 x 2048 -> 32", "1 x 4096 -> 32"]
        );
        for line in [
            "peers --model m --vllm-python p --contexts 64",
            "peers --model m --vllm-python p --prompts f",
            "peers --model m --against= --prompts f --input-tokens 3",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_bundled_model_is_held_against_itself_only() {
        let folder = parse("peers --model bundled --against=")
            .unwrap()
            .model_folder();
        Shape::read(&folder.unwrap()).unwrap();
        let other = parse("peers --model bundled --vllm-python p").unwrap();
        assert!(other.model_folder().is_err());
    }
}
