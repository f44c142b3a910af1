//! What is typed, before it means anything: which lines belong together, and which text they stand for.
//!
//! A message may span lines in two ways: between `"""` and `"""`, where the text is taken as it is, and by a backslash
//! at the end of a line, which stands for the line's end.

const QUOTE: &str = "\"\"\"";

/// Whether the message is over at the end of `typed`: no `"""` is open, and no backslash asks for another line.
pub(super) fn is_whole(typed: &str) -> bool {
    match opened(typed) {
        Some(inner) => inner.trim_end().ends_with(QUOTE),
        None => !typed.ends_with('\\'),
    }
}

/// The text that `typed` stands for.
pub(super) fn text(typed: &str) -> String {
    let Some(inner) = opened(typed) else {
        let typed = typed.strip_suffix('\\').unwrap_or(typed);
        return typed.replace("\\\n", "\n");
    };
    let (before, _) = typed.split_at(typed.len() - inner.len() - QUOTE.len());
    let inner = inner.trim_end();
    // At the end of the input a quote may be open still.
    let inner = inner.strip_suffix(QUOTE).unwrap_or(inner);
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    let inner = inner.strip_suffix('\n').unwrap_or(inner);
    format!("{}{inner}", before.trim_start())
}

/// Whether `typed` is text for the model whatever it begins with.
pub(super) fn is_quoted(typed: &str) -> bool {
    typed.trim_start().starts_with(QUOTE)
}

/// What comes after the `"""` that a message, or the argument of a command, begins with.
fn opened(typed: &str) -> Option<&str> {
    let start = typed.trim_start();
    let start = match start.starts_with('/') {
        true => start.split_once(char::is_whitespace)?.1.trim_start(),
        false => start,
    };
    start.strip_prefix(QUOTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_belong_together_until_the_message_is_whole() {
        for (typed, whole) in [
            ("", true),
            ("Hello", true),
            ("Hello \\", false),
            ("Hello \\\nthere", true),
            ("\"\"\"", false),
            ("\"\"\"one line\"\"\"", true),
            ("\"\"\"\nfirst\\", false),
            ("\"\"\"\nfirst\\\nsecond\n\"\"\" ", true),
            ("a \"\"\" within", true),
            ("/system \"\"\"", false),
            ("/system \"\"\"\nBe brief.\n\"\"\"", true),
            ("/save a\\", false),
        ] {
            assert_eq!(is_whole(typed), whole, "{typed:?}");
        }
    }

    #[test]
    fn the_marks_are_no_part_of_the_text() {
        for (typed, expected) in [
            ("Hello", "Hello"),
            ("  indented", "  indented"),
            ("first\\\nsecond\\", "first\nsecond"),
            ("\"\"\"one line\"\"\"", "one line"),
            (
                "\"\"\"\nfirst \\\n\n  second\n\"\"\" ",
                "first \\\n\n  second",
            ),
            ("\"\"\"\nnever closed", "never closed"),
            (" \"\"\"/help\"\"\"", "/help"),
            (
                "/system \"\"\"\nBe brief.\nBe kind.\n\"\"\"",
                "/system Be brief.\nBe kind.",
            ),
        ] {
            assert_eq!(text(typed), expected, "{typed:?}");
        }
        assert!(is_quoted("\"\"\"/help\"\"\"") && !is_quoted("/system \"\"\"x\"\"\""));
    }
}
