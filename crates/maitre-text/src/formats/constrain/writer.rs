//! Writes rules of a Lark grammar, with special tokens where the tokenizer has them.

use std::fmt::Write as _;

use super::TEXT;

/// A grammar's text, rule by rule.
pub(super) struct Writer<'a> {
    special_token: &'a dyn Fn(&str) -> Option<u32>,
    /// The special tokens that marks may contain, with their ids.
    special: Vec<(&'static str, u32)>,
    rules: String,
    num_rules: usize,
    /// Sets of rules that are written once.
    begun: Vec<&'static str>,
}

/// A piece of a mark.
enum Piece<'t> {
    Text(&'t str),
    Token(u32),
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        special_token: &'a dyn Fn(&str) -> Option<u32>,
        tokens: &'static [&'static str],
    ) -> Self {
        let mut writer = Self {
            special_token,
            special: Vec::new(),
            rules: String::new(),
            num_rules: 0,
            begun: Vec::new(),
        };
        writer.add_special(tokens);
        writer
    }

    /// More texts that may be special tokens.
    pub(super) fn add_special(&mut self, tokens: &'static [&'static str]) {
        let known = tokens
            .iter()
            .filter_map(|&text| Some((text, (self.special_token)(text)?)));
        let known: Vec<_> = known.collect();
        self.special.extend(known);
    }

    pub(super) fn is_special(&self, text: &str) -> bool {
        self.special.iter().any(|&(token, _)| token == text)
    }

    /// The text taken apart into special tokens and what stands between them.
    fn pieces<'t>(&self, mut text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        while !text.is_empty() {
            let found = self.special.iter().filter_map(|&(token, id)| {
                Some((text.find(token)?, std::cmp::Reverse(token.len()), id))
            });
            let Some((at, length, id)) = found.min() else {
                pieces.push(Piece::Text(text));
                break;
            };
            let (before, rest) = text.split_at(at);
            if !before.is_empty() {
                pieces.push(Piece::Text(before));
            }
            pieces.push(Piece::Token(id));
            text = rest.get(length.0..).unwrap_or("");
        }
        pieces
    }

    /// Exactly this text.
    pub(super) fn literal(&self, text: &str) -> String {
        let write = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => quote(text),
            Piece::Token(id) => format!("<[{id}]>"),
        };
        let pieces: Vec<String> = self.pieces(text).iter().map(write).collect();
        pieces.join(" ")
    }

    /// Any text up to a mark, and the mark. The text does not contain the mark.
    pub(super) fn text_until(&mut self, mark: &str) -> String {
        let pieces = self.pieces(mark);
        let Some(token) = pieces
            .iter()
            .position(|piece| matches!(piece, Piece::Token(_)))
        else {
            let name = self.new_name("until");
            let rule = format!("{name}[suffix={}]: {TEXT}\n", quote(mark));
            self.rules.push_str(&rule);
            return name;
        };
        // No text contains a special token, so the text ends where one comes.
        let text = match pieces.first() {
            Some(Piece::Text(before)) if token > 0 => format!("/(?s:.*){}/", escape(before)),
            _ => TEXT.to_owned(),
        };
        let at = match pieces.first() {
            Some(Piece::Text(before)) => before.len(),
            _ => 0,
        };
        format!("{text} {}", self.literal(mark.get(at..).unwrap_or("")))
    }

    /// Whether this set of rules is to be written, which is so once.
    pub(super) fn begin_once(&mut self, set: &'static str) -> bool {
        let is_new = !self.begun.contains(&set);
        self.begun.push(set);
        is_new
    }

    /// A name that no rule has yet.
    fn new_name(&mut self, kind: &str) -> String {
        self.num_rules += 1;
        format!("{kind}_{}", self.num_rules)
    }

    /// Adds a rule.
    pub(super) fn rule(&mut self, name: &str, body: &str) {
        let body = match body.trim() {
            "" => "\"\"",
            body => body,
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.rules, "{name}: {body}");
    }

    /// All rules.
    pub(super) fn finish(self) -> String {
        self.rules
    }
}

/// A string of the grammar.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text in a regular expression between slashes.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if r"/\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
