//! [`GgufIndex`]: all that a file says before its data.

use std::collections::BTreeMap;

use crate::cursor::Cursor;
use crate::tensors;
use crate::{GgufError, List, TensorEntry, Value};

const MAGIC: &[u8; 4] = b"GGUF";
const VERSIONS: [u32; 2] = [2, 3];
const ALIGNMENT: &str = "general.alignment";
/// Where a file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;
/// More would waste the file; ggml takes any power of two.
const MOST_ALIGNMENT: u64 = 1 << 20;
/// Fewest bytes of a setting: the length of its key, its kind, a byte.
const LEAST_SETTING: usize = 8 + 4 + 1;

/// The settings and tensors of one file. It holds no bytes of the file: lists and tensors are places in it.
///
/// ```
/// use maitre_gguf::{GgufError, GgufIndex};
///
/// let file: Vec<u8> = [
///     b"GGUF".to_vec(),
///     3_u32.to_le_bytes().to_vec(),
///     0_u64.to_le_bytes().to_vec(), // tensors
///     1_u64.to_le_bytes().to_vec(), // settings
///     20_u64.to_le_bytes().to_vec(),
///     b"general.architecture".to_vec(),
///     8_u32.to_le_bytes().to_vec(), // text
///     5_u64.to_le_bytes().to_vec(),
///     b"llama".to_vec(),
/// ]
/// .concat();
/// let index = GgufIndex::read(&file)?;
/// assert_eq!(index.text("general.architecture")?, Some("llama"));
/// assert!(matches!(GgufIndex::read(&file[..60]), Err(GgufError::Truncated { .. })));
/// # Ok::<(), GgufError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GgufIndex {
    settings: BTreeMap<String, Value>,
    tensors: Vec<TensorEntry>,
}

impl GgufIndex {
    /// Reads the index of a file, which must be whole: tensors are looked for in it. Takes memory for names, plain
    /// values and entries only, less than a few times the index's own size.
    ///
    /// # Errors
    ///
    /// [`GgufError`], for the first thing that is wrong.
    pub fn read(file: &[u8]) -> Result<Self, GgufError> {
        if file.get(..MAGIC.len()) != Some(MAGIC) {
            let found = file.iter().take(MAGIC.len()).copied().collect();
            return Err(GgufError::Magic { found });
        }
        let mut cursor = Cursor::at(file, MAGIC.len());
        let head = || "the head of the file".to_owned();
        let version = cursor.u32(head)?;
        if !VERSIONS.contains(&version) {
            return Err(GgufError::Version { version });
        }
        let num_tensors = cursor.u64(head)?;
        let num_settings = cursor.u64(head)?;
        let settings = read_settings(&mut cursor, num_settings)?;
        let mut index = Self {
            settings,
            tensors: Vec::new(),
        };
        let alignment = index.alignment()?;
        index.tensors = tensors::read(&mut cursor, num_tensors, alignment, file.len())?;
        Ok(index)
    }

    fn alignment(&self) -> Result<usize, GgufError> {
        let alignment = self.unsigned(ALIGNMENT)?.unwrap_or(DEFAULT_ALIGNMENT);
        match usize::try_from(alignment) {
            Ok(alignment_bytes) if alignment.is_power_of_two() && alignment <= MOST_ALIGNMENT => {
                Ok(alignment_bytes)
            }
            _ => Err(GgufError::Setting {
                key: ALIGNMENT.to_owned(),
                found: alignment.to_string(),
                expected: "a power of two up to 1048576",
            }),
        }
    }

    /// All settings by key.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.settings
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// All tensors, in the file's order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// The value of a setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.settings.get(key)
    }

    /// A setting that is text; `None` if it is absent.
    ///
    /// # Errors
    ///
    /// [`GgufError::Setting`] if it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A setting that is an integer of whatever width and not negative; `None` if it is absent.
    ///
    /// # Errors
    ///
    /// [`GgufError::Setting`] if it is something else.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(
            key,
            "an integer that is not negative",
            |value| match value {
                Value::Unsigned(number) => Some(*number),
                _ => None,
            },
        )
    }

    /// A setting that is a number of whatever kind; `None` if it is absent.
    ///
    /// # Errors
    ///
    /// [`GgufError::Setting`] if it is something else.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a number", |value| match *value {
            Value::Float(number) => Some(number),
            Value::Unsigned(number) => Some(number as f64),
            Value::Signed(number) => Some(number as f64),
            _ => None,
        })
    }

    /// A setting that is yes or no; `None` if it is absent.
    ///
    /// # Errors
    ///
    /// [`GgufError::Setting`] if it is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A setting that is a list; `None` if it is absent.
    ///
    /// # Errors
    ///
    /// [`GgufError::Setting`] if it is something else.
    pub fn list(&self, key: &str) -> Result<Option<&List>, GgufError> {
        self.typed(key, "a list", |value| match value {
            Value::List(list) => Some(list),
            _ => None,
        })
    }

    fn typed<'s, T>(
        &'s self,
        key: &str,
        expected: &'static str,
        of: impl Fn(&'s Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.settings.get(key) else {
            return Ok(None);
        };
        of(value).map(Some).ok_or_else(|| GgufError::Setting {
            key: key.to_owned(),
            found: value.to_string(),
            expected,
        })
    }
}

fn read_settings(
    cursor: &mut Cursor<'_>,
    count: u64,
) -> Result<BTreeMap<String, Value>, GgufError> {
    let count = cursor.expect(count, LEAST_SETTING, || {
        format!("the list of {count} settings")
    })?;
    let mut settings = BTreeMap::new();
    for number in 0..count {
        let key = cursor.text(|| format!("the key of setting {number}"))?;
        let value = Value::of_setting(cursor, key)?;
        if settings.insert(key.to_owned(), value).is_some() {
            return Err(GgufError::Twice {
                name: format!("the setting {key}"),
            });
        }
    }
    Ok(settings)
}
