//! The memory that a server promised to stay within: the sum of its banner's parts.

use anyhow::{Context, Result, ensure};

const MIB: f64 = 1024.0 * 1024.0;

/// Bytes of all parts in a line such as `memory: weights 11.0 MiB, KV cache 896.0 MiB (16384 blocks, …),
/// available 23062.9 MiB`. What the machine has available is no part of the budget.
pub(crate) fn bytes_of_banner(line: &str) -> Result<u64> {
    let (_, parts) = line
        .split_once("memory: ")
        .with_context(|| format!("no `memory: ` in {line:?}"))?;
    let parts = without_parentheses(parts);
    let mut sum = 0.0;
    for part in parts.split([',', ';']).map(str::trim) {
        let words: Vec<&str> = part.split_whitespace().collect();
        if matches!(words.first(), None | Some(&"available")) {
            continue;
        }
        sum += words
            .windows(2)
            .find_map(|pair| Some(pair[0].parse::<f64>().ok()? * unit(pair[1])?))
            .with_context(|| format!("no number of bytes in {part:?} of {line:?}"))?;
    }
    ensure!(sum > 0.0, "no part of a budget in {line:?}");
    Ok(sum as u64)
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
                    (16384 blocks of 16 tokens, 3584 bytes a token), host KV 0.0 MiB, requests 1.0 GiB, \
                    available 23062.9 MiB";
        let mib = 11 + 2 + 896 + 1024;
        assert_eq!(bytes_of_banner(line).unwrap(), mib << 20);
    }

    #[test]
    fn a_line_that_is_no_budget_is_an_error() {
        for (line, reason) in [
            ("limits: 2048 tokens", "no `memory: `"),
            ("memory: weights heavy, KV cache 1.0 MiB", "weights heavy"),
            ("memory: available 1.0 MiB", "no part of a budget"),
        ] {
            let error = bytes_of_banner(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
