//! What serde says of a field of the wrong type, in the words of the API: what was found, what was expected.

/// Characters of a client's own text that a message repeats.
const MOST_SHOWN: usize = 80;

/// Where in a message something is wrong, and what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The path of the field, empty for the message as a whole.
    pub(super) field: String,
    pub(super) description: String,
}

/// What is wrong at `path`, of which the library says `said`.
pub(super) fn wrong(path: &str, said: &str) -> Wrong {
    let path = if path == "." { "" } else { path };
    // Where in the message it stands is of no use beside the path.
    let said = said
        .rsplit_once(" at line ")
        .map_or(said, |(said, _)| said)
        .trim();
    let inner = |name: &str| match path {
        "" => name.to_owned(),
        _ if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        _ => format!("{path}.{name}"),
    };
    for (start, description) in [
        ("duplicate field `", "is given twice; give it once"),
        ("missing field `", "is missing"),
    ] {
        let name = said
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix('`'));
        if let Some(name) = name {
            return Wrong {
                field: inner(name),
                description: description.to_owned(),
            };
        }
    }
    Wrong {
        field: path.to_owned(),
        description: wrong_type(said).unwrap_or_else(|| said.to_owned()),
    }
}

/// The same for a text that has no path of its own.
pub(super) fn described(error: &serde_json::Error) -> String {
    let Wrong { field, description } = wrong("", &error.to_string());
    match error.is_data() {
        true if field.is_empty() => description,
        true => format!("{field} {description}"),
        false => format!("is no JSON: {}", error_of_syntax(error)),
    }
}

/// What is wrong with a text that is no JSON, and where.
pub(super) fn error_of_syntax(error: &serde_json::Error) -> String {
    let said = error.to_string();
    match said.split_once(" at line ") {
        Some(("EOF while parsing a value", _)) if error.column() == 0 => "it is empty".to_owned(),
        Some((said, place)) if said.starts_with("EOF while parsing") => {
            format!("it breaks off at line {place}")
        }
        Some(("recursion limit exceeded", place)) => {
            format!("it is nested too deep at line {place}")
        }
        _ => said,
    }
}

fn wrong_type(said: &str) -> Option<String> {
    let rest = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|start| said.strip_prefix(start))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some(format!(
        "is {}; expected {}",
        found_in_words(found),
        expected_in_words(expected)
    ))
}

fn found_in_words(found: &str) -> String {
    if let Some(text) = found.strip_prefix("string ") {
        return match text.chars().count() > MOST_SHOWN {
            true => {
                let start: String = text.chars().take(MOST_SHOWN).collect();
                format!("the string {start}...")
            }
            false => format!("the string {text}"),
        };
    }
    let quoted = found.split_once('`').map(|(_, rest)| rest);
    match (found, quoted) {
        ("map", _) => "an object".to_owned(),
        ("sequence", _) => "a list".to_owned(),
        ("unit value", _) => "null".to_owned(),
        (_, Some(value)) => value.trim_end_matches('`').to_owned(),
        (other, None) => other.to_owned(),
    }
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_library_is_left() {
        for (path, said, field, description) in [
            (
                "temperature",
                "invalid type: string \"hot\", expected f32 at line 1 column 20",
                "temperature",
                "is the string \"hot\"; expected a number",
            ),
            (
                "n",
                "invalid value: integer `-1`, expected u32 at line 1 column 8",
                "n",
                "is -1; expected a whole number from 0 to 4294967295",
            ),
            (
                "stream_options",
                "invalid type: boolean `true`, expected struct StreamOptions",
                "stream_options",
                "is true; expected an object",
            ),
            (
                "messages",
                "invalid type: map, expected a sequence",
                "messages",
                "is an object; expected a list",
            ),
            (
                "stop",
                "invalid type: string \"a, expected b\", expected a boolean",
                "stop",
                "is the string \"a, expected b\"; expected true or false",
            ),
            (
                ".",
                "duplicate field `n` at line 1 column 12",
                "n",
                "is given twice; give it once",
            ),
            (
                "messages[0]",
                "duplicate field `role`",
                "messages[0].role",
                "is given twice; give it once",
            ),
            (
                "response_format",
                "missing field `type`",
                "response_format.type",
                "is missing",
            ),
            (
                "prompt",
                "has two kinds; expected one",
                "prompt",
                "has two kinds; expected one",
            ),
        ] {
            let expected = Wrong {
                field: field.to_owned(),
                description: description.to_owned(),
            };
            assert_eq!(wrong(path, said), expected, "{said}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let said = format!(
            "invalid type: string \"{}\", expected a map",
            "é".repeat(500)
        );
        let description = wrong("x", &said).description;
        assert!(description.len() < 250, "{description}");
        assert!(
            description.ends_with("...; expected an object"),
            "{description}"
        );
    }
}
