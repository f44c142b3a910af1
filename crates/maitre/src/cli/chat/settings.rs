//! What `/set` changes: how tokens are chosen from the next message on.

use std::fmt;
use std::str::FromStr;

use maitre::GenerateRequest;

use crate::cli::sampling::SamplingArgs;

/// The flags of sampling as they are now.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    sampling: SamplingArgs,
    seed: Option<u64>,
}

impl Settings {
    pub(super) fn new(sampling: SamplingArgs, seed: Option<u64>) -> Self {
        Self { sampling, seed }
    }

    /// Most tokens of an answer, where that is set.
    pub(super) fn max_tokens(&self) -> Option<u32> {
        self.sampling.max_tokens
    }

    pub(super) fn apply(&self, request: &mut GenerateRequest) {
        self.sampling.apply(request);
        request.sampling.seed = self.seed;
    }

    /// Sets a parameter to what `value` says, which may be out of its range.
    ///
    /// # Errors
    /// A name that is none, a value that is no number: what to say.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let sampling = &mut self.sampling;
        match name.replace('_', "-").as_str() {
            "temperature" => sampling.temperature = number(name, value)?,
            "top-p" => sampling.top_p = number(name, value)?,
            "top-k" => sampling.top_k = number(name, value)?,
            "max-tokens" => sampling.max_tokens = number(name, value)?,
            "seed" => self.seed = number(name, value)?,
            _ => {
                return Err(format!(
                    "/set: no parameter {name}; there are temperature, top-p, top-k, max-tokens, seed"
                ));
            }
        }
        Ok(())
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<Option<T>, String> {
    if value == "default" {
        return Ok(None);
    }
    let number = value.parse().map(Some);
    number.map_err(|_| format!("/set {name}: expected a number or `default`, found {value:?}"))
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn shown(value: Option<impl fmt::Display>) -> String {
            value.map_or_else(|| "default".to_owned(), |value| value.to_string())
        }
        let sampling = &self.sampling;
        writeln!(f, "temperature  {}", shown(sampling.temperature))?;
        writeln!(f, "top-p        {}", shown(sampling.top_p))?;
        writeln!(f, "top-k        {}", shown(sampling.top_k))?;
        writeln!(f, "max-tokens   {}", shown(sampling.max_tokens))?;
        write!(f, "seed         {}", shown(self.seed))
    }
}
