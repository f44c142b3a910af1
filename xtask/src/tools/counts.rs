//! What the server has counted itself, read from `/metrics`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Sub;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long the server may take to count what it has answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Totals since the server's start, or what came between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Answers that ended as they should.
    pub(super) finished: u64,
    /// Requests that failed, expired, were refused or were given up by their client.
    pub(super) unfinished: u64,
    pub(super) prompt_tokens: u64,
    pub(super) generated_tokens: u64,
}

impl Counts {
    /// The totals as soon as nothing is under way any more.
    pub(super) fn read(url: &str) -> Result<Self> {
        let start = Instant::now();
        loop {
            let text = metrics(url)?;
            let under_way = ["maitre_requests_running", "maitre_requests_waiting"];
            if under_way.map(|name| total(&text, name)) == [0, 0] {
                return Ok(Self::of(&text));
            }
            ensure!(start.elapsed() < PATIENCE, "requests are still under way");
            std::thread::yield_now();
        }
    }

    fn of(text: &str) -> Self {
        let unfinished = ["failed", "expired", "refused", "cancelled"]
            .map(|how| total(text, &format!("maitre_requests_{how}_total")));
        Self {
            finished: total(text, "maitre_requests_finished_total"),
            unfinished: unfinished.iter().sum(),
            prompt_tokens: total(text, "maitre_prompt_tokens_total"),
            generated_tokens: total(text, "maitre_generation_tokens_total"),
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            finished: self.finished - earlier.finished,
            unfinished: self.unfinished - earlier.unfinished,
            prompt_tokens: self.prompt_tokens - earlier.prompt_tokens,
            generated_tokens: self.generated_tokens - earlier.generated_tokens,
        }
    }
}

/// The answer of `/metrics`, its head included.
fn metrics(url: &str) -> Result<String> {
    let address = url.strip_prefix("http://").unwrap_or(url);
    let mut stream = TcpStream::connect(address).with_context(|| format!("calling {url}"))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(
        text.contains("maitre_prompt_tokens_total"),
        "/metrics is {text:?}"
    );
    Ok(text)
}

/// The sum over all labels of a metric.
fn total(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_whole_name = rest.starts_with([' ', '{']);
        let value = rest.rsplit(' ').next()?.parse::<f64>().ok()?;
        is_whole_name.then_some(value as u64)
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE maitre_requests_finished_total counter
maitre_requests_finished_total{reason=\"stop\"} 357
maitre_requests_finished_total{reason=\"length\"} 3
maitre_requests_refused_total{reason=\"queue_full\"} 2
maitre_requests_failed_total 1
maitre_prompt_tokens_total 1234
maitre_prompt_tokens_total_of_others 7
maitre_generation_tokens_total 5
maitre_requests_waiting 0
maitre_requests_waiting_by_reason{reason=\"preempted\"} 4
";

    #[test]
    fn labels_are_added_up_and_other_names_are_not() {
        let counts = Counts::of(TEXT);
        let expected = Counts {
            finished: 360,
            unfinished: 3,
            prompt_tokens: 1234,
            generated_tokens: 5,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts - counts, Counts::default());
        assert_eq!(total(TEXT, "maitre_requests_waiting"), 0);
    }
}
