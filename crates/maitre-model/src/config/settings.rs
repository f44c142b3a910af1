//! A typed view of a JSON object of settings.
//!
//! `null` counts as absent, as it does for the Python library that writes these files. Every error
//! names the key, dotted where the object is nested.

use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::json;

/// One object of `config.json` or `generation_config.json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// Put before each key in messages: empty, or `rope_parameters.`.
    prefix: &'static str,
    /// The file's name, for messages.
    file: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    /// The top-level object of a parsed file.
    pub(crate) fn of_file(file: &'a str, value: &'a Value) -> Result<Self, ModelError> {
        match value {
            Value::Object(map) => Ok(Self {
                prefix: "",
                file,
                map,
            }),
            other => Err(ModelError::NotAnObject {
                file: file.to_owned(),
                found: brief(other),
            }),
        }
    }

    /// The value of `key`, unless absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there at all, be it null.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// All keys and values that are not null.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The nested object under `key`; `prefix` is `"key."`.
    pub(crate) fn object(
        &self,
        key: &str,
        prefix: &'static str,
    ) -> Result<Option<Self>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                prefix,
                file: self.file,
                map,
            })),
            Some(other) => Err(self.invalid(key, other, "an object")),
        }
    }

    /// A whole number of at least one.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.convert(key, "a whole number of at least 1", |value| {
            value
                .as_u64()
                .filter(|number| *number > 0)
                .and_then(|number| usize::try_from(number).ok())
        })
    }

    /// A whole number of at least one that must be there.
    pub(crate) fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?
            .ok_or_else(|| self.missing(key, "a whole number of at least 1"))
    }

    /// A whole number, zero included.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.convert(key, "a whole number", |value| {
            value
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
        })
    }

    /// A list of finite numbers.
    pub(crate) fn numbers(
        &self,
        key: &str,
        expected: &str,
    ) -> Result<Option<Vec<f64>>, ModelError> {
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
        self.convert(key, expected, |value| {
            value.as_array()?.iter().map(number).collect()
        })
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.convert(key, "a number", |value| {
            value.as_f64().filter(|number| number.is_finite())
        })
    }

    /// A finite number above zero that is one in single precision, too: that is what it is computed with.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.convert(key, "a number above 0", |value| {
            value.as_f64().filter(|&number| is_positive(number))
        })
    }

    /// True or false; false when absent.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ModelError> {
        Ok(self.optional_flag(key)?.unwrap_or(false))
    }

    /// True or false.
    pub(crate) fn optional_flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.convert(key, "true or false", Value::as_bool)
    }

    /// A string.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.convert(key, "a string", Value::as_str)
    }

    /// How many of the likeliest to keep; −1 and 0 keep all, and are 0.
    pub(crate) fn top_k(&self, key: &str) -> Result<Option<u32>, ModelError> {
        let expected = "a whole number of at least 1, or 0 or -1 to keep all";
        self.convert(key, expected, |value| {
            let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
            // A conversion to an integer saturates: more tokens than there are is all of them.
            (number >= -1.0).then_some(number as u32)
        })
    }

    /// Token ids: one, or a list of them in which null counts as absent too.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Option<Vec<u32>>, ModelError> {
        self.convert(key, "a token id or a list of them", |value| match value {
            Value::Array(ids) => {
                let ids = ids.iter().filter(|id| !id.is_null());
                ids.map(as_u32).collect()
            }
            other => as_u32(other).map(|id| vec![id]),
        })
    }

    /// Refuses keys other than these.
    pub(crate) fn refuse_others(&self, keys: &[&str]) -> Result<(), ModelError> {
        match self.entries().find(|(key, _)| !keys.contains(key)) {
            None => Ok(()),
            Some((key, value)) => {
                let supported = format!("no such key beside {}", keys.join(" and "));
                Err(self.unsupported(key, value, &supported))
            }
        }
    }

    /// Refuses a switch of which this crate implements one side.
    pub(crate) fn refuse_unless_false(&self, key: &str) -> Result<(), ModelError> {
        self.refuse_unless(key, false)
    }

    /// The same where that side is the other one.
    pub(crate) fn refuse_unless_true(&self, key: &str) -> Result<(), ModelError> {
        self.refuse_unless(key, true)
    }

    fn refuse_unless(&self, key: &str, side: bool) -> Result<(), ModelError> {
        match self.get(key) {
            Some(value) if value.as_bool() != Some(side) => {
                Err(self.unsupported(key, value, &format!("absent or {side}")))
            }
            _ => Ok(()),
        }
    }

    /// The error for a value that is not there.
    pub(crate) fn missing(&self, key: &str, expected: &'static str) -> ModelError {
        ModelError::MissingSetting {
            file: self.file.to_owned(),
            key: self.name(key),
            expected,
        }
    }

    /// The error for a value of the wrong kind.
    pub(crate) fn invalid(&self, key: &str, found: &Value, expected: &str) -> ModelError {
        self.contradicts(key, brief(found), expected.to_owned())
    }

    /// The error for a value that others rule out.
    pub(crate) fn contradicts(&self, key: &str, found: String, expected: String) -> ModelError {
        ModelError::InvalidSetting {
            file: self.file.to_owned(),
            key: self.name(key),
            found,
            expected,
        }
    }

    /// The error for a value that is legal but not implemented.
    pub(crate) fn unsupported(&self, key: &str, found: &Value, supported: &str) -> ModelError {
        ModelError::UnsupportedSetting {
            file: self.file.to_owned(),
            key: self.name(key),
            found: brief(found),
            supported: supported.to_owned(),
        }
    }

    fn convert<T>(
        &self,
        key: &str,
        expected: &str,
        conversion: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        conversion(value)
            .map(Some)
            .ok_or_else(|| self.invalid(key, value, expected))
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn as_u32(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// A value as a message shows it: a nested quantization object need not fill the terminal.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = match value {
        Value::String(number) if json::NON_FINITE.contains(&number.as_str()) => number.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether a number is finite and above zero in single precision.
pub(crate) fn is_positive(number: f64) -> bool {
    let single = number as f32;
    single.is_finite() && single > 0.0
}
