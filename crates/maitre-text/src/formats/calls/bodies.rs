//! What stands in a call: its name, and its arguments in each of the syntaxes.

use super::super::description::{Arguments, Body, NameSuffix, Placement};
use super::super::envelope::EnvelopeStep;
use super::super::json::{JsonStep, is_json};
use super::super::literal;
use super::super::marks::{Goal, Way, Written};
use super::super::output::Output;
use super::super::schema;
use super::super::tools::{is_name, is_name_character};
use super::super::values::{LiteralStep, can_be_key};
use super::{Calls, Flow, MAX_WORD_BYTES, Stage};

impl Calls {
    pub(super) fn read_name(&mut self, c: char) -> Flow {
        if c.is_whitespace() && self.name.is_empty() {
            return self.keep(c);
        }
        if is_name_character(c) && self.name.len() < MAX_WORD_BYTES {
            self.name.push(c);
            return self.keep(c);
        }
        if !is_name(&self.name) || !self.may_call() {
            return Flow::Failed;
        }
        let Body::Named { suffix, .. } = self.syntax.body else {
            return Flow::Failed;
        };
        match suffix {
            NameSuffix::None => self.after_suffix(),
            NameSuffix::Index(before) => {
                if let Some(name) = self.name.strip_prefix(before) {
                    self.name = name.to_owned();
                }
                self.stage = Stage::Index;
                Flow::Again
            }
            NameSuffix::Id(mark) => {
                let arguments = Way::new(self.arguments_open(), Goal::Arguments);
                let id = Way::new(mark, Goal::Id);
                // Models leave the mark before the arguments out when it is no token of theirs.
                self.expect(arguments, Some(id), Some(Goal::Arguments));
                Flow::Again
            }
        }
    }

