//! Patterns of JSON Schema are regular expressions of ECMA-262; the library reads those of Rust. Where the two read the same text in
//! two ways, it is written here as Rust says what ECMA-262 means.

use std::iter::Peekable;

/// White space, as ECMA-262 has it, and the ends of lines.
const SPACE: &str =
    r"\t-\r\x20\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
/// Everything else.
const NOT_SPACE: &str = r"\x00-\x08\x0e-\x1f\x21-\u{9f}\u{a1}-\u{167f}\u{1681}-\u{1fff}\u{200b}-\u{2027}\u{202a}-\u{202e}\u{2030}-\u{205e}\u{2060}-\u{2fff}\u{3001}-\u{fefe}\u{ff00}-\u{10ffff}";
/// What a dot is not.
const LINE_ENDS: &str = r"\n\r\u{2028}\u{2029}";

/// A pattern as Rust writes it. What is written so already stays.
pub(super) fn to_rust(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.peek() {
                Some('s') => {
                    chars.next();
                    written.push_str(&format!("[{SPACE}]"));
                }
                Some('S') => {
                    chars.next();
                    written.push_str(&format!("[^{SPACE}]"));
                }
                _ => written.push_str(&escape(&mut chars)),
            },
            '[' => {
                let is_negated = chars.next_if_eq(&'^').is_some();
                // In Rust, a bracket at the beginning of a class is a character of it; in ECMA-262 the class is empty.
                if chars.next_if_eq(&']').is_some() {
                    let negation = if is_negated { "" } else { "^" };
                    written.push_str(&format!("[{negation}{SPACE}{NOT_SPACE}]"));
                } else {
                    written.push_str(if is_negated { "[^" } else { "[" });
                    class(&mut chars, &mut written);
                }
            }
            '.' => written.push_str(&format!("[^{LINE_ENDS}]")),
            '{' if !is_repetition(chars.clone()) => written.push_str("\\{"),
            _ => written.push(c),
        }
    }
    written
}

type Chars<'a> = Peekable<std::str::Chars<'a>>;

/// What follows a backslash, with it: a character, and braces behind it where they belong to it.
fn escape(chars: &mut Chars<'_>) -> String {
    let mut written = String::from('\\');
    let Some(c) = chars.next() else {
        return written;
    };
    written.push(c);
    if matches!(c, 'p' | 'P' | 'u' | 'x') && chars.peek() == Some(&'{') {
        for c in chars.by_ref() {
            written.push(c);
            if c == '}' {
                break;
            }
        }
    }
    written
}

/// A member of a class: a character, or a class of its own such as `\d`.
struct Member {
    written: String,
    is_character: bool,
}

impl Member {
    fn read(chars: &mut Chars<'_>) -> Self {
        let Some(c) = chars.next() else {
            return Self::character(String::new());
        };
        if c != '\\' {
            return Self::character(match c {
                '[' => "\\[".to_owned(),
                c => c.to_string(),
            });
        }
        let (written, is_character) = match chars.peek() {
            Some('s' | 'S') => {
                let space = chars.next() == Some('s');
                let written = if space { SPACE } else { NOT_SPACE };
                (written.to_owned(), false)
            }
            Some('d' | 'D' | 'w' | 'W' | 'p' | 'P') => (escape(chars), false),
            _ => (escape(chars), true),
        };
        Self {
            written,
            is_character,
        }
    }

    fn character(written: String) -> Self {
        Self {
            written,
            is_character: true,
        }
    }

    /// As an end of a range, where a hyphen or an ampersand would be read as something else.
    fn as_end(&self) -> String {
        match self.written.as_str() {
            sign @ ("-" | "&" | "~" | "^") => format!("\\{sign}"),
            other => other.to_owned(),
        }
    }
}

