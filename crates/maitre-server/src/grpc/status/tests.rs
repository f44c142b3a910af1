//! What clients of gRPC see of a failure.

use super::*;
use crate::grpc::timeout::malformed_timeout;
use std::collections::BTreeMap;
use std::time::Duration;

use maitre_engine::byte_budget::BudgetSpent;
use maitre_engine::{EngineError, MissedEvents};

use crate::service::call_pools::{Class, Refusal};

/// (error, code, reason, carries BadRequest, carries RetryInfo)
#[test]
fn every_engine_error_has_its_code_and_details() {
    let ms = Duration::from_millis;
    let table = [
        (
            EngineError::Invalid {
                violations: vec![Violation::new("sampling.top_p", "2")],
            },
            (Code::InvalidArgument, "INVALID_REQUEST", true, None),
        ),
        (
            EngineError::DuplicateRequest {
                request_id: "a".into(),
            },
            (Code::AlreadyExists, "DUPLICATE_REQUEST_ID", true, None),
        ),
        (
            EngineError::QueueFull {
                limit: 3,
                retry_after: ms(250),
            },
            (Code::ResourceExhausted, "QUEUE_FULL", false, Some(ms(250))),
        ),
        (
            EngineError::TenantQueueFull {
                own: 4,
                free: 2,
                unit: "sequences",
                retry_after: ms(70),
            },
            (
                Code::ResourceExhausted,
                "TENANT_QUEUE_FULL",
                false,
                Some(ms(70)),
            ),
        ),
        (
            EngineError::QueueTokensFull {
                queued_tokens: 9,
                new_tokens: 3,
                limit: 10,
                retry_after: ms(80),
            },
            (
                Code::ResourceExhausted,
                "QUEUE_TOKENS_FULL",
                false,
                Some(ms(80)),
            ),
        ),
        (
            EngineError::Overloaded {
                estimate: ms(900),
                limit: ms(500),
                whose: "this server allows",
                retry_after: ms(400),
            },
            (Code::ResourceExhausted, "OVERLOADED", false, Some(ms(400))),
        ),
        (
            EngineError::StopStringsFull {
                bytes: 65536,
                free: 7,
                limit: 1 << 21,
                retry_after: ms(1000),
            },
            (
                Code::ResourceExhausted,
                "STOP_STRINGS_FULL",
                false,
                Some(ms(1000)),
            ),
        ),
        (
            EngineError::UnreadBytesFull {
                needed: 9,
                free: 8,
                retry_after: ms(60),
            },
            (
                Code::ResourceExhausted,
                "UNREAD_BYTES_FULL",
                false,
                Some(ms(60)),
            ),
        ),
        (
            EngineError::QueueTimeout,
            (Code::DeadlineExceeded, "QUEUE_TIMEOUT", false, None),
        ),
        (
            EngineError::DeadlineExceeded,
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", false, None),
        ),
        (
            EngineError::Cancelled,
            (Code::Cancelled, "CANCELLED", false, None),
        ),
        (
            EngineError::Draining,
            (Code::Unavailable, "DRAINING", false, None),
        ),
        (
            EngineError::SlowReceiver { unread: 9 },
            (Code::ResourceExhausted, "SLOW_RECEIVER", false, None),
        ),
        (
            EngineError::Failed {
                message: "NaN".into(),
            },
            (Code::Internal, "REQUEST_FAILED", false, None),
        ),
        (
            EngineError::ConstraintFailed {
                message: "too many states".into(),
            },
            (Code::InvalidArgument, "CONSTRAINT_FAILED", false, None),
        ),
        (
            EngineError::Stopped,
            (Code::Unavailable, "ENGINE_STOPPED", false, None),
        ),
    ];
    for (error, (code, reason, bad_request, retry)) in table {
        let status = Status::from(ApiError::from(error.clone()));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(status.code(), code, "{error:?}");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (reason, DOMAIN)
        );
        assert_eq!(details.bad_request().is_some(), bad_request, "{error:?}");
        assert_eq!(
            details.retry_info().and_then(|info| info.retry_delay),
            retry,
            "{error:?}"
        );
        let exhausted = code == Code::ResourceExhausted;
        assert_eq!(details.quota_failure().is_some(), exhausted, "{error:?}");
    }
}

#[test]
fn all_violations_are_reported_as_far_as_headers_can_carry_them() {
    let violations = |count: usize| -> Vec<Violation> {
        (0..count)
            .map(|i| Violation::new(format!("stopping.stop[{i}]"), "é".repeat(20)))
            .collect()
    };
    let few = Status::from(ApiError::invalid(violations(20)));
    assert_eq!(
        few.get_details_bad_request()
            .unwrap()
            .field_violations
            .len(),
        20
    );

    let many = Status::from(ApiError::invalid(violations(1000)));
    let listed = many.get_details_bad_request().unwrap().field_violations;
    let named = listed.len() - 1;
    assert_eq!(
        listed[named].description,
        format!("and {} more violations", 1000 - named)
    );

    let mut headers = axum::http::HeaderMap::new();
    many.add_header(&mut headers).unwrap();
    let size: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    assert!(size < 8192 - 512, "{size} bytes of headers");
}