    pub(super) fn arguments_open(&self) -> &'static str {
        match self.syntax.body {
            Body::Named { arguments_open, .. } => arguments_open,
            Body::Envelope { .. } => "",
        }
    }

    /// Only a known tool is called without a mark that text does not contain.
    pub(super) fn may_call(&self) -> bool {
        self.syntax.placement == Placement::Anywhere || self.tools.get(&self.name).is_some()
    }

    pub(super) fn after_suffix(&mut self) -> Flow {
        self.expect(Way::new(self.arguments_open(), Goal::Arguments), None, None);
        Flow::Again
    }

    pub(super) fn read_envelope(&mut self, c: char, out: &mut Output<'_>) -> Flow {
        let Stage::Envelope(envelope) = &mut self.stage else {
            return Flow::Failed;
        };
        match envelope.step(c) {
            EnvelopeStep::Wrong => return Flow::Failed,
            EnvelopeStep::More => return self.keep(c),
            EnvelopeStep::Name => {
                self.name.clone_from(&envelope.name);
                if !self.may_call() {
                    return Flow::Failed;
                }
                self.raw.push(c);
                if !self.held.is_empty() {
                    // The arguments came first.
                    let arguments = std::mem::take(&mut self.held);
                    self.open(out);
                    self.pass(&arguments, out);
                }
            }
            EnvelopeStep::Arguments => {
                let mut bytes = [0; 4];
                let text = c.encode_utf8(&mut bytes);
                self.raw.push(c);
                match self.name.is_empty() {
                    true => self.held.push_str(text),
                    false => {
                        self.open(out);
                        self.pass(text, out);
                    }
                }
            }
            EnvelopeStep::Last => {
                self.raw.push(c);
                self.complete(out);
                return self.close_call();
            }
        }
        Flow::More
    }

    pub(super) fn read_json(&mut self, c: char, out: &mut Output<'_>) -> Flow {
        let Stage::Json(json, begun) = &mut self.stage else {
            return Flow::Failed;
        };
        if !*begun && c.is_ascii_whitespace() {
            return self.keep(c);
        }
        if !*begun && c != '{' {
            return Flow::Failed;
        }
        *begun = true;
        let step = json.step(c);
        if matches!(step, JsonStep::Wrong | JsonStep::After) {
            return Flow::Failed;
        }
        self.raw.push(c);
        self.open(out);
        self.pass(c.encode_utf8(&mut [0; 4]), out);
        if step == JsonStep::Last {
            self.complete(out);
            return self.close_call();
        }
        Flow::More
    }

    /// The body of a call is complete; its closing mark follows, if there is one.
    pub(super) fn close_call(&mut self) -> Flow {
        self.expect(Way::new(self.syntax.call_close, Goal::Close), None, None);
        match self.stage {
            Stage::Over => Flow::Over,
            _ => Flow::More,
        }
    }

    pub(super) fn read_key(&mut self, c: char) -> Flow {
        let Some(parameters) = self.parameters() else {
            return Flow::Failed;
        };
        if parameters.key_close.starts_with(c) {
            self.key = self.key.trim().to_owned();
            if !can_be_key(&self.key, parameters) {
                return Flow::Failed;
            }
            let written = match parameters.json_key_close {
                None => Written::Either,
                Some(_) => Written::Text,
            };
            let json = |mark| Way::new(mark, Goal::Value(Written::Json));
            self.expect(
                Way::new(parameters.key_close, Goal::Value(written)),
                parameters.json_key_close.map(json),
                None,
            );
            return Flow::Again;
        }
        if self.key.len() >= MAX_WORD_BYTES || matches!(c, '\n' | '<' | '>') {
            return Flow::Failed;
        }
        self.key.push(c);
        self.keep(c)
    }

    pub(super) fn read_value(&mut self, c: char, out: &mut Output<'_>) -> Flow {
        let Stage::Value(value) = &mut self.stage else {
            return Flow::Failed;
        };
        let complete = value.push(c);
        let is_text = value.is_text();
        if complete {
            let text = std::mem::take(&mut value.text);
            let json = match (is_text, value.written) {
                (true, _) => literal::quote(&text),
                (false, Written::Json) if is_json(&text) => text.trim().to_owned(),
                (false, _) => schema::to_json(&text, value.kinds).into_owned(),
            };
            self.raw.push(c);
            if value.is_open {
                self.pass(json.strip_prefix('"').unwrap_or(&json), out);
            } else {
                self.pass_argument(&json, out);
            }
            self.begin_arguments();
            return Flow::More;
        }
        let certain = match is_text && !self.whole {
            true => value.take_certain(),
            false => None,
        };
        self.raw.push(c);
        if let Some(text) = certain {
            let was_open = std::mem::replace(&mut value.is_open, true);
            let rest = value.text.clone();
            let json = literal::quote(&text);
            let json = json.strip_suffix('"').unwrap_or(&json);
            match was_open {
                true => self.pass(json.strip_prefix('"').unwrap_or(json), out),
                false => self.pass_argument(json, out),
            }
            self.raw = rest;
        }
        Flow::More
    }

    pub(super) fn read_literal(&mut self, c: char, out: &mut Output<'_>) -> Flow {
        let Stage::Literal(item) = &mut self.stage else {
            return Flow::Failed;
        };
        let step = item.push(c);
        match step {
            LiteralStep::Wrong => return Flow::Failed,
            LiteralStep::More => return self.keep(c),
            LiteralStep::Comma | LiteralStep::End => {}
        }
        let text = std::mem::take(&mut item.text);
        let Some(Arguments::Literals(dialect)) = self.arguments() else {
            return Flow::Failed;
        };
        // Only the last one may be missing: there are no arguments, or a comma stands before the end.
        let is_blank = text.trim().is_empty() && step == LiteralStep::End;
        if !is_blank {
            let Some(argument) = literal::argument(&text, *dialect) else {
                return Flow::Failed;
            };
            self.key = argument.name;
            let kinds = self.tools.kinds(&self.name, &self.key);
            let json = match argument.text {
                // Some models put quotes around everything.
                Some(text) if !kinds.is_unknown() && !kinds.has(schema::Kinds::STRING) => {
                    schema::to_json(&text, kinds).into_owned()
                }
                _ => argument.json,
            };
            if step == LiteralStep::Comma {
                self.raw.push(c);
            }
            self.pass_argument(&json, out);
        }
        match step {
            LiteralStep::End => {
                self.expect(Way::new(self.syntax.call_close, Goal::Close), None, None);
                Flow::Again
            }
            _ => {
                self.begin_literal(*dialect);
                Flow::More
            }
        }
    }

    /// Passes an argument on, or its beginning.
    pub(super) fn pass_argument(&mut self, json: &str, out: &mut Output<'_>) {
        let before = match self.num_arguments {
            0 => '{',
            _ => ',',
        };
        let blank = if before == ',' { " " } else { "" };
        self.num_arguments += 1;
        self.open(out);
        self.pass(
            &format!("{before}{blank}{}: {json}", literal::quote(&self.key)),
            out,
        );
    }
}
