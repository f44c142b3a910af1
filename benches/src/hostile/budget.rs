//! The memory that a server promised to stay within: the sum of its banner's parts.

use anyhow::{Context, Result, ensure};

const MIB: f64 = 1024.0 * 1024.0;

/// Bytes that a line of the server's log adds to its budget: 0 for a line that is no part of the banner.
pub(crate) fn bytes_in_line(line: &str) -> Result<u64> {
    if let Some((_, parts)) = line.split_once(" memory: ") {
        return of_engine(parts).with_context(|| format!("reading the budget in {line:?}"));
    }
    let clients = line.split_once(" clients: ");
    Ok(clients.map_or(0, |(_, parts)| of_clients(parts)))
}

/// Weights, caches and all that, such as `weights 11.0 MiB, KV cache 896.0 MiB (16384 blocks, …), available
/// 23062.9 MiB`. What the machine has available is no part of the budget.
fn of_engine(parts: &str) -> Result<u64> {
    let mut sum = 0.0;
    for part in without_parentheses(parts).split(',') {
        let part = part.trim();
        if !part.starts_with("available") {
            sum += bytes(part).with_context(|| format!("no number of bytes in {part:?}"))?;
        }
    }
    ensure!(sum > 0.0, "it is empty");
    Ok(sum as u64)
}

/// What clients may take, such as `1408 calls, memory for requests under way 128.0 MiB`: not all of it is bytes.
fn of_clients(parts: &str) -> u64 {
    let parts = without_parentheses(parts);
    parts.split(',').filter_map(bytes).sum::<f64>() as u64
}

/// The number before a unit.
fn bytes(part: &str) -> Option<f64> {
    let words: Vec<&str> = part.split_whitespace().collect();
    words
        .windows(2)
        .find_map(|pair| Some(pair[0].parse::<f64>().ok()? * unit(pair[1])?))
}

fn unit(name: &str) -> Option<f64> {
    match name {
        "B" | "bytes" => Some(1.0),
        "KiB" => Some(1024.0),
        "MiB" => Some(MIB),
        "GiB" => Some(1024.0 * MIB),
        _ => None,
    }
}

/// Remarks in parentheses hold commas and numbers of their own.
fn without_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    let outside = text.chars().filter(|&letter| {
        depth += usize::from(letter == '(');
        let is_outside = depth == 0;
        depth = depth.saturating_sub(usize::from(letter == ')'));
        is_outside
    });
    outside.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_but_the_available_memory_are_the_budget() {
        let line = "2026-11-27T00:17:25Z  INFO memory: weights 11.0 MiB, draft 2.0 MiB, KV cache 896.0 MiB \
                    (16384 blocks of 16 tokens, 3584 bytes a token), host KV 0.0 MiB, unread answers 1.0 GiB, \
                    available 23062.9 MiB";
        let mib = 11 + 2 + 896 + 1024;
        assert_eq!(bytes_in_line(line).unwrap(), mib << 20);
    }

    #[test]
    fn what_clients_may_take_belongs_to_it() {
        let line = "2026-11-27T00:17:25Z  INFO clients: 1408 calls, 4096 connections a port, memory for requests \
                    under way 128.0 MiB, for answers not yet written 64.5 MiB";
        assert_eq!(bytes_in_line(line).unwrap(), 385 << 19);
    }

    #[test]
    fn other_lines_add_nothing() {
        let line = "2026-11-27T00:17:25Z  INFO limits: 2048 tokens a sequence";
        assert_eq!(bytes_in_line(line).unwrap(), 0);
    }

    #[test]
    fn a_budget_that_cannot_be_read_is_an_error() {
        for (line, reason) in [
            (" memory: weights heavy, KV cache 1.0 MiB", "weights heavy"),
            (" memory: available 1.0 MiB", "empty"),
        ] {
            let error = format!("{:#}", bytes_in_line(line).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }
}
