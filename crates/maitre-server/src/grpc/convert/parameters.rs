//! The parameters of a request: sampling, stopping, limits of time, speculation.

use std::time::Duration;

use maitre_engine::limits::MAX_TIME_LIMIT_S;
use maitre_engine::{SamplingOptions, ServiceOptions, Stopping};
use maitre_proto::v1;

use crate::service::violations::Violations;

pub(super) fn sampling_options(given: v1::SamplingParams) -> SamplingOptions {
    SamplingOptions {
        temperature: given.temperature,
        top_p: given.top_p,
        top_k: given.top_k,
        min_p: given.min_p,
        repetition_penalty: given.repetition_penalty,
        frequency_penalty: Some(given.frequency_penalty),
        presence_penalty: Some(given.presence_penalty),
        seed: given.seed,
        logit_bias: given.logit_bias.into_iter().collect(),
    }
}

pub(super) fn stopping(given: v1::StoppingParams) -> Stopping {
    Stopping {
        max_tokens: given.max_tokens,
        min_tokens: given.min_tokens,
        stop: given.stop,
        stop_token_ids: given.stop_token_ids,
        ignore_eos: given.ignore_eos,
        include_stop: given.include_stop,
    }
}

/// Priority and limits.
pub(super) fn service(given: v1::ServiceOptions, found: &mut Violations) -> ServiceOptions {
    let deadline = duration(given.deadline, "service.deadline", found);
    ServiceOptions {
        tenant: given.tenant,
        priority: given.priority,
        queue_timeout: duration(given.queue_timeout, "service.queue_timeout", found),
        deadline,
        time_limit: duration(given.time_limit, "service.time_limit", found),
    }
}

/// Whether tokens may be drafted. A request cannot make an engine draft that never does, so leaving it to the
/// server's setting and allowing it are the same.
pub(super) fn speculate(given: v1::SpeculationOptions, found: &mut Violations) -> bool {
    match v1::SpeculationMode::try_from(given.mode) {
        Ok(v1::SpeculationMode::Unspecified | v1::SpeculationMode::Auto) => true,
        Ok(v1::SpeculationMode::Off) => false,
        Err(_) => {
            let mode = given.mode;
            found.add(
                "speculation.mode",
                format!("is {mode}; expected 0 (the server's setting), 1 (off) or 2 (auto)"),
            );
            true
        }
    }
}

fn duration(
    given: Option<prost_types::Duration>,
    field: &str,
    found: &mut Violations,
) -> Option<Duration> {
    let given = given?;
    let longest = Duration::from_secs(MAX_TIME_LIMIT_S);
    match Duration::try_from(given) {
        Ok(duration) if !duration.is_zero() && duration <= longest => Some(duration),
        _ => {
            let (seconds, nanos) = (given.seconds, given.nanos);
            found.add(
                field,
                format!(
                    "is {seconds} s and {nanos} ns; expected more than 0 and at most {MAX_TIME_LIMIT_S} s"
                ),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drafted_unless_it_is_off_and_unknown_modes_are_refused() {
        for (mode, expected, refused) in [
            (0, true, &[][..]),
            (1, false, &[]),
            (2, true, &[]),
            (3, true, &["speculation.mode"]),
            (-1, true, &["speculation.mode"]),
            (i32::MAX, true, &["speculation.mode"]),
        ] {
            let mut found = Violations::default();
            let options = v1::SpeculationOptions { mode };
            assert_eq!(speculate(options, &mut found), expected, "{mode}");
            assert_eq!(found.fields(), refused, "{mode}");
        }
    }
}
