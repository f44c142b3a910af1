//! Acceptance as engines record it: how many tokens were drafted at each position of a draft, and how many were accepted.

use serde::Deserialize;

use crate::SimError;

/// What is expected of a recording.
const FORMS: &str = "a JSON object with the lists drafted_at and accepted_at, or the text of /metrics of a server that has \
                     speculated, with maitre_drafted_tokens_by_position_total or vllm:spec_decode_num_accepted_tokens_per_pos_total";

/// Names of this project's metrics.
const DRAFTED: &str = "maitre_drafted_tokens_by_position_total";
const ACCEPTED: &str = "maitre_accepted_tokens_by_position_total";

/// Names of vLLM's. All of its drafts are of the same length.
const VLLM_DRAFTS: &str = "vllm:spec_decode_num_drafts_total";
const VLLM_ACCEPTED: &str = "vllm:spec_decode_num_accepted_tokens_per_pos_total";

/// The JSON form: counts, or shares with a 1 for each position in `drafted_at`. What else is there does not matter, so that
/// the object may be a part of a report.
#[derive(Deserialize)]
struct Recorded {
    drafted_at: Vec<f64>,
    accepted_at: Vec<f64>,
}

/// Drafted and accepted tokens by position.
pub(super) fn counts(text: &str) -> Result<(Vec<f64>, Vec<f64>), SimError> {
    if text.trim_start().starts_with('{') {
        let recorded: Recorded = serde_json::from_str(text).map_err(|error| {
            SimError::setting("the recorded acceptance", format!("`{error}`"), FORMS)
        })?;
        return Ok((recorded.drafted_at, recorded.accepted_at));
    }
    let (drafted, accepted) = (at_positions(text, DRAFTED)?, at_positions(text, ACCEPTED)?);
    if !drafted.is_empty() {
        return Ok((drafted, accepted));
    }
    let accepted = at_positions(text, VLLM_ACCEPTED)?;
    let drafts: f64 = samples(text, VLLM_DRAFTS).map(|(_, value)| value).sum();
    match accepted.is_empty() {
        true => {
            let found = "without drafts by position";
            Err(SimError::setting("the recorded acceptance", found, FORMS))
        }
        false => Ok((vec![drafts; accepted.len()], accepted)),
    }
}

/// The values of a metric by its label `position`, from 0 on, over all other labels.
fn at_positions(text: &str, name: &str) -> Result<Vec<f64>, SimError> {
    let mut values = Vec::new();
    for (labels, value) in samples(text, name) {
        let position = labels
            .split(',')
            .find_map(|label| label.trim().strip_prefix("position=\""));
        let position = position.and_then(|it| it.trim_end_matches('"').parse::<usize>().ok());
        // No engine drafts more, and a number in a file is no reason to fill the memory.
        let Some(position) = position.filter(|&it| it < 1024) else {
            let expected = "a label such as position=\"0\"";
            let found = format!("{name}{{{labels}}}");
            return Err(SimError::setting("a recorded position", found, expected));
        };
        values.resize(values.len().max(position + 1), 0.0);
        if let Some(sum) = values.get_mut(position) {
            *sum += value;
        }
    }
    Ok(values)
}

/// The labels and the value of each sample of a metric in the text format of Prometheus.
fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.trim().strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?,
            None => ("", rest),
        };
        // Another metric may begin with the name of this one.
        let is_value = value.starts_with(char::is_whitespace);
        let value = value.split_whitespace().next()?.parse().ok()?;
        is_value.then_some((labels, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_metrics_are_read() {
        let json = r#"{"drafts": 3, "drafted_at": [10, 9.5], "accepted_at": [8, 4]}"#;
        assert_eq!(counts(json).unwrap(), (vec![10.0, 9.5], vec![8.0, 4.0]));

        let ours = "# TYPE maitre_drafted_tokens_by_position_total counter\n\
                    maitre_drafted_tokens_by_position_total{position=\"0\"} 10\n\
                    maitre_drafted_tokens_by_position_total{position=\"1\"} 9\n\
                    maitre_accepted_tokens_by_position_total{position=\"1\"} 3\n\
                    maitre_accepted_tokens_by_position_total{position=\"0\"} 8\n\
                    vllm:spec_decode_num_drafts_total 10\n";
        assert_eq!(counts(ours).unwrap(), (vec![10.0, 9.0], vec![8.0, 3.0]));

        let theirs = "vllm:spec_decode_num_drafts_total{engine=\"0\",model_name=\"m\"} 6.0\n\
                      vllm:spec_decode_num_drafts_total2 7\n\
                      vllm:spec_decode_num_drafts_total{engine=\"1\",model_name=\"m\"} 4.0\n\
                      vllm:spec_decode_num_draft_tokens_total{engine=\"0\"} 20.0\n\
                      vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",model_name=\"m\",position=\"0\"} 5.0\n\
                      vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"1\",model_name=\"m\",position=\"0\"} 2.0\n\
                      vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",model_name=\"m\",position=\"1\"} 4.0\n";
        assert_eq!(counts(theirs).unwrap(), (vec![10.0; 2], vec![7.0, 4.0]));
    }

    #[test]
    fn what_is_no_recording_says_what_is_expected() {
        for text in ["", "up 1", "{\"accepted_at\": [1]}", "{"] {
            let said = counts(text).unwrap_err().to_string();
            assert!(
                said.contains("drafted_at and accepted_at"),
                "{text}: {said}"
            );
        }
        let said = counts("maitre_drafted_tokens_by_position_total{position=\"x\"} 1");
        let said = said.unwrap_err().to_string();
        assert!(said.contains("such as position=\"0\""), "{said}");
    }
}
