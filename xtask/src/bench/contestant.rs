//! What is compared: engines that are started once, measured many times, and do nothing in between.
//!
//! Engines wait by spinning, some on every core, and would slow the other one. So a contestant is
//! stopped by the system (SIGSTOP) whenever it is not its turn.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::peers::Workload;
use super::served::Served;

/// One side of the comparison.
pub(super) enum Contestant {
    /// A process that answers each line with a measurement.
    Warm(Warm),
    /// A server, measured over HTTP.
    Served(Served),
    /// A program that measures one workload a call, and leaves its loading out of the time.
    Batched(Batched),
}

/// What a workload took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// From the first request sent to the last token received.
    pub(super) seconds: f64,
    /// From the first request sent to the last of the first tokens, where the contestant tells it: the time of the prompts.
    pub(super) prompts: Option<f64>,
}

impl Contestant {
    /// One measurement.
    pub(super) fn measure(&mut self, workload: Workload) -> Result<Measured> {
        match self {
            Self::Warm(process) => process.measure(workload),
            Self::Served(server) => server.measure(workload),
            Self::Batched(program) => program.measure(workload),
        }
    }

    /// Asks Maitre something else than a workload.
    pub(super) fn ask(&mut self, request: &str) -> Result<String> {
        match self {
            Self::Warm(process) => process.ask(request),
            Self::Served(server) => server.ask(request),
            Self::Batched(_) => bail!("it answers nothing but workloads"),
        }
    }
}

/// A process with the engine inside. It reads `USERS INPUT_TOKENS OUTPUT_TOKENS` and answers
/// `SECONDS TOKENS`, perhaps with the seconds of the prompts as a third number; it says `ready` first.
pub(super) struct Warm {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Warm {
    /// Starts the process, waits until it is ready, and stops it. What it logs goes to a file.
    pub(super) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            // Engines start processes of their own; they are stopped together.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without the pipes it was given");
        };
        let mut process = Self {
            child,
            requests,
            answers: BufReader::new(answers),
            log,
        };
        let greeting = process.line()?;
        ensure!(
            greeting == "ready",
            "it said `{greeting}`, expected `ready`"
        );
        process.signal("STOP")?;
        Ok(process)
    }

    /// Sends a line and reads the answer; the process runs only meanwhile.
    pub(super) fn ask(&mut self, request: &str) -> Result<String> {
        self.signal("CONT")?;
        writeln!(self.requests, "{request}").with_context(|| self.died())?;
        let answer = self.line()?;
        self.signal("STOP")?;
        Ok(answer)
    }

    /// As [`Contestant::measure`].
    pub(super) fn measure(&mut self, workload: Workload) -> Result<Measured> {
        let Workload {
            users,
            input,
            output,
            ..
        } = workload;
        let answer = self.ask(&format!("{users} {input} {output}"))?;
        let (measured, tokens) = parse_answer(&answer)
            .with_context(|| format!("it answered `{answer}`, expected `SECONDS TOKENS`"))?;
        let expected = users * output;
        ensure!(
            tokens == expected,
            "it generated {tokens} tokens, {expected} were asked for"
        );
        plausible(measured)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let bytes = self.answers.read_line(&mut line)?;
        ensure!(bytes > 0, self.died());
        Ok(line.trim_end().to_string())
    }

    fn died(&self) -> String {
        format!("the process ended; its log is {}", self.log.display())
    }

    fn signal(&self, name: &str) -> Result<()> {
        signal(self.child.id(), name).with_context(|| self.died())
    }
}

/// Sends a signal to a process and those that it started.
pub(super) fn signal(process: u32, name: &str) -> Result<()> {
    let group = format!("-{process}");
    let status = Command::new("kill")
        .args(["-s", name, "--", &group])
        .status()
        .context("cannot start `kill`")?;
    ensure!(status.success(), "there is no process {process}");
    Ok(())
}

impl Drop for Warm {
    fn drop(&mut self) {
        // A process that is gone already is what this is for.
        let _ = self.signal("KILL");
        let _ = self.child.wait();
    }
}

fn parse_answer(line: &str) -> Option<(Measured, usize)> {
    let mut words = line.split(' ');
    let (seconds, tokens) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let prompts = words.next().map(str::parse).transpose().ok()?;
    Some((Measured { seconds, prompts }, tokens))
}

fn plausible(measured: Measured) -> Result<Measured> {
    let Measured { seconds, prompts } = measured;
    ensure!(
        seconds.is_finite() && seconds > 0.0,
        "{seconds} seconds can't be right"
    );
    ensure!(
        prompts.is_none_or(|prompts| prompts > 0.0 && prompts <= seconds),
        "{prompts:?} seconds for the prompts of {seconds} can't be right"
    );
    Ok(measured)
}

