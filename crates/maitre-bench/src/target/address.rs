//! The command line's words for what to measure and how hard.

use std::fmt;
use std::str::FromStr;

use crate::BenchError;

/// Most users at once: each is a stream, and the client must not become what is measured.
const MAX_CONCURRENCY: u32 = 65_536;

/// Where the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `grpc://HOST:PORT`: a server; the value is `HOST:PORT`.
    Grpc(String),
    /// `http://HOST:PORT/v1`: a server with OpenAI's API; the value is the address.
    OpenAi(String),
    /// `in-process`: an engine of this process.
    InProcess,
}

impl FromStr for Address {
    type Err = BenchError;

    fn from_str(given: &str) -> Result<Self, BenchError> {
        if given == "in-process" {
            return Ok(Self::InProcess);
        }
        let refused = || BenchError::Address {
            given: given.to_string(),
        };
        if let Some(rest) = given.strip_prefix("http://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let path = path.trim_end_matches('/');
            // Of an address without a path the API is meant.
            let path = if path.is_empty() { "v1" } else { path };
            let is_path = path
                .chars()
                .all(|c| c.is_ascii_graphic() && !"?#@".contains(c));
            return (is_authority(authority) && is_path)
                .then(|| Self::OpenAi(format!("http://{authority}/{path}")))
                .ok_or_else(refused);
        }
        let authority = given
            .strip_prefix("grpc://")
            .map(|rest| rest.trim_end_matches('/'));
        authority
            .filter(|authority| is_authority(authority))
            .map(|authority| Self::Grpc(authority.to_string()))
            .ok_or_else(refused)
    }
}

/// Whether it is `HOST:PORT`.
fn is_authority(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = !host.contains([':', '/', '@']);
        !host.is_empty() && (bracketed || plain) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(authority) => write!(f, "grpc://{authority}"),
            Self::OpenAi(address) => f.write_str(address),
            Self::InProcess => f.write_str("in-process"),
        }
    }
}

/// Reads a list such as `1,4,16`.
///
/// # Errors
/// [`BenchError::Concurrency`] for anything but positive numbers separated by commas.
pub fn parse_concurrency(given: &str) -> Result<Vec<u32>, BenchError> {
    let numbers = given.split(',').map(|number| number.trim().parse().ok());
    numbers
        .map(|number| number.filter(|n| (1..=MAX_CONCURRENCY).contains(n)))
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| BenchError::Concurrency {
            given: given.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_or_refused_by_name() {
        for good in [
            "grpc://127.0.0.1:50051",
            "grpc://localhost:1",
            "grpc://[::1]:80",
            "in-process",
            "http://127.0.0.1:8080/v1",
            "http://[::1]:80/proxy/v1",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for short in ["http://h:80", "http://h:80/", "http://h:80/v1/"] {
            let address = short.parse::<Address>().unwrap().to_string();
            assert_eq!(address, "http://h:80/v1", "{short}");
        }
        for bad in [
            "",
            "grpc://",
            "grpc://host",
            "grpc://host:",
            "grpc://host:0",
            "grpc://host:99999",
            "grpc://:80",
            "grpc://a:b:80",
            "grpc://u@h:80",
            "grpc://h/x:80",
            "http://h",
            "http://h:0/v1",
            "http://u@h:80/v1",
            "http://h:80/v1?x",
            "https://h:80/v1",
            "h:80",
        ] {
            let message = bad.parse::<Address>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{bad}`")), "{message}");
        }
    }

    #[test]
    fn concurrencies_are_positive_numbers() {
        assert_eq!(parse_concurrency("1,4, 16").unwrap(), [1, 4, 16]);
        for bad in ["", "0", "1,,2", "1,-2", "four", "99999999"] {
            assert!(parse_concurrency(bad).is_err(), "{bad}");
        }
    }
}
