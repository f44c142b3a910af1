//! What a caller is told of a request that the queue refused.

use maitre_scheduler::queue::{QueueRefusal, WaitLimit};

use crate::EngineError;

impl From<QueueRefusal> for EngineError {
    fn from(refusal: QueueRefusal) -> Self {
        match refusal {
            QueueRefusal::Full {
                limit, retry_after, ..
            } => Self::QueueFull { limit, retry_after },
            QueueRefusal::TokensFull {
                waiting,
                new,
                limit,
                retry_after,
            } => Self::QueueTokensFull {
                queued_tokens: waiting,
                new_tokens: new,
                limit,
                retry_after,
            },
            QueueRefusal::TenantFull {
                own,
                free,
                unit,
                retry_after,
                ..
            } => Self::TenantQueueFull {
                own,
                free,
                unit: unit.name(),
                retry_after,
            },
            QueueRefusal::WaitTooLong {
                estimate,
                limit,
                limited_by,
                retry_after,
            } => Self::Overloaded {
                estimate,
                limit,
                whose: match limited_by {
                    WaitLimit::Queue => "this server allows",
                    WaitLimit::QueueTimeout => "its queue_timeout allows",
                },
                retry_after,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maitre_scheduler::queue::QueueUnit;

    use super::*;

    #[test]
    fn a_caller_is_told_in_these_words() {
        let retry_after = Duration::from_millis(200);
        let too_long = |limited_by| QueueRefusal::WaitTooLong {
            estimate: Duration::from_millis(700),
            limit: Duration::from_millis(550),
            limited_by,
            retry_after,
        };
        let cases = [
            (
                QueueRefusal::Full {
                    waiting: 7,
                    new: 2,
                    limit: 8,
                    retry_after,
                },
                "the queue is full (8 requests wait); try again in 200 ms",
            ),
            (
                QueueRefusal::TokensFull {
                    waiting: 900,
                    new: 200,
                    limit: 1000,
                    retry_after,
                },
                "900 prompt tokens wait, and with this request's 200 the limit of 1000 would be passed; try again \
                 in 200 ms",
            ),
            (
                QueueRefusal::TenantFull {
                    own: 4,
                    new: 1,
                    free: 2,
                    unit: QueueUnit::Sequences,
                    retry_after,
                },
                "this tenant has 4 sequences waiting, and 2 are left for all others; try again in 200 ms",
            ),
            (
                QueueRefusal::TenantFull {
                    own: 500,
                    new: 100,
                    free: 500,
                    unit: QueueUnit::PromptTokens,
                    retry_after,
                },
                "this tenant has 500 prompt tokens waiting, and 500 are left for all others; try again in 200 ms",
            ),
            (
                too_long(WaitLimit::Queue),
                "the request would wait about 700 ms for its first step, more than the 550 ms this server allows; \
                 try again in 200 ms",
            ),
            (
                too_long(WaitLimit::QueueTimeout),
                "the request would wait about 700 ms for its first step, more than the 550 ms its queue_timeout \
                 allows; try again in 200 ms",
            ),
        ];
        for (refusal, text) in cases {
            assert_eq!(EngineError::from(refusal).to_string(), text);
        }
    }
}
