//! Jinja2's lexer: a template's source becomes data and tokens, with `trim_blocks` and `lstrip_blocks`
//! on, as transformers compiles chat templates. The rules and their order are those of
//! `jinja2/lexer.py`, because models were trained on the white space that they leave.

use super::syntax_error::SyntaxError;
use crate::python::text::is_space;

/// One token and the line it starts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) line: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// Text outside tags, trimmed.
    Data(String),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Text(String),
    Integer(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

/// Longest first, as they are tried.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

/// All tokens of a template.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, SyntaxError> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // One newline at the end of the file is not part of the template.
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer {
        rest: source,
        line: 1,
        line_starting: true,
        tokens: Vec::new(),
    };
    lexer.root()?;
    lexer.push(TokenKind::End);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    /// Whether the last token ended a line.
    line_starting: bool,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn push(&mut self, kind: TokenKind) {
        let line = self.line;
        self.tokens.push(Token { kind, line });
    }

    /// Takes `length` bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        self.line_starting = taken.ends_with('\n');
        taken
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(message, self.line))
    }

    fn skip_space(&mut self) {
        let length = space_length(self.rest);
        self.take(length);
    }

    fn root(&mut self) -> Result<(), SyntaxError> {
        while let Some(at) = first_tag(self.rest) {
            let text = &self.rest[..at];
            let tag = &self.rest[at..];
            let sign = sign(&tag[2..]);
            let is_variable = tag.starts_with("{{");
            let raw = raw_begin(tag);
            self.data(text, sign, !is_variable);
            self.line += text.matches('\n').count();
            self.rest = tag;
            match raw {
                Some(length) => {
                    self.take(length);
                    self.raw()?;
                }
                None => {
                    self.take(2 + sign.len());
                    if tag.starts_with("{#") {
                        self.comment()?;
                    } else {
                        self.inside(is_variable)?;
                    }
                }
            }
        }
        let text = self.rest;
        if !text.is_empty() {
            self.push(TokenKind::Data(text.to_owned()));
        }
        self.take(text.len());
        Ok(())
    }

    /// Text before a tag, stripped as the tag's sign and `lstrip_blocks` say.
    fn data(&mut self, text: &str, sign: &str, lstrip: bool) {
        let mut kept = text;
        if sign == "-" {
            kept = text.trim_end_matches(is_space);
        } else if sign != "+" && lstrip {
            let line_start = text.rfind('\n').map_or(0, |at| at + 1);
            let white = text[line_start..].chars().all(is_space);
            if white && (line_start > 0 || self.line_starting) {
                kept = &text[..line_start];
            }
        }
        if !kept.is_empty() {
            self.push(TokenKind::Data(kept.to_owned()));
        }
    }

    /// The rest of a comment, after its `{#`.
    fn comment(&mut self) -> Result<(), SyntaxError> {
        let Some(end) = self.rest.find("#}") else {
            return self.fail("Missing end of comment tag");
        };
        let sign = match self.rest[..end].chars().next_back() {
            Some('-') => "-",
            Some('+') => "+",
            _ => "",
        };
        self.take(end + 2);
        self.after_block_end(sign);
        Ok(())
    }

    /// What a block's or comment's end takes of the text behind it. `%}` takes one newline.
    fn after_block_end(&mut self, sign: &str) {
        match sign {
            "-" => {
                let length = space_length(self.rest);
                if length > 0 {
                    self.take(length);
                }
            }
            "" if self.rest.starts_with('\n') => {
                self.take(1);
            }
            _ => {}
        }
    }

    /// The text of a raw block, after its `{% raw %}`.
    fn raw(&mut self) -> Result<(), SyntaxError> {
        let mut from = 0;
        while let Some(found) = self.rest[from..].find("{%") {
            let at = from + found;
            let tag = &self.rest[at..];
            let begin_sign = sign(&tag[2..]);
            if let Some((length, end_sign)) = raw_end(tag, begin_sign) {
                let text = &self.rest[..at];
                self.data(text, begin_sign, true);
                self.take(at + length);
                self.after_block_end(end_sign);
                return Ok(());
            }
            from = at + 2;
        }
        self.fail("Missing end of raw directive")
    }

    /// A tag's tokens up to its end.
    fn inside(&mut self, is_variable: bool) -> Result<(), SyntaxError> {
        self.push(if is_variable {
            TokenKind::VariableBegin
        } else {
            TokenKind::BlockBegin
        });
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            if open.is_empty()
                && let Some((length, end_sign)) = tag_end(self.rest, is_variable)
            {
                self.push(if is_variable {
                    TokenKind::VariableEnd
                } else {
                    TokenKind::BlockEnd
                });
                self.take(length);
                match (is_variable, end_sign) {
                    (true, "-") => self.skip_space(),
                    (true, _) => {}
                    (false, sign) => self.after_block_end(sign),
                }
                return Ok(());
            }
            if self.rest.is_empty() {
                return Ok(());
            }
            self.token(&mut open)?;
        }
    }

    fn token(&mut self, open: &mut Vec<&'static str>) -> Result<(), SyntaxError> {
        let space = space_length(self.rest);
        if space > 0 {
            self.take(space);
            return Ok(());
        }
        let after_dot = matches!(
            self.tokens.last(),
            Some(Token {
                kind: TokenKind::Operator("."),
                ..
            })
        );
        if let Some(length) = super::literals::float_length(self.rest).filter(|_| !after_dot) {
            let text = self.rest[..length].replace('_', "");
            self.push(TokenKind::Float(text.parse().unwrap_or(f64::NAN)));
            self.take(length);
            return Ok(());
        }
        if let Some(length) = super::literals::integer_length(self.rest) {
            match super::literals::integer(&self.rest[..length]) {
                Some(number) => self.push(TokenKind::Integer(number)),
                None => {
                    return self.fail("integers beyond 127 bits are not supported");
                }
            }
            self.take(length);
            return Ok(());
        }
        let name = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        if name > 0 {
            self.push(TokenKind::Name(self.rest[..name].to_owned()));
            self.take(name);
            return Ok(());
        }
        if let Some(length) = super::literals::string_length(self.rest) {
            let text = super::literals::unescape(&self.rest[1..length - 1])
                .map_err(|message| SyntaxError::new(message, self.line))?;
            self.push(TokenKind::Text(text));
            self.take(length);
            return Ok(());
        }
        let Some(operator) = OPERATORS.into_iter().find(|op| self.rest.starts_with(op)) else {
            let c = self.rest.chars().next().unwrap_or_default();
            return self.fail(format!("unexpected char {c:?}"));
        };
        match operator {
            "{" => open.push("}"),
            "(" => open.push(")"),
            "[" => open.push("]"),
            "}" | ")" | "]" => match open.pop() {
                None => return self.fail(format!("unexpected '{operator}'")),
                Some(expected) if expected != operator => {
                    return self.fail(format!("unexpected '{operator}', expected '{expected}'"));
                }
                Some(_) => {}
            },
            _ => {}
        }
        self.push(TokenKind::Operator(operator));
        self.take(operator.len());
        Ok(())
    }
}

