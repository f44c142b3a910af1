//! What `maitre bench`, GuideLLM and AIPerf say of the same server. Its steps take 100 ms beyond what they need, so that the server is the same
//! for all of them however busy the machine is, and what they disagree about is how they count.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::row::aligned;
use super::session::{Session, empty_folder, json, model_folder, number, silently};
use crate::cargo::program;
use crate::server::Server;

/// The server, an example of `maitre-benches`.
pub(super) const SERVER: &str = "slowed_server";

const STEP_MS: &str = "100";

/// How far what two of them say may be apart.
const TOLERATED: f64 = 0.03;

const PROMPT: &str = "64";
const ANSWER: &str = "32";

/// Users at once, and requests of all of them.
const LOADS: [(&str, &str); 2] = [("1", "12"), ("4", "32")];

/// What is compared, in milliseconds but for the last: time to the first token, time between tokens, time to the end, and tokens a second.
const NUMBERS: [&str; 4] = ["TTFT p50", "TPOT p50", "E2E p50", "output tok/s"];

/// What a tool says.
struct Told {
    tool: &'static str,
    users: &'static str,
    numbers: [f64; 4],
}

pub(super) fn run(built: &Path) -> Result<()> {
    let mut server = program(built.join("examples").join(SERVER));
    let server = Server::spawn(server.args(["--step-ms", STEP_MS]))?;
    let mut told = Vec::new();
    for (users, requests) in LOADS {
        told.push(bench(&built.join("maitre"), &server, users, requests)?);
        told.push(guidellm(&server, users, requests)?);
        told.push(aiperf(&server, users, requests)?);
    }
    println!("\n{}", table(&told));
    let apart = apart(&told);
    ensure!(apart.is_empty(), "{}", apart.join("\n"));
    println!("all within {:.0} %", TOLERATED * 100.0);
    Ok(())
}

fn bench(maitre: &Path, server: &Server, users: &'static str, requests: &str) -> Result<Told> {
    println!("maitre bench, {users} users");
    let output = program(maitre)
        .args(["bench", "--json", "--target"])
        .arg(format!("{}/v1", server.url()))
        .args(["--concurrency", users, "--requests", requests])
        .args(["--input-tokens", PROMPT, "--output-tokens", ANSWER])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| number(&report, &format!("/runs/0/{name}"));
    Ok(Told {
        tool: "maitre bench",
        users,
        numbers: [
            number("ttft_ms/p50")?,
            number("tpot_ms/p50")?,
            number("e2e_ms/p50")?,
            number("output_tokens_per_second")?,
        ],
    })
}

fn guidellm(server: &Server, users: &'static str, requests: &str) -> Result<Told> {
    println!("guidellm, {users} users");
    let command = Session::python("guidellm")?.with_file_name("guidellm");
    let folder = empty_folder(&format!("times guidellm {users}"))?;
    let results = folder.join("results.json");
    let backend = format!(
        "kind=openai_http,target={},request_format=/v1/completions",
        server.url()
    );
    let tokenizer = format!("kind=huggingface_auto,model={}", model_folder().display());
    let mut command = program(&command);
    command
        .env("HF_HUB_OFFLINE", "1")
        .args(["run", "--backend", &backend])
        .args(["--profile", &format!("kind=concurrent,streams={users}")])
        .args([
            "--constraint",
            &format!("kind=max_requests,count={requests}"),
        ])
        .args(["--tokenizer", &tokenizer, "--data"])
        .arg(format!(
            "kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={ANSWER}"
        ))
        .args(["--output", &format!("kind=json,path={}", results.display())])
        .arg("--disable-progress");
    silently(&mut command, &folder.join("output.txt"))?;
    let results = json(&results)?;
    let part = results.pointer("/benchmarks/0").context("no benchmark")?;
    let number = |name: &str| number(part, &format!("/metrics/{name}"));
    Ok(Told {
        tool: "guidellm",
        users,
        numbers: [
            number("time_to_first_token_ms/successful/median")?,
            number("inter_token_latency_ms/successful/median")?,
            1e3 * number("request_latency/successful/median")?,
            number("output_tokens_per_second/successful/mean")?,
        ],
    })
}

