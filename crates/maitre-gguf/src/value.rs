//! The values of settings.

use std::fmt;
use std::ops::Range;

use crate::GgufError;
use crate::cursor::Cursor;

/// What kind of value a setting has, or the elements of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Float, 32 bits.
    F32,
    /// A byte, 0 or 1.
    Bool,
    /// UTF-8 text.
    Text,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// Float, 64 bits.
    F64,
}

/// What a file says of a list, before it is a [`ValueKind`].
const LIST: u32 = 9;

impl ValueKind {
    /// Number in the file, and the fewest bytes of a value.
    const TABLE: [(Self, u32, usize); 12] = [
        (Self::U8, 0, 1),
        (Self::I8, 1, 1),
        (Self::U16, 2, 2),
        (Self::I16, 3, 2),
        (Self::U32, 4, 4),
        (Self::I32, 5, 4),
        (Self::F32, 6, 4),
        (Self::Bool, 7, 1),
        (Self::Text, 8, 8),
        (Self::U64, 10, 8),
        (Self::I64, 11, 8),
        (Self::F64, 12, 8),
    ];

    fn of_number(number: u32) -> Option<(Self, usize)> {
        let row = Self::TABLE.iter().find(|row| row.1 == number)?;
        Some((row.0, row.2))
    }

    fn least_bytes(self) -> usize {
        let row = Self::TABLE.iter().find(|row| row.0 == self);
        row.map_or(1, |row| row.2)
    }
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer that is not negative, of whatever width.
    Unsigned(u64),
    /// Any other integer.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(String),
    /// Values of one kind, which stay in the file: a vocabulary has hundreds of thousands.
    List(List),
}

/// A list in the file. Its elements have been looked at: all are within the file, and text is UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The kind of its elements.
    pub kind: ValueKind,
    /// How many there are.
    pub len: usize,
    place: Range<usize>,
}

impl List {
    /// Its elements. `file`: the bytes that the index was read from; of others there are none.
    pub fn iter<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = Value> + use<'a> {
        let mut cursor = Cursor::at(file, self.place.start);
        let kind = self.kind;
        (0..self.len).map_while(move |_| Value::read(&mut cursor, kind, String::new).ok())
    }

    /// Its elements, if they are text, without a copy; none if they are not.
    pub fn texts<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut cursor = Cursor::at(file, self.place.start);
        let len = if self.kind == ValueKind::Text {
            self.len
        } else {
            0
        };
        (0..len).map_while(move |_| cursor.text(String::new).ok())
    }
}

impl Value {
    /// A value behind its kind.
    pub(crate) fn of_setting(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let name = || format!("the setting {key}");
        let position = cursor.position();
        let number = cursor.u32(name)?;
        if number != LIST {
            let kind = known(key, number, position)?;
            return Self::read(cursor, kind, name);
        }
        let position = cursor.position();
        let number = cursor.u32(name)?;
        if number == LIST {
            return Err(GgufError::Nested {
                key: key.to_owned(),
                position,
            });
        }
        let kind = known(key, number, position)?;
        let count = cursor.u64(name)?;
        let len = cursor.expect(count, kind.least_bytes(), name)?;
        let begin = cursor.position();
        match kind {
            ValueKind::Text => {
                for _ in 0..len {
                    cursor.text(name)?;
                }
            }
            ValueKind::Bool => {
                for _ in 0..len {
                    Self::read(cursor, kind, name)?;
                }
            }
            _ => {
                cursor.skip(count * kind.least_bytes() as u64, name)?;
            }
        }
        Ok(Self::List(List {
            kind,
            len,
            place: begin..cursor.position(),
        }))
    }

    fn read(
        cursor: &mut Cursor<'_>,
        kind: ValueKind,
        what: impl Fn() -> String,
    ) -> Result<Self, GgufError> {
        let position = cursor.position();
        if kind == ValueKind::Text {
            return Ok(Self::Text(cursor.text(what)?.to_owned()));
        }
        let mut bytes = [0; 8];
        let place = cursor.skip(kind.least_bytes() as u64, &what)?;
        if let Some((target, source)) = bytes.get_mut(..place.len()).zip(cursor.bytes(place)) {
            target.copy_from_slice(source);
        }
        let word = u64::from_le_bytes(bytes);
        let signed = |value: i64| match u64::try_from(value) {
            Ok(value) => Self::Unsigned(value),
            Err(_) => Self::Signed(value),
        };
        Ok(match kind {
            ValueKind::U8 | ValueKind::U16 | ValueKind::U32 | ValueKind::U64 => {
                Self::Unsigned(word)
            }
            ValueKind::I8 => signed(i64::from(word as u8 as i8)),
            ValueKind::I16 => signed(i64::from(word as u16 as i16)),
            ValueKind::I32 => signed(i64::from(word as u32 as i32)),
            ValueKind::I64 => signed(word as i64),
            ValueKind::F32 => Self::Float(f64::from(f32::from_bits(word as u32))),
            ValueKind::F64 => Self::Float(f64::from_bits(word)),
            ValueKind::Bool if word < 2 => Self::Bool(word == 1),
            ValueKind::Bool | ValueKind::Text => {
                return Err(GgufError::Setting {
                    key: format!("{} at byte {position}", what()),
                    found: format!("{word} as a Boolean"),
                    expected: "0 or 1",
                });
            }
        })
    }
}

fn known(key: &str, number: u32, position: usize) -> Result<ValueKind, GgufError> {
    let kind = ValueKind::of_number(number).ok_or_else(|| GgufError::UnknownKind {
        key: key.to_owned(),
        kind: number,
        position,
    })?;
    Ok(kind.0)
}

impl fmt::Display for Value {
    /// As a message shows it; of a list its length.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(formatter, "{value}"),
            Self::Signed(value) => write!(formatter, "{value}"),
            Self::Float(value) => write!(formatter, "{value}"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Text(value) => write!(formatter, "{value:?}"),
            Self::List(list) => write!(formatter, "a list of {} values", list.len),
        }
    }
}
