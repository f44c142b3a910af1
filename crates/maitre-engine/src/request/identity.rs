//! Who a request is of and what it is called: the names in it that the engine keeps.

use crate::Violation;
use crate::request::limits::{MAX_REQUEST_ID_BYTES, MAX_TENANT_BYTES};

/// What is wrong with the name of a request. It stands in logs, in headers and in answers, each in one line.
pub(super) fn check_id(id: &str) -> Option<Violation> {
    let description = if id.is_empty() {
        "is empty; leave it out to have one made up".to_owned()
    } else if id.len() > MAX_REQUEST_ID_BYTES {
        let bytes = id.len();
        format!("has {bytes} bytes; at most {MAX_REQUEST_ID_BYTES} are allowed")
    } else {
        let c = id.chars().find(|c| c.is_control())?;
        format!("contains the control character {c:?}; expected text without line breaks")
    };
    Some(Violation::new("request_id", description))
}

/// What is wrong with a name that requests share something under.
pub(super) fn check_shared(field: &str, name: &str) -> Option<Violation> {
    let bytes = name.len();
    (bytes > MAX_TENANT_BYTES).then(|| {
        let description = format!("has {bytes} bytes; at most {MAX_TENANT_BYTES} are allowed");
        Violation::new(field, description)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_in_a_line() {
        for good in [
            "a",
            "chat-1 of Zoë",
            "请求",
            &"x".repeat(MAX_REQUEST_ID_BYTES),
        ] {
            assert_eq!(check_id(good), None, "{good}");
        }
        for bad in ["", "a\nb", "a\r", "\u{1b}[31m", "a\u{85}", &"x".repeat(257)] {
            let found = check_id(bad).unwrap();
            assert_eq!(found.field, "request_id", "{bad:?}");
            assert!(!found.description.contains('\n'), "{}", found.description);
        }
    }
}
