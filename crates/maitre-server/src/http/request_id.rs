//! `x-request-id`: a name that a client or a proxy gives a request to find it again in logs. It comes back in the
//! answer's headers; a request without one is given one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that is taken over; a longer one is replaced.
const MAX_BYTES: usize = 256;

/// The name of one HTTP request: visible ASCII.
#[derive(Debug, Clone)]
pub(crate) struct RequestName(Arc<str>);

impl RequestName {
    /// The one in the headers, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(X_REQUEST_ID).and_then(|it| it.to_str().ok());
        match given {
            Some(given) if !given.is_empty() && given.len() <= MAX_BYTES => Self(given.into()),
            _ => Self(made_up().into()),
        }
    }

    /// As it stands in a header.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 128 random bits; where the system has none to give, a number that counts up.
fn made_up() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 16];
    match getrandom::fill(&mut random) {
        Ok(()) => format!("{:032x}", u128::from_le_bytes(random)),
        Err(_) => format!("{:032x}", COUNT.fetch_add(1, Ordering::Relaxed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_can_be_used_is_kept_and_another_replaced() {
        let of = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
            RequestName::of(&headers).to_string()
        };
        assert_eq!(of(b"mine-1"), "mine-1");
        for unusable in [&b""[..], &[b'x'; 257], "é".as_bytes()] {
            assert_eq!(of(unusable).len(), 32, "{unusable:?}");
        }
        let new = || RequestName::of(&HeaderMap::new()).to_string();
        assert_ne!(new(), new());
    }
}