/// llama.cpp's `llama-batched-bench` on one model.
pub(super) struct Batched {
    pub(super) program: PathBuf,
    pub(super) gguf: PathBuf,
    pub(super) threads: usize,
}

impl Batched {
    fn measure(&self, workload: Workload) -> Result<Measured> {
        let mut command = self.command(workload);
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.contains("\"t_pp\""));
        let measured = line.and_then(|line| {
            let prompts = field(line, "t_pp")?;
            let seconds = prompts + field(line, "t_tg")?;
            let prompts = Some(prompts);
            Some(Measured { seconds, prompts })
        });
        plausible(measured.with_context(|| {
            let log = String::from_utf8_lossy(&output.stderr);
            format!("it measured nothing ({}):\n{log}", output.status)
        })?)
    }

    /// The first token of an answer comes with the prompt, so there is one step less than tokens.
    fn command(&self, workload: Workload) -> Command {
        let Workload {
            users,
            input,
            output,
            ..
        } = workload;
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(&self.gguf);
        for (flag, number) in [
            ("-npl", users),
            ("-npp", input),
            ("-ntg", output - 1),
            ("-c", users * (input + output)),
            ("-t", self.threads),
            ("-tb", self.threads),
        ] {
            command.arg(flag).arg(number.to_string());
        }
        command.args(["--output-format", "jsonl"]);
        command
    }
}

/// A number of a JSON line. The line as a whole may not be JSON: a speed of no tokens is `-nan`.
fn field(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    let end = rest.find([',', '}'])?;
    rest[..end].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOAD: Workload = Workload {
        users: 2,
        input: 16,
        output: 32,
        is_apart: false,
    };

    fn shell(script: &str) -> Result<Warm> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = tempfile::NamedTempFile::new()?.into_temp_path();
        Warm::start(command, log.to_path_buf())
    }

    #[test]
    fn a_warm_process_answers_line_by_line_and_is_stopped_in_between() {
        let mut process =
            shell("echo ready; while read a b c; do echo $a.$b $((a * c)) 0.5; done").unwrap();
        for _ in 0..3 {
            let measured = process.measure(WORKLOAD).unwrap();
            assert_eq!((measured.seconds, measured.prompts), (2.16, Some(0.5)));
            let status = format!("/proc/{}/status", process.child.id());
            // A signal takes a moment to arrive. Where there is no such file, there is nothing to
            // see; where it never says "stopped", the test does not end.
            while std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tT")) {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn what_a_process_does_wrong_is_said() {
        let table = [
            ("echo hello", "it said `hello`, expected `ready`"),
            ("true", "the process ended"),
            ("echo ready; read l; echo fast", "expected `SECONDS TOKENS`"),
            (
                "echo ready; read l; echo 1.5 63",
                "63 tokens, 64 were asked for",
            ),
            ("echo ready; read l; echo 0 64", "0 seconds can't be right"),
            (
                "echo ready; read l; echo NaN 64",
                "NaN seconds can't be right",
            ),
            (
                "echo ready; read l; echo 1 64 x",
                "expected `SECONDS TOKENS`",
            ),
            (
                "echo ready; read l; echo 1 64 1.5",
                "seconds for the prompts of 1 can't be right",
            ),
            ("echo ready; read l; exit", "the process ended"),
        ];
        for (script, expected) in table {
            let error = shell(script)
                .and_then(|mut process| process.measure(WORKLOAD))
                .unwrap_err();
            let message = format!("{error:#}");
            assert!(message.contains(expected), "{script}: {message}");
        }
    }

    #[test]
    fn numbers_are_found_in_a_line_that_is_no_json() {
        let line = r#"{"pp": 16, "t_pp": 0.125000, "speed_tg": -nan, "t_tg": 0.25}"#;
        assert_eq!(field(line, "t_pp"), Some(0.125));
        assert_eq!(field(line, "t_tg"), Some(0.25));
        assert_eq!(field(line, "t"), None);
    }

    #[test]
    fn the_prompt_gives_the_first_token() {
        let program = Batched {
            program: "bench".into(),
            gguf: "m.gguf".into(),
            threads: 3,
        };
        let command = program.command(WORKLOAD);
        let words: Vec<_> = command
            .get_args()
            .filter_map(|word| word.to_str())
            .collect();
        assert_eq!(
            words.join(" "),
            "-m m.gguf -npl 2 -npp 16 -ntg 31 -c 96 -t 3 -tb 3 --output-format jsonl"
        );
    }
}
