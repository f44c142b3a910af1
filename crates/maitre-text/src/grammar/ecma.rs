//! Patterns of JSON Schema are regular expressions of ECMA-262; the library reads those of Rust. Where the two read the same text in
//! two ways, it is written here as Rust says what ECMA-262 means.

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
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '\\' => {
                chars.next();
                match next {
                    Some('s') if in_class => written.push_str(SPACE),
                    Some('S') if in_class => written.push_str(NOT_SPACE),
                    Some('s') => written.push_str(&format!("[{SPACE}]")),
                    Some('S') => written.push_str(&format!("[^{SPACE}]")),
                    other => {
                        written.push('\\');
                        written.extend(other);
                    }
                }
            }
            // Rust nests classes, and intersects and subtracts them.
            '[' if in_class => written.push_str("\\["),
            '&' | '~' | '-' if in_class && next == Some(c) => {
                chars.next();
                written.extend(['\\', c, '\\', c]);
            }
            ']' => {
                in_class = false;
                written.push(c);
            }
            '[' => {
                let is_negated = next == Some('^');
                if is_negated {
                    chars.next();
                }
                // In Rust, a bracket at the beginning of a class is a character of it; in ECMA-262 the class is empty.
                if chars.peek() == Some(&']') {
                    chars.next();
                    let negation = if is_negated { "" } else { "^" };
                    written.push_str(&format!("[{negation}{SPACE}{NOT_SPACE}]"));
                } else {
                    in_class = true;
                    written.push_str(if is_negated { "[^" } else { "[" });
                }
            }
            '.' if !in_class => written.push_str(&format!("[^{LINE_ENDS}]")),
            '{' if !in_class && !is_repetition(chars.clone()) => written.push_str("\\{"),
            _ => written.push(c),
        }
    }
    written
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
