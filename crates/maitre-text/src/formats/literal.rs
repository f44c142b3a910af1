//! Literals that are not JSON, turned into JSON: Python's (`'it\'s'`, `True`, `None`, `(1, 2)`) and Gemma's
//! (strings between marks instead of quotes, keys without any).

use serde_json::Value;

use super::json::is_json;

/// How deep a literal may be nested.
const MAX_DEPTH: usize = 64;

/// How a family writes literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `name="value", flag=True`.
    Python,
    /// `name:<|"|>value<|"|>,flag:true`, with this mark around strings.
    Gemma(&'static str),
}

impl Dialect {
    /// What stands between an argument's name and its value.
    pub(super) fn assign(self) -> char {
        match self {
            Self::Python => '=',
            Self::Gemma(_) => ':',
        }
    }
}

/// A text as a JSON string.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// One argument, taken apart.
pub(super) struct Argument {
    /// Its name.
    pub(super) name: String,
    /// Its value as JSON.
    pub(super) json: String,
    /// The text, if the value is one.
    pub(super) text: Option<String>,
}

/// Reads `name=value`.
pub(super) fn argument(text: &str, dialect: Dialect) -> Option<Argument> {
    let (name, value) = text.split_once(dialect.assign())?;
    let name = name.trim();
    if !is_argument_name(name) {
        return None;
    }
    let mut reader = Reader {
        rest: value,
        dialect,
    };
    let mut json = String::new();
    let text = reader.value(&mut json, 0)?;
    reader.end()?;
    Some(Argument {
        name: name.to_owned(),
        json,
        text,
    })
}

/// Whether it can be the name of an argument before a literal.
pub(super) fn is_argument_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    !name.is_empty() && name.chars().all(plain)
}

/// A Python literal as JSON.
pub(super) fn python_value(text: &str) -> Option<String> {
    let mut reader = Reader {
        rest: text,
        dialect: Dialect::Python,
    };
    let mut json = String::new();
    reader.value(&mut json, 0)?;
    reader.end()?;
    Some(json)
}

struct Reader<'a> {
    rest: &'a str,
    dialect: Dialect,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn end(&mut self) -> Option<()> {
        self.skip();
        self.rest.is_empty().then_some(())
    }

    /// Takes what is expected.
    fn take(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// Writes a value as JSON, and returns its text if it is one.
    fn value(&mut self, json: &mut String, depth: usize) -> Option<Option<String>> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip();
        if let Some(text) = self.text()? {
            json.push_str(&quote(&text));
            return Some(Some(text));
        }
        match self.rest.chars().next()? {
            '[' => self.items('[', ']', json, depth)?,
            '(' if self.dialect == Dialect::Python => self.items('(', ')', json, depth)?,
            '{' => self.object(json, depth)?,
            _ => self.word(json)?,
        }
        Some(None)
    }

    fn items(&mut self, open: char, close: char, json: &mut String, depth: usize) -> Option<()> {
        self.rest = self.rest.strip_prefix(open)?;
        json.push('[');
        let mut first = true;
        loop {
            self.skip();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                json.push(']');
                return Some(());
            }
            if !first {
                json.push_str(", ");
            }
            first = false;
            self.value(json, depth + 1)?;
            self.comma(close)?;
        }
    }

    fn object(&mut self, json: &mut String, depth: usize) -> Option<()> {
        self.take("{")?;
        json.push('{');
        let mut first = true;
        loop {
            self.skip();
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                json.push('}');
                return Some(());
            }
            if !first {
                json.push_str(", ");
            }
            first = false;
            let key = self.key()?;
            json.push_str(&quote(&key));
            self.skip();
            self.take(":")?;
            json.push_str(": ");
            self.value(json, depth + 1)?;
            self.comma('}')?;
        }
    }

    /// A comma, or the end, which stays.
    fn comma(&mut self, close: char) -> Option<()> {
        self.skip();
        match self.rest.starts_with(close) {
            true => Some(()),
            false => self.take(","),
        }
    }

    fn key(&mut self) -> Option<String> {
        if let Some(text) = self.text()? {
            return Some(text);
        }
        if self.dialect == Dialect::Python {
            return None;
        }
        let (key, _) = self.rest.split_once(':')?;
        if key.is_empty() || key.contains(['{', '}', '[', ']', ',']) {
            return None;
        }
        self.rest = self.rest.get(key.len()..)?;
        Some(key.trim().to_owned())
    }

    /// A string, if one stands here; nothing at all if it does not end.
    fn text(&mut self) -> Option<Option<String>> {
        match self.dialect {
            Dialect::Gemma(mark) => {
                let Some(rest) = self.rest.strip_prefix(mark) else {
                    return Some(None);
                };
                let (text, rest) = rest.split_once(mark)?;
                self.rest = rest;
                Some(Some(text.to_owned()))
            }
            Dialect::Python => match self.rest.chars().next() {
                Some(quote @ ('"' | '\'')) => self.python_text(quote).map(Some),
                _ => Some(None),
            },
        }
    }

    fn python_text(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.chars();
        chars.next();
        loop {
            match chars.next()? {
                c if c == quote => {
                    self.rest = chars.as_str();
                    return Some(text);
                }
                '\\' => python_escape(&mut chars, &mut text)?,
                c => text.push(c),
            }
        }
    }

    /// A number or a name of a constant.
    fn word(&mut self, json: &mut String) -> Option<()> {
        let end = self
            .rest
            .find([',', ']', '}', ')', ':'])
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        let word = word.trim_end();
        let written = match word {
            "True" | "true" => "true",
            "False" | "false" => "false",
            "None" | "null" => "null",
            number if is_json(number) && !number.starts_with(['"', '[', '{']) => number,
            _ => return None,
        };
        json.push_str(written);
        self.rest = rest;
        Some(())
    }
}

