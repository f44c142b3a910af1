//! EBNF, as llama.cpp, xgrammar and vLLM read it (GBNF), rewritten as Lark.
//!
//! ```text
//! root ::= "a" [0-9]+ (word | "x"){2,3} # …        start: "a" /[0-9]/+ (r_word | "x"){2,3}
//! ```
//!
//! Rules keep their shape: each becomes a rule of Lark whose name says where it comes from, and a class of characters
//! becomes a regular expression of one character. What the notation has is literals, classes, `.`, references, groups,
//! alternatives, `* + ? {m,n}` and comments.

use std::fmt::Write;

use serde_json::Value;

use super::GrammarError;

/// Whether a grammar is written in this notation.
pub(super) fn is_ebnf(text: &str) -> bool {
    text.contains("::=")
}

/// The grammar in Lark.
pub(super) fn to_lark(text: &str) -> Result<String, GrammarError> {
    let mut reader = Reader { rest: text, text };
    let mut lark = String::new();
    let mut has_root = false;
    loop {
        reader.skip(true);
        if reader.rest.is_empty() {
            break;
        }
        let name = reader.name()?;
        has_root |= name == "root";
        reader.skip(true);
        if !reader.take("::=") {
            return Err(reader.expected("::= behind the name of a rule"));
        }
        let _ = write!(lark, "{}: ", rule_name(name));
        reader.body(&mut lark)?;
        lark.push('\n');
    }
    if !has_root {
        return Err(invalid("it has no rule root".to_owned()));
    }
    Ok(lark)
}

fn invalid(reason: String) -> GrammarError {
    GrammarError::Invalid {
        expected: "a grammar in EBNF",
        reason,
    }
}

/// Names in Lark are of small letters, digits and underscores.
fn rule_name(name: &str) -> String {
    if name == "root" {
        return "start".to_owned();
    }
    let mut out = "r_".to_owned();
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            '_' => out.push_str("__"),
            '-' => out.push_str("_d"),
            other => {
                let _ = write!(out, "_u{:x}", u32::from(other));
            }
        }
    }
    out
}