/// The members of a class, and the bracket that ends it. Rust nests classes, and intersects and subtracts them.
fn class(chars: &mut Chars<'_>, written: &mut String) {
    let mut is_first = true;
    while let Some(&next) = chars.peek() {
        if next == ']' {
            chars.next();
            written.push(']');
            return;
        }
        let low = Member::read(chars);
        let mut ahead = chars.clone();
        let is_range = ahead.next() == Some('-') && !matches!(ahead.next(), None | Some(']'));
        if is_range {
            chars.next();
            let high = Member::read(chars);
            let hyphen = if low.is_character && high.is_character {
                "-"
            } else {
                "\\-"
            };
            written.extend([low.as_end().as_str(), hyphen, high.as_end().as_str()]);
        } else {
            let is_last = chars.peek() == Some(&']');
            match low.written.as_str() {
                "-" if is_first || is_last => written.push('-'),
                sign @ ("&" | "~") if !written.ends_with(sign) => written.push_str(sign),
                "-" | "&" | "~" => written.push_str(&low.as_end()),
                other => written.push_str(other),
            }
        }
        is_first = false;
    }
}

/// Whether a brace begins a repetition: `{2}`, `{2,}`, `{2,3}`. Any other is a character.
fn is_repetition(chars: impl Iterator<Item = char>) -> bool {
    let inner: String = chars.take_while(|&c| c != '}').take(24).collect();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    match inner.split_once(',') {
        Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
        None => is_number(&inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_is_the_same_in_both() {
        for pattern in [
            r"^[a-z]{2,4}(\.\w+)*$",
            r"^(?:\d{1,3}|[^\]a-]+)$",
            r"a\[b\.\\",
            r"^[\w.+-]+@x{2,}\{",
            r"[a\-\-b]",
            r"^\d{3}-\p{L}+[\p{Lu}_]\u{1F600}$",
            r"[-a]",
            r"[\w.-]",
        ] {
            assert_eq!(to_rust(pattern), pattern);
        }
    }

    #[test]
    fn what_is_read_in_two_ways_is_written_out() {
        let is_match = |pattern: &str, text: &str| {
            let rust = format!("^(?:{})$", to_rust(pattern));
            let hir = regex_syntax::parse(&rust);
            // The classes of one character are all that is looked at here.
            let hir = hir.unwrap_or_else(|error| panic!("{pattern}: {error}"));
            let mut parts = vec![&hir];
            while let Some(part) = parts.pop() {
                match part.kind() {
                    regex_syntax::hir::HirKind::Concat(more) => parts.extend(more),
                    regex_syntax::hir::HirKind::Capture(capture) => parts.push(&capture.sub),
                    regex_syntax::hir::HirKind::Literal(literal) => {
                        return &*literal.0 == text.as_bytes();
                    }
                    regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
                        let c = text.chars().next();
                        return class
                            .iter()
                            .any(|it| c.is_some_and(|c| it.start() <= c && c <= it.end()));
                    }
                    _ => {}
                }
            }
            false
        };
        for (pattern, matched, other) in [
            (".", "\u{85}", "\u{2028}"),
            (".", "a", "\r"),
            (r"\s", "\u{feff}", "\u{85}"),
            (r"\S", "\u{85}", "\u{feff}"),
            (r"[\s.]", ".", "\u{85}"),
            (r"[^\s]", "\u{85}", " "),
            (r"[a\S]", "\u{85}", "\u{feff}"),
            ("[[a]", "[", "b"),
            ("[a&&b]", "&", "c"),
            ("[a~~b]", "~", "c"),
            ("[a&b-c&]", "&", "d"),
            ("[--/]", ".", "0"),
            ("[^--/]", "0", "."),
            ("[+--]", ",", "."),
            (r"[\w-.]", "-", "/"),
            ("[^]", "\n", ""),
            ("[]", "", "a"),
            ("{,3}", "{,3}", "x"),
        ] {
            assert_eq!(to_rust(&to_rust(pattern)), to_rust(pattern));
            assert!(!is_match(pattern, other), "{pattern} {other:?}");
            assert!(
                matched.is_empty() || is_match(pattern, matched),
                "{pattern} {matched:?}"
            );
        }
    }
}
