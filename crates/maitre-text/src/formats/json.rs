//! A JSON reader that takes one character at a time and keeps nothing but where it is: it tells whether the text
//! so far can still become JSON, and where a value ends. Calls stream their arguments through it unchanged.
//!
//! It is as strict as RFC 8259, and stricter in one point: half a surrogate pair is refused, since no text has it.

/// How deep arrays and objects may be nested; 127 is where `serde_json` stops reading.
const MAX_DEPTH: usize = 120;

/// What a character does to the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonStep {
    /// It belongs to the value, which goes on.
    More,
    /// It belongs to the value, and ends it.
    Last,
    /// The value ended before it (a number has no end of its own).
    After,
    /// No JSON value goes on like this.
    Wrong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Object,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A value starts here.
    Value,
    /// After `[`: a value or the end.
    FirstItem,
    /// After `{`: a key or the end.
    FirstKey,
    /// After a comma in an object.
    Key,
    Colon,
    /// After a value: a comma or the container's end.
    Next,
    Text {
        key: bool,
        in_text: InText,
    },
    Word(&'static str),
    Number(InNumber),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InText {
    Plain,
    Escape,
    /// Digits of `\uXXXX` read so far and their value; `low` if it must be the second half of a pair.
    Code {
        digits: u8,
        code: u32,
        low: bool,
    },
    /// The second half of a surrogate pair has to follow: its backslash, then its u.
    PairBackslash,
    PairU,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InNumber {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// A position in one JSON value.
#[derive(Debug, Clone)]
pub(super) struct Json {
    at: At,
    open: Vec<Container>,
}

impl Json {
    /// Before the value; white space may come first.
    pub(super) fn new() -> Self {
        Self {
            at: At::Value,
            open: Vec::new(),
        }
    }

    /// Takes the next character.
    pub(super) fn step(&mut self, c: char) -> JsonStep {
        let step = self.read(c);
        if step == JsonStep::More && self.at == At::End {
            return JsonStep::Last;
        }
        step
    }

    /// Whether it is inside a string.
    pub(super) fn is_in_text(&self) -> bool {
        matches!(self.at, At::Text { .. })
    }

    /// Whether a number that the text ends after is complete.
    fn may_end(&self) -> bool {
        use InNumber::{Digits, ExponentDigits, Fraction, Zero};
        self.open.is_empty()
            && matches!(
                self.at,
                At::End | At::Number(Zero | Digits | Fraction | ExponentDigits)
            )
    }

    fn read(&mut self, c: char) -> JsonStep {
        let blank = matches!(c, ' ' | '\t' | '\n' | '\r');
        match self.at {
            At::Text { key, in_text } => return self.text(key, in_text, c),
            At::Word(rest) => return self.word(rest, c),
            At::Number(number) => return self.number(number, c),
            At::End => return JsonStep::After,
            _ if blank => return JsonStep::More,
            _ => {}
        }
        let next = match (self.at, c) {
            (At::FirstItem, ']') | (At::FirstKey, '}') => return self.close(c),
            (At::Next, '}' | ']') => return self.close(c),
            (At::Next, ',') => match self.open.last() {
                Some(Container::Object) => At::Key,
                _ => At::Value,
            },
            (At::Colon, ':') => At::Value,
            (At::FirstKey | At::Key, '"') => At::Text {
                key: true,
                in_text: InText::Plain,
            },
            (At::Value | At::FirstItem, _) => return self.value(c),
            _ => return JsonStep::Wrong,
        };
        self.at = next;
        JsonStep::More
    }

    fn value(&mut self, c: char) -> JsonStep {
        self.at = match c {
            '{' | '[' if self.open.len() >= MAX_DEPTH => return JsonStep::Wrong,
            '{' => {
                self.open.push(Container::Object);
                At::FirstKey
            }
            '[' => {
                self.open.push(Container::Array);
                At::FirstItem
            }
            '"' => At::Text {
                key: false,
                in_text: InText::Plain,
            },
            't' => At::Word("rue"),
            'f' => At::Word("alse"),
            'n' => At::Word("ull"),
            '-' => At::Number(InNumber::Minus),
            '0' => At::Number(InNumber::Zero),
            '1'..='9' => At::Number(InNumber::Digits),
            _ => return JsonStep::Wrong,
        };
        JsonStep::More
    }

    /// A value is complete.
    fn complete(&mut self) {
        self.at = match self.open.is_empty() {
            true => At::End,
            false => At::Next,
        };
    }

    fn close(&mut self, c: char) -> JsonStep {
        let fits = match self.open.pop() {
            Some(Container::Object) => c == '}',
            Some(Container::Array) => c == ']',
            None => false,
        };
        if !fits {
            return JsonStep::Wrong;
        }
        self.complete();
        JsonStep::More
    }

    fn word(&mut self, rest: &'static str, c: char) -> JsonStep {
        match rest.strip_prefix(c) {
            None => return JsonStep::Wrong,
            Some("") => self.complete(),
            Some(rest) => self.at = At::Word(rest),
        }
        JsonStep::More
    }

    fn number(&mut self, at: InNumber, c: char) -> JsonStep {
        use InNumber::{
            Digits, Exponent, ExponentDigits, ExponentSign, Fraction, Minus, Point, Zero,
        };
        let next = match (at, c) {
            (Minus, '0') => Zero,
            (Minus, '1'..='9') | (Digits, '0'..='9') => Digits,
            (Zero | Digits, '.') => Point,
            (Point | Fraction, '0'..='9') => Fraction,
            (Zero | Digits | Fraction, 'e' | 'E') => Exponent,
            (Exponent, '+' | '-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, '0'..='9') => ExponentDigits,
            (Zero | Digits | Fraction | ExponentDigits, _) => {
                self.complete();
                return self.read(c);
            }
            _ => return JsonStep::Wrong,
        };
        self.at = At::Number(next);
        JsonStep::More
    }

    fn text(&mut self, key: bool, at: InText, c: char) -> JsonStep {
        let code = |low| InText::Code {
            digits: 0,
            code: 0,
            low,
        };
        let next = match (at, c) {
            (InText::Plain, '"') => {
                match key {
                    true => self.at = At::Colon,
                    false => self.complete(),
                }
                return JsonStep::More;
            }
            (InText::Plain, '\\') => InText::Escape,
            (InText::Plain, c) if c >= ' ' => InText::Plain,
            (InText::Escape, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => InText::Plain,
            (InText::Escape, 'u') => code(false),
            (InText::PairBackslash, '\\') => InText::PairU,
            (InText::PairU, 'u') => code(true),
            (InText::Code { digits, code, low }, c) => {
                let Some(digit) = c.to_digit(16) else {
                    return JsonStep::Wrong;
                };
                let code = code * 16 + digit;
                match (digits + 1, code, low) {
                    (4, 0xDC00..=0xDFFF, true) => InText::Plain,
                    (4, _, true) | (4, 0xDC00..=0xDFFF, false) => return JsonStep::Wrong,
                    (4, 0xD800..=0xDBFF, false) => InText::PairBackslash,
                    (4, ..) => InText::Plain,
                    (digits, ..) => InText::Code { digits, code, low },
                }
            }
            _ => return JsonStep::Wrong,
        };
        self.at = At::Text { key, in_text: next };
        JsonStep::More
    }
}

/// Whether all of it is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    let mut json = Json::new();
    for c in text.trim_matches([' ', '\t', '\n', '\r']).chars() {
        if matches!(json.step(c), JsonStep::Wrong | JsonStep::After) {
            return false;
        }
    }
    json.may_end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_agrees_with_serde_json() {
        for text in [
            "",
            "0",
            "-0",
            "00",
            "01",
            "1.",
            "1.5",
            "-",
            "1e5",
            "1E+",
            "1e-07",
            ".5",
            "tru",
            "true",
            "nul",
            "null",
            "\"",
            "\"a\"",
            "\"\\u00e9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\n\"",
            "\"\\x\"",
            "\"\n\"",
            "[",
            "[]",
            "[1,]",
            "[1,2]",
            "[1 2]",
            "[1}",
            "{",
            "{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1]",
            " { \"a\" : [ 1 , { } ] } ",
            "{}{}",
            "{} x",
            "é",
            "\"é\"",
            "'a'",
            "NaN",
        ] {
            let expected = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(is_json(text), expected, "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(is_json(&("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH))));
        assert!(!is_json(
            &("[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1))
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn it_agrees_with_serde_json_on_anything(text in r#"[\[\]{}",:0-2.eE+\\untrlfas \n-]{0,12}"#) {
            let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            // serde_json refuses numbers beyond an f64's range, which are JSON all the same.
            if expected || !text.contains(['e', 'E']) {
                prop_assert_eq!(is_json(&text), expected, "{:?}", text);
            }
        }
    }
}