fn aiperf(server: &Server, users: &'static str, requests: &str) -> Result<Told> {
    println!("aiperf, {users} users");
    let command = Session::python("aiperf")?.with_file_name("aiperf");
    let folder = empty_folder(&format!("times aiperf {users}"))?;
    let mut command = program(&command);
    command
        .args(["profile", "--model", "bundled", "--url", server.url()])
        .arg("--tokenizer")
        .arg(model_folder())
        .args(["--endpoint-type", "completions", "--streaming"])
        .args(["--concurrency", users, "--request-count", requests])
        .args(["--synthetic-input-tokens-mean", PROMPT])
        .args(["--output-tokens-mean", ANSWER])
        .args(["--extra-inputs", "ignore_eos:true"])
        .args(["--use-server-token-count", "--ui", "none"])
        .arg("--output-artifact-dir")
        .arg(&folder);
    silently(&mut command, &folder.join("output.txt"))?;
    let results = json(&folder.join("profile_export_aiperf.json"))?;
    let number = |name: &str| number(&results, &format!("/{name}"));
    Ok(Told {
        tool: "aiperf",
        users,
        numbers: [
            number("time_to_first_token/p50")?,
            number("inter_token_latency/p50")?,
            number("request_latency/p50")?,
            number("output_token_throughput/avg")?,
        ],
    })
}

fn table(told: &[Told]) -> String {
    let mut header = vec!["users".to_owned(), "tool".to_owned()];
    header.extend(NUMBERS.map(str::to_owned));
    let rows = told.iter().map(|it| {
        let mut row = vec![it.users.to_owned(), it.tool.to_owned()];
        row.extend(it.numbers.map(|number| format!("{number:.2}")));
        row
    });
    aligned(std::iter::once(header).chain(rows))
}

/// Where `maitre bench`, the first of each load, and another tool differ by more than is tolerated.
fn apart(told: &[Told]) -> Vec<String> {
    let mut apart = Vec::new();
    for other in told {
        let Some(ours) = told.iter().find(|it| it.users == other.users) else {
            continue;
        };
        // Of several users the time to the first token depends on where in a step of the others a request comes.
        let untold = usize::from(other.users != "1");
        let numbers = NUMBERS.iter().zip(ours.numbers).zip(other.numbers);
        for ((what, ours), theirs) in numbers.skip(untold) {
            let difference = ours / theirs - 1.0;
            if difference.is_nan() || difference.abs() > TOLERATED {
                apart.push(format!(
                    "{} users, {what}: {ours:.2}, but {} says {theirs:.2} ({:+.1} %)",
                    other.users,
                    other.tool,
                    difference * 100.0
                ));
            }
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_by_more_than_is_tolerated_is_told() {
        let told = |tool, users, e2e| Told {
            tool,
            users,
            numbers: [50.0, 50.0, e2e, 20.0],
        };
        let near = [told("ours", "1", 1000.0), told("theirs", "1", 1029.0)];
        assert!(apart(&near).is_empty());
        let far = [
            told("ours", "1", 1000.0),
            told("ours", "4", 2000.0),
            told("theirs", "4", 2100.0),
        ];
        assert_eq!(
            apart(&far),
            ["4 users, E2E p50: 2000.00, but theirs says 2100.00 (-4.8 %)"]
        );
        let mut by_chance = [told("ours", "4", 1000.0), told("theirs", "4", 1000.0)];
        by_chance[1].numbers[0] = 90.0;
        assert!(apart(&by_chance).is_empty());
        let nothing = [told("ours", "1", 1000.0), told("theirs", "1", f64::NAN)];
        assert_eq!(apart(&nothing).len(), 1);
    }
}
