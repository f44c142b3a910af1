//! The time limits of a request.

use std::time::Duration;

use crate::request::limits::MAX_TIME_LIMIT_S;
use crate::{ServiceOptions, Violation};

/// What is wrong with them.
pub(super) fn check(service: &ServiceOptions) -> impl Iterator<Item = Violation> {
    let limits = [
        ("service.queue_timeout", service.queue_timeout),
        ("service.time_limit", service.time_limit),
    ];
    limits.into_iter().filter_map(|(field, limit)| {
        let limit = limit?;
        let most = Duration::from_secs(MAX_TIME_LIMIT_S);
        let description = format!(
            "is {} s; expected more than 0 and at most {MAX_TIME_LIMIT_S} s",
            limit.as_secs_f64()
        );
        let holds = !limit.is_zero() && limit <= most;
        (!holds).then(|| Violation::new(field, description))
    })
}