fn space_length(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

/// Where the next `{{`, `{%` or `{#` is.
fn first_tag(text: &str) -> Option<usize> {
    text.match_indices('{')
        .map(|(at, _)| at)
        .find(|&at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

fn sign(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'-') => "-",
        Some(b'+') => "+",
        _ => "",
    }
}

/// Length of `{% raw %}` at the start of `tag`, with the white space that `-%}` takes.
fn raw_begin(tag: &str) -> Option<usize> {
    let rest = tag.strip_prefix("{%")?;
    let rest = rest[sign(rest).len()..].trim_start_matches(is_space);
    let rest = rest.strip_prefix("raw")?.trim_start_matches(is_space);
    let rest = match rest.strip_prefix("-%}") {
        Some(rest) => rest.trim_start_matches(is_space),
        None => rest.strip_prefix("%}")?,
    };
    Some(tag.len() - rest.len())
}

/// Length and closing sign of `{% endraw %}` at the start of `tag`.
fn raw_end(tag: &str, begin_sign: &str) -> Option<(usize, &'static str)> {
    let rest = tag[2 + begin_sign.len()..].trim_start_matches(is_space);
    let rest = rest.strip_prefix("endraw")?.trim_start_matches(is_space);
    let end_sign = sign(rest);
    let rest = rest[end_sign.len()..].strip_prefix("%}")?;
    Some((tag.len() - rest.len(), end_sign))
}

/// Length and sign of a tag's end at the start of `text`.
fn tag_end(text: &str, is_variable: bool) -> Option<(usize, &'static str)> {
    let end = if is_variable { "}}" } else { "%}" };
    let sign = match sign(text) {
        "+" if is_variable => "",
        sign => sign,
    };
    text[sign.len()..]
        .starts_with(end)
        .then_some((sign.len() + end.len(), sign))
}
