//! What is wrong with a workload's settings. The errors of traces are beside the traces.

/// A number is outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {found}; expected {expected}")]
pub struct SettingError {
    /// Name of the field or the flag.
    pub setting: &'static str,
    /// What was given.
    pub found: String,
    /// What is accepted.
    pub expected: String,
}

impl SettingError {
    /// What was `found`, and what was `expected` in its place.
    pub fn new(setting: &'static str, found: impl ToString, expected: impl Into<String>) -> Self {
        Self {
            setting,
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// Checks a number that has to be above 0.
    pub(crate) fn check_positive(setting: &'static str, value: f64) -> Result<(), Self> {
        match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(Self::new(setting, value, "a number above 0")),
        }
    }
}