struct Reader<'a> {
    rest: &'a str,
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn line(&self) -> usize {
        let read = self.text.len() - self.rest.len();
        1 + self.text[..read].matches('\n').count()
    }

    fn expected(&self, what: &str) -> GrammarError {
        let found: String = self.rest.chars().take(12).collect();
        invalid(format!(
            "line {}: expected {what}, found {found:?}",
            self.line()
        ))
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Passes over blanks and comments; over the ends of lines, too, if `lines`.
    fn skip(&mut self, lines: bool) {
        loop {
            let is_blank = |c: char| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'));
            self.rest = self.rest.trim_start_matches(is_blank);
            if !self.rest.starts_with('#') {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
    }

    fn name(&mut self) -> Result<&'a str, GrammarError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.expected("the name of a rule"));
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name)
    }

    /// Whether a rule begins here: then the one before has ended.
    fn is_at_rule(&self) -> bool {
        let mut ahead = Reader { ..*self };
        ahead.name().is_ok() && {
            ahead.skip(false);
            ahead.rest.starts_with("::=")
        }
    }

    /// What stands behind `::=`. Groups are counted, not nested: the two notations have the same brackets.
    fn body(&mut self, lark: &mut String) -> Result<(), GrammarError> {
        let mut open = 0_usize;
        let mut is_empty = true;
        loop {
            self.skip(false);
            let next = self.rest.chars().next();
            match next {
                None if open == 0 => break,
                None => return Err(self.expected("a closing bracket")),
                Some('\n' | '\r') => {
                    self.skip(true);
                    if open == 0 && (self.rest.is_empty() || self.is_at_rule()) {
                        break;
                    }
                    continue;
                }
                Some('|') => {
                    if is_empty {
                        lark.push_str("\"\" ");
                    }
                    self.next();
                    lark.push_str("| ");
                    is_empty = true;
                    continue;
                }
                Some('(') => {
                    self.next();
                    open += 1;
                    lark.push_str("( ");
                    is_empty = true;
                    continue;
                }
                Some(')') if open > 0 => {
                    if is_empty {
                        lark.push_str("\"\" ");
                    }
                    self.next();
                    open -= 1;
                    lark.push(')');
                }
                Some('"') => lark.push_str(&self.literal()?),
                Some('[') => lark.push_str(&self.class()?),
                Some('.') => {
                    self.next();
                    lark.push_str("/(.|\\n)/");
                }
                Some(_) => lark.push_str(&rule_name(self.name()?)),
            }
            is_empty = false;
            self.repetition(lark)?;
            lark.push(' ');
        }
        if is_empty {
            lark.push_str("\"\"");
        }
        Ok(())
    }

    fn repetition(&mut self, lark: &mut String) -> Result<(), GrammarError> {
        match self.rest.chars().next() {
            Some(sign @ ('*' | '+' | '?')) => {
                self.next();
                lark.push(sign);
            }
            Some('{') => {
                let Some(end) = self.rest.find('}') else {
                    return Err(self.expected("a repetition that ends in }"));
                };
                let bounds = &self.rest[1..end];
                let is_bound = |c: char| c.is_ascii_digit() || c == ',' || c == ' ';
                if bounds.is_empty() || !bounds.chars().all(is_bound) {
                    return Err(self.expected("a repetition such as {2} or {1,3}"));
                }
                lark.push_str(&self.rest[..=end].replace(' ', ""));
                self.rest = &self.rest[end + 1..];
            }
            _ => {}
        }
        Ok(())
    }

    /// `"…"`, quoted as in JSON.
    fn literal(&mut self) -> Result<String, GrammarError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.expected("the end of a literal")),
                Some('"') => return Ok(Value::from(text).to_string()),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    /// `[…]`, as a regular expression.
    fn class(&mut self) -> Result<String, GrammarError> {
        self.next();
        let mut regex = "/[".to_owned();
        if self.take("^") {
            regex.push('^');
        }
        let mut is_first = true;
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.expected("the end of a class")),
                Some(']') if !is_first => break,
                // A range, or the sign itself at one of the ends.
                Some('-') if !is_first && !self.rest.starts_with(']') => regex.push('-'),
                Some('\\') => push_char(&mut regex, self.escaped()?),
                Some(c) => push_char(&mut regex, c),
            }
            is_first = false;
        }
        regex.push_str("]/");
        Ok(regex)
    }

    fn escaped(&mut self) -> Result<char, GrammarError> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(c) if c.is_ascii_punctuation() => return Ok(c),
            _ => return Err(self.expected("an escape such as \\n, \\x41 or \\u0041")),
        };
        let code = self.rest.get(..digits);
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        let Some(c) = code.and_then(char::from_u32) else {
            return Err(self.expected("the number of a character in hexadecimal digits"));
        };
        self.rest = &self.rest[digits..];
        Ok(c)
    }
}

/// A character of a class, so that nothing in it has a meaning of its own.
fn push_char(regex: &mut String, c: char) {
    let _ = write!(regex, "\\u{{{:x}}}", u32::from(c));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_become_rules() {
        let lark = to_lark(
            "# a comment\nroot ::= \"a\" [0-9]+ (my-word | \"x\\n\" |){2, 3}\n\nmy-word ::=\n  [^a\\]-] .?\n  | root # more\n",
        );
        assert_eq!(
            lark.unwrap(),
            "start: \"a\" /[\\u{30}-\\u{39}]/+ ( r_my_dword | \"x\\n\" | \"\" ){2,3} \n\
             r_my_dword: /[^\\u{61}\\u{5d}\\u{2d}]/ /(.|\\n)/? | start \n"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, reason) in [
            ("a ::= \"b\"", "no rule root"),
            ("root ::= \"b", "line 1: expected the end of a literal"),
            (
                "root ::= a\n\nb = c ::= d",
                "line 3: expected the name of a rule",
            ),
            ("root ::= (\"a\"", "expected a closing bracket"),
            ("root ::= [a", "the end of a class"),
            ("root ::= \"\\q\"", "an escape"),
            ("root ::= a{x}", "a repetition such as"),
            ("root ::= a)", "the name of a rule"),
        ] {
            let found = to_lark(text).unwrap_err().to_string();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }
}
