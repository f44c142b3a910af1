//! JSON in, with the path of a field that is wrong; JSON out.

use std::fmt;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IgnoredAny, IntoDeserializer as _, MapAccess,
    SeqAccess, Visitor,
};
use serde::{Deserialize, Deserializer, Serialize};

use super::error;
use super::plain_words::{Wrong, error_of_syntax, wrong};
use crate::service::api_error::{ApiError, Kind};
use crate::service::violations::Violations;

/// Fields of the wrong type that one message is told of: to find the next one, the message is read again.
const MOST_TYPE_ERRORS: usize = 16;

/// What `T` has of the fields of a message; the others are left alone. A message is read once for each group of its
/// fields: serde's way of reading groups at once loses the paths of fields.
///
/// # Errors
///
/// The message is not a JSON object, or a field has not the type that it should have.
pub(super) fn fields<T: DeserializeOwned>(message: &[u8]) -> Result<T, ApiError> {
    let mut found = Violations::default();
    let fields = group(message, &mut found)?;
    match found.is_empty() {
        true => Ok(fields),
        false => Err(ApiError::invalid(found.into_vec())),
    }
}

/// The same, without the fields that have the wrong type, which are added to `found`. A field of `T` may not be
/// required.
///
/// # Errors
///
/// The message is not a JSON object.
pub(super) fn group<T: DeserializeOwned>(
    message: &[u8],
    found: &mut Violations,
) -> Result<T, ApiError> {
    if message.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        let said = match message.iter().all(u8::is_ascii_whitespace) {
            true => "it is empty",
            false => "it is not a JSON object",
        };
        return Err(malformed(said));
    }
    let mut without: Vec<String> = Vec::new();
    loop {
        let Wrong { field, description } = match read(message, &without)? {
            Ok(fields) => return Ok(fields),
            Err(wrong) => wrong,
        };
        let end = field.find(['.', '[']).unwrap_or(field.len());
        let first = field.get(..end).unwrap_or(&field).to_owned();
        found.add(field, description);
        if found.len() >= MOST_TYPE_ERRORS || first.is_empty() || without.contains(&first) {
            return Err(ApiError::invalid(std::mem::take(found).into_vec()));
        }
        without.push(first);
    }
}

/// What `T` has of a message, or what is wrong with one of its fields; those of `without` are as if they were not there.
fn read<T: DeserializeOwned>(
    message: &[u8],
    without: &[String],
) -> Result<Result<T, Wrong>, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(message);
    let read = match without {
        [] => serde_path_to_error::deserialize(&mut reader),
        _ => serde_path_to_error::deserialize(Without(&mut reader, without)),
    };
    let fields = match read {
        Ok(fields) => fields,
        Err(error) => {
            let path = error.path().to_string();
            let error = error.into_inner();
            if !error.is_data() {
                return Err(malformed(&error_of_syntax(&error)));
            }
            return Ok(Err(wrong(&path, &error.to_string())));
        }
    };
    let end = reader.end();
    end.map_err(|error| malformed(&error_of_syntax(&error)))?;
    Ok(Ok(fields))
}

fn malformed(said: &str) -> ApiError {
    let message = format!("the request's body cannot be read: {said}; send one JSON object");
    ApiError::new(Kind::Invalid, "MALFORMED_MESSAGE", message)
}

/// An object without some of its fields.
struct Without<'a, D>(D, &'a [String]);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Without<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Without(visitor, self.1))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Without<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Without(fields, self.1))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Without<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.0.next_key::<String>()? {
            if self.1.contains(&name) {
                self.0.next_value::<IgnoredAny>()?;
            } else {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// A response of JSON.
pub(super) fn response(value: &impl Serialize) -> Response<Body> {
    let text = match serde_json::to_vec(value) {
        Ok(text) => text,
        Err(failed) => return error::response(&ApiError::internal(failed.to_string())),
    };
    let mut response = Response::new(Body::from(text));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Whether a field is given something: not null, false, 0, an empty text, list or object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct IsGiven(pub(super) bool);

impl<'de> Deserialize<'de> for IsGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IsGivenVisitor)
    }
}

struct IsGivenVisitor;

impl<'de> Visitor<'de> for IsGivenVisitor {
    type Value = IsGiven;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: de::Error>(self) -> Result<IsGiven, E> {
        Ok(IsGiven(false))
    }

    fn visit_bool<E: de::Error>(self, given: bool) -> Result<IsGiven, E> {
        Ok(IsGiven(given))
    }

    fn visit_u64<E: de::Error>(self, given: u64) -> Result<IsGiven, E> {
        Ok(IsGiven(given != 0))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<IsGiven, E> {
        Ok(IsGiven(true))
    }

    fn visit_f64<E: de::Error>(self, given: f64) -> Result<IsGiven, E> {
        Ok(IsGiven(given != 0.0))
    }

    fn visit_str<E: de::Error>(self, given: &str) -> Result<IsGiven, E> {
        Ok(IsGiven(!given.is_empty()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut given: A) -> Result<IsGiven, A::Error> {
        let mut any = false;
        while given.next_element::<IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(IsGiven(any))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<IsGiven, A::Error> {
        let mut any = false;
        while given.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(IsGiven(any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Given {
        a: Option<u32>,
        b: Option<String>,
        c: Option<Vec<bool>>,
    }

    #[test]
    fn every_field_of_the_wrong_type_is_found_and_the_others_are_read() {
        let mut found = Violations::default();
        let text = br#"{"a": "x", "d": 1, "c": [true, 1], "b": "fine", "c": 2}"#;
        let read: Given = group(text, &mut found).unwrap();
        let expected = Given {
            b: Some("fine".to_owned()),
            ..Given::default()
        };
        assert_eq!(read, expected);
        assert_eq!(found.fields(), ["a", "c[1]"]);
        let twice = fields::<Given>(br#"{"a": 1, "a": 2}"#).unwrap_err();
        assert_eq!(twice.violations[0].field, "a");
    }

    #[test]
    fn what_is_no_json_is_malformed_whatever_else_is_wrong() {
        for text in [
            "",
            " ",
            "{",
            "[]",
            r#"{"a": "x", "b": }"#,
            r#"{"a": "x"} {}"#,
        ] {
            let error = fields::<Given>(text.as_bytes()).unwrap_err();
            assert_eq!(error.reason, "MALFORMED_MESSAGE", "{text}");
            assert!(!error.message.contains("EOF"), "{error}");
        }
    }
}
