//! `maitre bench --line-by-line`: one warm engine measured on demand, for a program that has several
//! take turns.
//!
//! ```text
//! engine                                        program
//! ready                                    ->
//!                                          <-   4 16 32          users, prompt and answer tokens
//! 0.713204 128 0.052011                    ->                    seconds, generated tokens, seconds to the
//!                                                                last of the first tokens
//!                                          <-   limits
//! read=3.1e10 f32=2.3e11 bf16=… int8=…     ->                    bytes or operations a second
//! ```
//!
//! Where there are prompts to ask in turn, they decide over prompt tokens, and the number is passed over.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use maitre::bench::workload::mix;
use maitre::bench::{Load, MonotonicClock, Questions, Settings, Stop, Target, Workload, measure};
use maitre_tensor::Limits;

/// Time for the limits: they are asked for again and again.
const LIMITS_BUDGET: Duration = Duration::from_millis(500);

/// Answers until stdin ends. `asked` says what is asked beside what the lines say.
pub(super) async fn run(target: &dyn Target, mut asked: Settings, threads: usize) -> Result<()> {
    say("ready")?;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        let answer = if line == "limits" {
            limits(threads)?
        } else {
            run_once(target, &mut asked, &line, number as u64).await?
        };
        say(&answer)?;
    }
    Ok(())
}

fn say(answer: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

/// All requests at once, each user asking one. The number of the line chooses the prompts, so that
/// none is ever found in the prefix cache; of prompts to be asked in turn, the next ones are asked.
async fn run_once(
    target: &dyn Target,
    asked: &mut Settings,
    line: &str,
    number: u64,
) -> Result<String> {
    let (users, workload) = parse(line)
        .with_context(|| format!("`{line}`: expected `USERS INPUT_TOKENS OUTPUT_TOKENS`"))?;
    let workload = Workload {
        seed: mix(asked.workload.seed).wrapping_add(number),
        prompt_seed: asked.workload.prompt_seed,
        ..workload
    };
    let settings = Settings {
        workload,
        loads: vec![Load::Users(users)],
        ..asked.clone()
    };
    let clock = MonotonicClock::default();
    let report = measure(target, &clock, &settings, &Stop::default(), |_| {}).await?;
    super::warn(&report.warnings);
    if let Questions::InTurn(prompts) = &mut asked.questions {
        prompts.advance(users as usize);
    }
    ensure!(report.is_complete(), "some requests failed:\n{report}");
    let [run] = report.runs.as_slice() else {
        bail!("one concurrency gave {} runs", report.runs.len());
    };
    let prompts_ms = run.ttft_ms.as_ref().map_or(f64::NAN, |ttft| ttft.max);
    let (seconds, prompts) = (run.duration_s, prompts_ms / 1e3);
    Ok(format!("{seconds:.6} {} {prompts:.6}", run.output_tokens))
}

fn parse(line: &str) -> Option<(u32, Workload)> {
    let numbers: Vec<u32> = line
        .split_ascii_whitespace()
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    let [users, input_tokens, output_tokens] = numbers[..] else {
        return None;
    };
    let workload = Workload {
        requests: Some(users as usize),
        ..Workload::of(input_tokens, output_tokens)
    };
    Some((users, workload))
}

fn limits(threads: usize) -> Result<String> {
    let limits = Limits::measure(threads, LIMITS_BUDGET)?;
    Ok(format!(
        "read={:e} f32={:e} bf16={:e} int8={:e}",
        limits.read_bytes_per_s, limits.f32_flops, limits.bf16_flops, limits.int8_ops
    ))
}
