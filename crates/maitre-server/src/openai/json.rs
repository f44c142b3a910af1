//! JSON in, with the path of a field that is wrong; JSON out.

use std::fmt;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error;
use crate::service::api_error::{ApiError, Kind};

/// What `T` has of the fields of a message; the others are left alone. A message is read once for each group of its
/// fields: serde's way of reading groups at once loses the paths of fields.
///
/// # Errors
///
/// The message is not a JSON object, or a field has not the type that it should have.
pub(super) fn fields<T: DeserializeOwned>(message: &[u8]) -> Result<T, ApiError> {
    if message.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(malformed("it is not a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(message);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if !error.is_data() {
            return malformed(&error.to_string());
        }
        let said = error.to_string();
        // Where in the message it stands is of no use beside the path.
        let said = said
            .rsplit_once(" at line ")
            .map_or(&*said, |(said, _)| said);
        ApiError::unusable(if path == "." { "" } else { &path }, said)
    })?;
    let end = reader.end();
    end.map_err(|error| malformed(&error.to_string()))?;
    Ok(read)
}

fn malformed(said: &str) -> ApiError {
    let message = format!("the request's body cannot be read: {said}; send one JSON object");
    ApiError::new(Kind::Invalid, "MALFORMED_MESSAGE", message)
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
