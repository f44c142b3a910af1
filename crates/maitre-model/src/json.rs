//! JSON as the Python programs read it that write a model's files.
//!
//! Python's `json` writes `NaN`, `Infinity` and `-Infinity` for numbers that JSON cannot hold, and
//! reads numbers too large for a double as infinite. Such a value is harmless where nothing uses it,
//! so it becomes a string: where a number is needed there, the error names the key and what was found.
//! Of a key that stands twice the last value counts, as in Python.

use std::borrow::Cow;

use serde_json::Value;

use crate::error::ModelError;

/// What is not a number, as Python writes it.
pub(crate) const NON_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Parses the content of `file`.
pub(crate) fn parse(file: &str, text: &[u8]) -> Result<Value, ModelError> {
    let text = strict(file, text)?;
    serde_json::from_slice(&text).map_err(|error| malformed(file, &error, &[]))
}

/// The content of `file` as any JSON parser reads it: numbers that are not finite in quotes.
pub(crate) fn strict<'a>(file: &str, text: &'a [u8]) -> Result<Cow<'a, [u8]>, ModelError> {
    let is_valid = |text: &[u8]| serde_json::from_slice::<Value>(text).map(drop);
    let Err(error) = is_valid(text) else {
        return Ok(Cow::Borrowed(text));
    };
    let Quoted { text, places } = quote_non_finite(text);
    if places.is_empty() {
        return Err(malformed(file, &error, &[]));
    }
    is_valid(&text).map_err(|error| malformed(file, &error, &places))?;
    Ok(Cow::Owned(text))
}

/// The error with the position in the file as it was, before something was put in quotes.
fn malformed(file: &str, error: &serde_json::Error, places: &[AddedQuotes]) -> ModelError {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let position = format!(" at line {line} column {column}");
    let what = message.strip_suffix(&position).unwrap_or(&message);
    let added: usize = places
        .iter()
        .filter(|place| place.line == line)
        .map(|place| usize::from(place.begin < column) + usize::from(place.end < column))
        .sum();
    ModelError::Json {
        file: file.to_owned(),
        problem: format!("{what} at line {line} column {}", column - added),
    }
}

/// Where quotes were added: counted as the parser counts, in the text with the quotes.
struct AddedQuotes {
    line: usize,
    begin: usize,
    end: usize,
}

struct Quoted {
    text: Vec<u8>,
    places: Vec<AddedQuotes>,
}

/// Puts quotes around every token outside strings that is a number to Python and not to JSON.
fn quote_non_finite(text: &[u8]) -> Quoted {
    let mut quoted = Quoted {
        text: Vec::with_capacity(text.len() + 16),
        places: Vec::new(),
    };
    let (mut line, mut line_start) = (1, 0);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let token = match byte {
            b'"' => string_at(&text[at..]),
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => word_at(&text[at..]),
            _ => &text[at..=at],
        };
        at += token.len();
        if is_non_finite(token) {
            let begin = quoted.text.len() - line_start + 1;
            quoted.text.push(b'"');
            quoted.text.extend_from_slice(token);
            quoted.text.push(b'"');
            let end = quoted.text.len() - line_start;
            quoted.places.push(AddedQuotes { line, begin, end });
        } else {
            quoted.text.extend_from_slice(token);
        }
        if byte == b'\n' {
            line += 1;
            line_start = quoted.text.len();
        }
    }
    quoted
}

/// The string literal that `text` begins with; all that is left if it has no end.
fn string_at(text: &[u8]) -> &[u8] {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text, |end| &text[..end + 2])
}

/// The number or name that `text` begins with.
fn word_at(text: &[u8]) -> &[u8] {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let end = text.iter().position(|byte| !is_part(byte));
    &text[..end.unwrap_or(text.len())]
}

fn is_non_finite(token: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(token) else {
        return false;
    };
    let is_number = token.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    NON_FINITE.contains(&token)
        || (is_number
            && token.ends_with(|last: char| last.is_ascii_digit())
            && token.parse().is_ok_and(f64::is_infinite))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse("f.json", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn numbers_that_are_not_finite_are_strings() {
        let text = r#"{"a": [0.0, Infinity], "b": NaN, "c": -Infinity, "d": 1e999, "e": "NaN",
                      "f\"": "x\\", "g": -1e999, "h": 1e308, "NaN": 123456789012345678901234567890}"#;
        let read = parse("f.json", text.as_bytes()).unwrap();
        assert_eq!(read["a"][1], "Infinity");
        assert_eq!(
            (&read["b"], &read["c"]),
            (&"NaN".into(), &"-Infinity".into())
        );
        assert_eq!(
            (&read["d"], &read["g"]),
            (&"1e999".into(), &"-1e999".into())
        );
        assert_eq!(read["h"], 1e308);
        assert!(read["NaN"].is_f64());
    }

    #[test]
    fn the_last_of_two_values_counts() {
        let read = parse("f.json", br#"{"a": 1, "a": 2}"#).unwrap();
        assert_eq!(read["a"], 2);
    }

    #[test]
    fn a_mistake_is_found_where_it_is() {
        for (text, expected) in [
            ("{\"a\": 1,\n}", "trailing comma at line 2 column 1"),
            (
                "{\"a\": NaN, \"b\": Infinity,\n \"c\": NaN,}",
                "trailing comma at line 2 column 11",
            ),
            (
                "{\"a\": NaN\n \"b\": 1}",
                "expected `,` or `}` at line 2 column 2",
            ),
            ("{\"a\": nan}", "expected ident at line 1 column 8"),
            ("{\"a\": Infinityx}", "expected value at line 1 column 7"),
            (
                "{\"a\": NaN, \"b\": \"",
                "EOF while parsing a string at line 1 column 17",
            ),
        ] {
            let expected =
                format!("f.json is not valid JSON: {expected}; correct it or download it again");
            assert_eq!(problem(text), expected, "{text}");
        }
    }
}
