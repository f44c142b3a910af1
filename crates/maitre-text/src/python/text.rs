//! Characters and lines as Python's `str` sees them.

/// `str.isspace` of one character, which `strip`, `split` and `\s` use.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Where `str.splitlines` ends a line.
pub(crate) fn is_line_break(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// `str.splitlines`.
pub(crate) fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_line_break) {
        let end = rest[at..].chars().next().map_or(0, char::len_utf8);
        let end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            end
        };
        lines.push(&rest[..if keep_ends { at + end } else { at }]);
        rest = &rest[at + end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

pub(crate) fn char_count(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars().count()
}

/// The byte at which character `index` starts; the text's end beyond it.
pub(crate) fn byte_of(text: &str, index: usize) -> usize {
    if text.is_ascii() {
        return index.min(text.len());
    }
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(at, _)| at)
}

/// A word's first letter: `str.title` and `str.capitalize` use the titlecase form.
pub(crate) fn title_case(c: char, out: &mut String) {
    let digraph = match c {
        '\u{1c4}'..='\u{1c6}' => Some('\u{1c5}'),
        '\u{1c7}'..='\u{1c9}' => Some('\u{1c8}'),
        '\u{1ca}'..='\u{1cc}' => Some('\u{1cb}'),
        '\u{1f1}'..='\u{1f3}' => Some('\u{1f2}'),
        '\u{10d0}'..='\u{10ff}' => Some(c),
        '\u{1f80}'..='\u{1faf}' => char::from_u32(u32::from(c) | 8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => char::from_u32(u32::from(c) + 9),
        '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}' => Some(c),
        _ => None,
    };
    if let Some(digraph) = digraph {
        return out.push(digraph);
    }
    let mut upper = c.to_uppercase();
    out.extend(upper.next());
    for more in upper {
        out.extend(more.to_lowercase());
    }
}

/// `str.capitalize`.
pub(crate) fn capitalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    if let Some(first) = chars.next() {
        title_case(first, &mut out);
        let rest = chars.as_str();
        // The final sigma depends on what stands before it.
        let whole = text.to_lowercase();
        let first_lower: String = first.to_lowercase().collect();
        match whole.strip_prefix(&first_lower) {
            Some(lower) => out.push_str(lower),
            None => out.push_str(&rest.to_lowercase()),
        }
    }
    out
}

/// Whether a character has upper and lower case.
pub(crate) fn is_cased(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase() || is_title_case(c)
}

pub(crate) fn is_title_case(c: char) -> bool {
    matches!(
        c,
        '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}'
            | '\u{1f88}'..='\u{1f8f}'
            | '\u{1f98}'..='\u{1f9f}'
            | '\u{1fa8}'..='\u{1faf}'
            | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}'
    )
}

/// `str.isprintable` of one character. Noncharacters count as printable: masked control tokens
/// travel through templates as noncharacters and must come out as they went in.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_control() || (c.is_whitespace() && c != ' ') {
        return false;
    }
    !matches!(
        u32::from(c),
        0xad | 0x600..=0x605
            | 0x61c
            | 0x6dd
            | 0x70f
            | 0x890..=0x891
            | 0x8e2
            | 0x180e
            | 0x200b..=0x200f
            | 0x202a..=0x202e
            | 0x2060..=0x2064
            | 0x2066..=0x206f
            | 0xe000..=0xf8ff
            | 0xfeff
            | 0xfff9..=0xfffb
            | 0x110bd
            | 0x110cd
            | 0x13430..=0x13438
            | 0x1bca0..=0x1bca3
            | 0x1d173..=0x1d17a
            | 0xe0001
            | 0xe0020..=0xe007f
            | 0xf0000..=0xffffd
            | 0x10_0000..=0x10_fffd
    )
}

/// A character of a word, `\w`.
pub(crate) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_pythons() {
        for (text, expected) in [
            ("hELLO wORLD", "Hello world"),
            ("ßa", "Ssa"),
            ("ǆX", "ǅx"),
            ("ΑΣ", "Ας"),
            ("", ""),
        ] {
            assert_eq!(capitalize(text), expected);
        }
    }

    #[test]
    fn lines_end_where_pythons_do() {
        assert_eq!(
            split_lines("a\r\nb\u{b}c\n\nd", false),
            ["a", "b", "c", "", "d"]
        );
        assert_eq!(split_lines("a\n", true), ["a\n"]);
    }
}
