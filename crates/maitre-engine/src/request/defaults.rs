//! The model's own generation defaults: what a request that says nothing is given must be something
//! that a request may say.

use maitre_model::GenerationDefaults;
use maitre_sampling::{GREEDY_BELOW, SamplingParams};

use crate::StartError;

/// Keeps the defaults that can be used. Where answers are greedy nothing samples, and a setting of
/// sampling that no request could ask for is left out: a request that samples gives its own, or has
/// none.
///
/// # Errors
/// What is used and could not be asked for, by the file's name and the key.
pub(crate) fn check_defaults(
    defaults: &mut GenerationDefaults,
    vocab_size: usize,
) -> Result<(), StartError> {
    let params = as_params(defaults);
    let is_greedy =
        defaults.do_sample == Some(false) || (0.0..GREEDY_BELOW).contains(&params.temperature);
    for violation in params.validate(vocab_size) {
        let (key, problem) = (violation.field, violation.description);
        if !is_greedy || !forget(defaults, key) {
            return Err(StartError::GenerationDefault {
                file: "generation_config.json",
                key,
                problem,
            });
        }
        tracing::warn!(
            "generation_config.json: {key} {problem}; it is ignored, as its answers are greedy"
        );
    }
    let outside = |id: &&u32| **id as usize >= vocab_size;
    match defaults.eos_token_ids.iter().find(outside) {
        Some(id) => Err(StartError::GenerationDefault {
            file: defaults.eos_file,
            key: "eos_token_id",
            problem: format!("is {id}; the tokenizer has ids 0 to {}", vocab_size - 1),
        }),
        None => Ok(()),
    }
}

/// What a request without settings of its own would be given, were it to sample.
fn as_params(defaults: &GenerationDefaults) -> SamplingParams {
    let neutral = SamplingParams::default();
    SamplingParams {
        temperature: defaults.temperature.unwrap_or(neutral.temperature),
        top_p: defaults.top_p.unwrap_or(neutral.top_p),
        top_k: defaults.top_k.unwrap_or(neutral.top_k),
        min_p: defaults.min_p.unwrap_or(neutral.min_p),
        repetition_penalty: defaults
            .repetition_penalty
            .unwrap_or(neutral.repetition_penalty),
        ..neutral
    }
}

/// Leaves out a default that only sampling uses; false for any other.
fn forget(defaults: &mut GenerationDefaults, key: &str) -> bool {
    match key {
        "temperature" => defaults.temperature = None,
        "top_p" => defaults.top_p = None,
        "min_p" => defaults.min_p = None,
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults that are kept of a file, or the message.
    fn check(change: impl FnOnce(&mut GenerationDefaults)) -> Result<GenerationDefaults, String> {
        let mut defaults = GenerationDefaults::default();
        defaults.eos_file = "config.json";
        change(&mut defaults);
        let checked = check_defaults(&mut defaults, 100).map_err(|error| error.to_string());
        checked.map(|()| defaults)
    }

    #[test]
    fn what_is_used_and_invalid_is_refused_by_file_and_key() {
        let refused = |change: fn(&mut GenerationDefaults)| check(change).unwrap_err();
        assert_eq!(
            refused(|d| d.top_p = Some(1.05)),
            "generation_config.json: top_p is 1.05, expected a number in (0, 1]; correct the file"
        );
        assert_eq!(
            refused(|d| {
                d.do_sample = Some(false);
                d.repetition_penalty = Some(0.0);
            }),
            "generation_config.json: repetition_penalty is 0, expected a finite number > 0; correct the file"
        );
        assert_eq!(
            refused(|d| d.temperature = Some(-0.5)),
            "generation_config.json: temperature is -0.5, expected a finite number >= 0; correct the file"
        );
        assert_eq!(
            refused(|d| d.eos_token_ids = vec![2, 100]),
            "config.json: eos_token_id is 100; the tokenizer has ids 0 to 99; correct the file"
        );
    }

    #[test]
    fn what_is_not_used_is_left_out() {
        for greedy in [
            |d: &mut GenerationDefaults| d.do_sample = Some(false),
            |d: &mut GenerationDefaults| d.temperature = Some(0.0),
        ] {
            let kept = check(|d| {
                d.top_p = Some(1.05);
                d.min_p = Some(-1.0);
                d.top_k = Some(7);
                greedy(d);
            });
            let kept = kept.unwrap();
            assert_eq!((kept.top_p, kept.min_p, kept.top_k), (None, None, Some(7)));
        }
        let kept = check(|d| {
            d.do_sample = Some(false);
            d.temperature = Some(f32::INFINITY);
        });
        assert_eq!(kept.unwrap().temperature, None);
    }
}