#[test]
fn long_names_are_cut_at_a_character() {
    let status = Status::from(ApiError::unknown_model(&"é".repeat(5000), "bundled"));
    assert!(status.message().len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert!(metadata["model"].len() <= MAX_METADATA_BYTES + '…'.len_utf8());
    assert_eq!(metadata["served"], "bundled");
}

/// All that a client can see of a status.
fn described(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let (code, message) = (status.code(), status.message());
    let mut text = format!("{code:?} {} {}\n  {message}\n", info.reason, info.domain);
    for (key, value) in info.metadata.iter().collect::<BTreeMap<_, _>>() {
        text += &format!("  {key}: {value}\n");
    }
    if let Some(retry) = details.retry_info() {
        text += &format!("  retry {:?}\n", retry.retry_delay);
    }
    for it in details.quota_failure().iter().flat_map(|it| &it.violations) {
        text += &format!("  quota {}: {}\n", it.subject, it.description);
    }
    for it in details
        .bad_request()
        .iter()
        .flat_map(|it| &it.field_violations)
    {
        text += &format!("  field {}: {}\n", it.field, it.description);
    }
    text
}

fn failures_of_the_engine() -> Vec<EngineError> {
    let ms = Duration::from_millis;
    let long = |index: usize| Violation::new(format!("f[{index}]"), "x".repeat(200));
    vec![
        EngineError::Invalid {
            violations: vec![
                Violation::new("sampling.top_p", "is 2"),
                Violation::new("n", "é".repeat(700)),
            ],
        },
        EngineError::Invalid {
            violations: (0..40).map(long).collect(),
        },
        EngineError::DuplicateRequest {
            request_id: "a".into(),
        },
        EngineError::QueueFull {
            limit: 3,
            retry_after: ms(250),
        },
        EngineError::TenantQueueFull {
            own: 4,
            free: 2,
            unit: "sequences",
            retry_after: ms(70),
        },
        EngineError::QueueTokensFull {
            queued_tokens: 9,
            new_tokens: 3,
            limit: 10,
            retry_after: ms(80),
        },
        EngineError::Overloaded {
            estimate: ms(900),
            limit: ms(500),
            whose: "this server allows",
            retry_after: ms(400),
        },
        EngineError::StopStringsFull {
            bytes: 65536,
            free: 7,
            limit: 1 << 21,
            retry_after: ms(1000),
        },
        EngineError::UnreadBytesFull {
            needed: 9,
            free: 8,
            retry_after: ms(60),
        },
        EngineError::QueueTimeout,
        EngineError::DeadlineExceeded,
        EngineError::Cancelled,
        EngineError::Draining,
        EngineError::SlowReceiver { unread: 9 },
        EngineError::Failed {
            message: "NaN".into(),
        },
        EngineError::Stopped,
    ]
}

fn refusals_of_the_server() -> Vec<ApiError> {
    let spent = BudgetSpent {
        asked: 5,
        own: 3,
        free: 7,
        total: 9,
    };
    let mut refusals = vec![
        ApiError::unknown_model("other", "bundled"),
        ApiError::unknown_model(&"é".repeat(700), "bundled"),
        ApiError::loading("reading weights"),
        ApiError::no_cache_events(),
        ApiError::missed_events(MissedEvents { batches: 12 }),
        ApiError::internal("a task died"),
        ApiError::too_many_connections(4),
        ApiError::displaced(),
        ApiError::request_timeout(),
        ApiError::request_bytes_spent(&spent),
        ApiError::answer_bytes_spent(&spent),
        ApiError::stream_too_long(1 << 20),
    ];
    for class in [
        Class::Work,
        Class::Control,
        Class::Health,
        Class::Watch,
        Class::Reflection,
    ] {
        for refusal in [
            Refusal::Full { limit: 8 },
            Refusal::Share { own: 2, limit: 8 },
        ] {
            refusals.push(ApiError::refused_call(class, refusal));
        }
    }
    refusals.push(malformed_timeout("it is wrong"));
    refusals
}

/// Programs act on these, so that a changed word is a changed API. The texts were written by the code that made
/// statuses of failures before there was an [`ApiError`].
#[test]
fn what_clients_see_of_a_failure_stays_as_it_is() {
    let of_the_engine = failures_of_the_engine().into_iter().map(ApiError::from);
    let all = of_the_engine.chain(refusals_of_the_server());
    let mut seen: String = all.map(|error| described(&error.into())).collect();
    for (code, message) in [
        (Code::OutOfRange, "too large"),
        (Code::ResourceExhausted, "too large"),
        (Code::Internal, "bad bytes"),
        (Code::Unimplemented, ""),
        (Code::Unimplemented, "no zstd"),
        (Code::Aborted, "aborted"),
    ] {
        seen += &described(&from_library(Status::new(code, message)));
    }
    let expected = include_str!("statuses.txt");
    for (line, (seen, expected)) in seen.lines().zip(expected.lines()).enumerate() {
        assert_eq!(seen, expected, "line {}", line + 1);
    }
    assert_eq!(seen.lines().count(), expected.lines().count());
}
