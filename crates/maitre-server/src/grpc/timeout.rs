//! The gRPC deadline of a call, read from its `grpc-timeout` header.
//!
//! The header is taken out of the request before the generated services see it and becomes a
//! [`Deadline`](crate::service::deadline::Deadline) in the request's extensions, so that one rule holds everywhere: a
//! call that outlives it ends with DEADLINE_EXCEEDED, a header that cannot be read is refused rather than ignored.
//! (tonic's own server would bound only the time to the response's headers and answer CANCELLED.)
//!
//! Format: "gRPC over HTTP2", section Requests: `TimeoutValue TimeoutUnit`, at most eight digits,
//! then one of `H M S m u n`.

use std::time::Duration;

use axum::http::HeaderMap;

use crate::service::api_error::{ApiError, Kind};

const HEADER: &str = "grpc-timeout";
const MAX_DIGITS: usize = 8;

/// A `grpc-timeout` header that does not follow the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "grpc-timeout is {found:?}; expected 1 to 8 digits and one of the units H, M, S, m, u, n, such as \"30S\""
)]
pub(crate) struct MalformedTimeout {
    found: String,
}

impl From<MalformedTimeout> for ApiError {
    fn from(malformed: MalformedTimeout) -> Self {
        malformed_timeout(malformed.to_string())
    }
}

/// A header has no field to point at.
pub(crate) fn malformed_timeout(message: impl Into<String>) -> ApiError {
    ApiError::new(Kind::Invalid, "MALFORMED_HEADER", message).with([("header", HEADER.to_owned())])
}

/// Removes the header and returns what it says; `None` when there is no such header.
pub(crate) fn take_timeout(headers: &mut HeaderMap) -> Result<Option<Duration>, MalformedTimeout> {
    let mut values = headers.get_all(HEADER).iter();
    let timeout = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(parse(value.as_bytes())?),
        (Some(_), Some(_)) => {
            return Err(MalformedTimeout {
                found: "given more than once".to_owned(),
            });
        }
    };
    headers.remove(HEADER);
    Ok(timeout)
}

fn parse(value: &[u8]) -> Result<Duration, MalformedTimeout> {
    let malformed = || MalformedTimeout {
        found: String::from_utf8_lossy(value).into_owned(),
    };
    let (unit, digits) = value.split_last().ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let amount = digits
        .iter()
        .fold(0_u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(amount * 3600)),
        b'M' => Ok(Duration::from_secs(amount * 60)),
        b'S' => Ok(Duration::from_secs(amount)),
        b'm' => Ok(Duration::from_millis(amount)),
        b'u' => Ok(Duration::from_micros(amount)),
        b'n' => Ok(Duration::from_nanos(amount)),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn taken(values: &[&[u8]]) -> Result<Option<Duration>, MalformedTimeout> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        take_timeout(&mut headers)
    }

    #[test]
    fn every_unit_is_read() {
        for (text, expected) in [
            ("3H", Duration::from_secs(10_800)),
            ("2M", Duration::from_secs(120)),
            ("30S", Duration::from_secs(30)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("9n", Duration::from_nanos(9)),
            ("0S", Duration::ZERO),
            ("00000001S", Duration::from_secs(1)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(taken(&[text.as_bytes()]), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn whatever_the_specification_does_not_allow_is_malformed() {
        for text in [
            "",
            "S",
            "5",
            "5s",
            "5 S",
            "+5S",
            "-5S",
            "5.0S",
            "123456789S",
            "S5",
            "1S1",
        ] {
            assert!(taken(&[text.as_bytes()]).is_err(), "{text:?}");
        }
        assert!(taken(&[b"\xff\xfeS"]).is_err());
        assert!(taken(&[b"1S", b"2S"]).is_err());
    }

    #[test]
    fn the_header_is_gone_afterwards() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static("5S"));
        assert_eq!(take_timeout(&mut headers), Ok(Some(Duration::from_secs(5))));
        assert_eq!(take_timeout(&mut headers), Ok(None));
    }
}
