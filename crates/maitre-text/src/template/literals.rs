//! Literals as Jinja2 writes them: numbers and strings with Python's escapes.

/// Length of the float at the start of `text`: digits, then a fraction or an exponent or both.
pub(super) fn float_length(text: &str) -> Option<usize> {
    let whole = digits(text)?;
    let mut length = whole;
    if let Some(fraction) = text[length..].strip_prefix('.').and_then(digits) {
        length += 1 + fraction;
    }
    let exponent = text[length..].strip_prefix(['e', 'E']).and_then(|rest| {
        let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        Some(1 + rest.len() - unsigned.len() + digits(unsigned)?)
    });
    length += exponent.unwrap_or(0);
    (length > whole).then_some(length)
}

/// Length of decimal digits with single underscores between them.
fn digits(text: &str) -> Option<usize> {
    run(text, |c| c.is_ascii_digit())
}

fn run(text: &str, is_digit: impl Fn(char) -> bool) -> Option<usize> {
    let mut length = 0;
    let mut rest = text;
    loop {
        let candidate = if length > 0 {
            rest.strip_prefix('_').unwrap_or(rest)
        } else {
            rest
        };
        match candidate.chars().next().filter(|&c| is_digit(c)) {
            Some(_) => {
                rest = &candidate[1..];
                length = text.len() - rest.len();
            }
            None => return (length > 0).then_some(length),
        }
    }
}

/// Length of the integer at the start of `text`: binary, octal, hexadecimal or decimal.
pub(super) fn integer_length(text: &str) -> Option<usize> {
    let lower = text.get(..2).map(str::to_ascii_lowercase);
    let radix = match lower.as_deref() {
        Some("0b") => Some(2),
        Some("0o") => Some(8),
        Some("0x") => Some(16),
        _ => None,
    };
    if let Some(radix) = radix {
        let after = text[2..].strip_prefix('_').unwrap_or(&text[2..]);
        if let Some(length) = run(after, |c| c.is_digit(radix)) {
            return Some(text.len() - after.len() + length);
        }
    }
    if text.starts_with('0') {
        return run(text, |c| c == '0');
    }
    digits(text)
}

/// The value of an integer literal, if 127 bits are enough.
pub(super) fn integer(text: &str) -> Option<i128> {
    let text = text.replace('_', "").to_ascii_lowercase();
    for (prefix, radix) in [("0b", 2), ("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return i128::from_str_radix(digits, radix).ok();
        }
    }
    text.parse().ok()
}

/// Length of the string at the start of `text`, quotes included.
pub(super) fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// What a string literal stands for. Jinja2 encodes it as ASCII with `backslashreplace` and decodes
/// that with `unicode-escape`; so a backslash before a letter beyond ASCII shows that letter's number.
pub(super) fn unescape(text: &str) -> Result<String, String> {
    let mut ascii = String::with_capacity(text.len());
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    for c in text.chars() {
        match u32::from(c) {
            0..=0x7f => ascii.push(c),
            code @ 0..=0xff => ascii.push_str(&format!("\\x{code:02x}")),
            code @ 0..=0xffff => ascii.push_str(&format!("\\u{code:04x}")),
            code => ascii.push_str(&format!("\\U{code:08x}")),
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = ascii.as_str();
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (length, decoded) = decode(escape)?;
        match decoded {
            Some(c) => out.push(c),
            None if length == 0 => out.push('\\'),
            None => {}
        }
        rest = &escape[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Length of the escape behind a backslash, and the character it stands for. No character: the escape
/// stands for nothing (a line break), or, with length 0, it is none and the backslash stays.
fn decode(escape: &str) -> Result<(usize, Option<char>), String> {
    let simple = |c| Ok((1, Some(c)));
    match escape.chars().next() {
        None => Err("\\ at end of string".to_owned()),
        Some('\n') => Ok((1, None)),
        Some(c @ ('\\' | '\'' | '"')) => simple(c),
        Some('a') => simple('\u{7}'),
        Some('b') => simple('\u{8}'),
        Some('f') => simple('\u{c}'),
        Some('n') => simple('\n'),
        Some('r') => simple('\r'),
        Some('t') => simple('\t'),
        Some('v') => simple('\u{b}'),
        Some('0'..='7') => {
            let length = escape
                .bytes()
                .take(3)
                .take_while(|byte| matches!(byte, b'0'..=b'7'))
                .count();
            number(&escape[..length], 8, length)
        }
        Some('x') => hexadecimal(escape, 2),
        Some('u') => hexadecimal(escape, 4),
        Some('U') => hexadecimal(escape, 8),
        Some('N') => Err("\\N{...} escapes are not supported".to_owned()),
        Some(_) => Ok((0, None)),
    }
}

fn hexadecimal(escape: &str, digits: usize) -> Result<(usize, Option<char>), String> {
    match escape.get(1..=digits) {
        Some(text) if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            number(text, 16, digits + 1)
        }
        _ => Err(format!("truncated \\{} escape", &escape[..1])),
    }
}

fn number(text: &str, radix: u32, length: usize) -> Result<(usize, Option<char>), String> {
    u32::from_str_radix(text, radix)
        .ok()
        .and_then(char::from_u32)
        .map(|c| (length, Some(c)))
        .ok_or_else(|| format!("the escape {text:?} is no character (half of a surrogate pair?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_pythons_do() {
        for (text, float, integer) in [
            ("1.5e3x", Some(5), Some(1)),
            ("1e+5", Some(4), Some(1)),
            ("1_000.0", Some(7), Some(5)),
            ("1.x", None, Some(1)),
            ("1e", None, Some(1)),
            ("0x1F g", None, Some(4)),
            ("0_0", None, Some(3)),
            ("007", None, Some(2)),
            ("x", None, None),
        ] {
            assert_eq!(float_length(text), float, "{text}");
            assert_eq!(integer_length(text), integer, "{text}");
        }
    }

    #[test]
    fn escapes_are_pythons() {
        assert_eq!(unescape(r"a\n\x41\101\d\\é\u00e9").unwrap(), "a\nAA\\d\\éé");
        assert_eq!(unescape("\\é").unwrap(), r"\xe9");
        assert_eq!(unescape("a\\\nb").unwrap(), "ab");
        assert!(unescape(r"\ud83d").is_err());
    }
}