/// What stands after a backslash. An unknown escape stays as it is, as in Python.
fn python_escape(chars: &mut std::str::Chars<'_>, text: &mut String) -> Option<()> {
    let c = chars.next()?;
    let plain = match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '0' => '\0',
        '\\' | '\'' | '"' | '/' => c,
        '\n' => return Some(()),
        'x' => code(chars, 2).and_then(char::from_u32)?,
        'u' => match code(chars, 4)? {
            high @ 0xD800..=0xDBFF => {
                let mut ahead = chars.clone();
                if (ahead.next(), ahead.next()) != (Some('\\'), Some('u')) {
                    return None;
                }
                let low = code(&mut ahead, 4)?
                    .checked_sub(0xDC00)
                    .filter(|&low| low < 0x400)?;
                *chars = ahead;
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + low)?
            }
            unit => char::from_u32(unit)?,
        },
        'U' => code(chars, 8).and_then(char::from_u32)?,
        other => {
            text.push('\\');
            other
        }
    };
    text.push(plain);
    Some(())
}

fn code(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    let mut value = 0_u32;
    for _ in 0..digits {
        value = value.checked_mul(16)? + chars.next()?.to_digit(16)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_literals_become_json() {
        for (python, json) in [
            ("1", "1"),
            ("-2.5e3", "-2.5e3"),
            ("True", "true"),
            ("None", "null"),
            (r#""a\"b""#, r#""a\"b""#),
            (r"'it\'s'", r#""it's""#),
            (r#"'say "hi"'"#, r#""say \"hi\"""#),
            (r"'\u00e9\n\x41\q'", r#""é\nA\\q""#),
            (r"'\ud83d\ude00'", "\"😀\""),
            ("[1, 'a', [], ]", r#"[1, "a", []]"#),
            ("(1, 2)", "[1, 2]"),
            (
                "{'a': {'b': None}, \"c\": []}",
                r#"{"a": {"b": null}, "c": []}"#,
            ),
        ] {
            assert_eq!(python_value(python).as_deref(), Some(json), "{python}");
        }
    }

    #[test]
    fn what_is_no_literal_is_refused() {
        for python in [
            "",
            "a",
            "1 2",
            "[1",
            "[1 2]",
            "'a",
            "{1: 2}",
            "{'a'}",
            "f(1)",
            "1 +2",
            "'\\ud83d'",
        ] {
            assert_eq!(python_value(python), None, "{python}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(python_value(&deep), None);
    }

    #[test]
    fn gemma_literals_become_json() {
        let dialect = Dialect::Gemma("<|\"|>");
        let read = |text| argument(text, dialect).map(|argument| (argument.name, argument.json));
        let some = |name: &str, json: &str| Some((name.to_owned(), json.to_owned()));
        assert_eq!(read("a:<|\"|>x, \"y\"}<|\"|>"), some("a", r#""x, \"y\"}""#));
        assert_eq!(read("n:-1.5"), some("n", "-1.5"));
        assert_eq!(
            read("o:{k:[true,null],<|\"|>l m<|\"|>:<|\"|><|\"|>}"),
            some("o", r#"{"k": [true, null], "l m": ""}"#)
        );
        assert_eq!(read("o:{k:1"), None);
        assert_eq!(read("o:<|\"|>1"), None);
    }
}
