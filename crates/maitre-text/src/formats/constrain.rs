//! The grammar of calls, from the same description that the parser reads: what a model that has to call a tool
//! may write. It is a grammar in llguidance's variant of Lark, as text.
//!
//! ```text
//! start: thought? section.0 call (between call)* section.1
//! call: call_0 | call_1 | …              one rule a tool
//! call_0: call_open NAME … arguments … call_close
//! ```
//! Marks that are special tokens of the tokenizer appear by their ids, `<[151657]>`; others are text.

mod arguments;
mod literals;
mod strict;
mod writer;

use super::ToolFormat;
use super::description::{Arguments, Body, Marked, NameSuffix, Syntax};
use super::reasoning::{ReasoningFormat, Thought};
use super::tools::{Tool, ToolChoice, Tools};
use crate::TextError;
use arguments::Schema;
use strict::Style;
use writer::Writer;

/// Any text.
const TEXT: &str = "/(?s:.*)/";
/// White space between a thought and what follows.
const BLANK: &str = "(/[ \\n]{1,4}/)?";

/// What a request wants of its calls.
#[derive(Clone, Copy)]
pub struct CallGrammar<'a> {
    /// The request's tools.
    pub tools: &'a Tools,
    /// Which of them are to be called.
    pub choice: &'a ToolChoice,
    /// Whether there may be more than one call. A named tool is called once.
    pub parallel: bool,
    /// Whether arguments follow the tools' schemas, or are any object: the way out where a schema says what
    /// the grammar's compiler does not know. Parameters that stand in elements always have the schema's names.
    pub follow_schemas: bool,
    /// How the model thinks before it calls, and where its prompt leaves off; nothing if it does not think.
    pub reasoning: Option<(&'static ReasoningFormat, Thought)>,
    /// The id of a special token of the model's tokenizer; nothing for a text that is none, even if it is a
    /// token.
    pub special_token: &'a dyn Fn(&str) -> Option<u32>,
}

impl ToolFormat {
    /// The grammar of an answer as the request wants it, in llguidance's Lark. Every answer that it accepts is
    /// one that [`PartParser`](crate::PartParser) finds the calls in.
    ///
    /// Nothing if the answer is free: the choice is none, or it is auto and no tool is strict, and others may be called.
    /// Otherwise text is free, a call has to be one of these tools, and that of a strict one has to follow its schema. Formats whose calls begin with no more than a
    /// bracket are left free then, too: what begins with a bracket may be text.
    ///
    /// # Errors
    /// [`TextError::ToolChoice`]: see [`ToolChoice::check`]. [`TextError::StrictTool`]: a strict tool's schema says what
    /// calls in this format are not made to follow.
    pub fn grammar(&self, request: &CallGrammar<'_>) -> Result<Option<String>, TextError> {
        request.choice.check(request.tools)?;
        let any_strict = request.tools.iter().any(|tool| tool.strict);
        let free = match request.choice {
            ToolChoice::None => return Ok(None),
            ToolChoice::Auto if any_strict || request.tools.is_exclusive() => true,
            ToolChoice::Auto => return Ok(None),
            ToolChoice::Required | ToolChoice::Named(_) => false,
        };
        let mut grammar = Grammar {
            request,
            writer: Writer::new(request.special_token, self.special_tokens),
            several: request.parallel && !matches!(request.choice, ToolChoice::Named(_)),
            free,
        };
        match &self.syntax {
            Syntax::Channels => grammar.channels(),
            Syntax::Marked(syntax) if free && syntax.bare_start().is_some() => return Ok(None),
            Syntax::Marked(syntax) => {
                if request.follow_schemas {
                    self.check_strict(syntax, &grammar.tools())?;
                }
                grammar.marked(syntax);
            }
        }
        Ok(Some(grammar.writer.finish()))
    }
}

impl ToolFormat {
    /// Refuses strict tools whose schemas say what the format's arguments are not made to follow.
    fn check_strict(&self, syntax: &Marked, tools: &[&Tool]) -> Result<(), TextError> {
        let style = match &syntax.body {
            Body::Envelope { .. } => return Ok(()),
            Body::Named { arguments, .. } => match arguments {
                Arguments::Json => return Ok(()),
                Arguments::Parameters(_) => Style::Elements,
                Arguments::Literals(_) => Style::Literals,
            },
        };
        for tool in tools.iter().filter(|tool| tool.strict) {
            if let Some((argument, keyword)) = Schema::new(tool, true).not_followed(style) {
                return Err(TextError::StrictTool {
                    tool: tool.name.clone(),
                    format: self.name,
                    argument,
                    keyword,
                });
            }
        }
        Ok(())
    }
}

/// A grammar that is being written.
struct Grammar<'a> {
    request: &'a CallGrammar<'a>,
    writer: Writer<'a>,
    several: bool,
    /// Whether text may stand around calls, and no call at all.
    free: bool,
}

impl<'a> Grammar<'a> {
    /// The tools that may be called.
    fn tools(&self) -> Vec<&'a Tool> {
        let named = |tool: &&Tool| match self.request.choice {
            ToolChoice::Named(name) => tool.name == *name,
            _ => true,
        };
        self.request.tools.iter().filter(named).collect()
    }

    /// Whether the arguments of this tool have to follow its schema.
    fn schema(&self, tool: &Tool) -> Schema {
        let follow = self.request.follow_schemas && (tool.strict || !self.free);
        Schema::new(tool, follow)
    }

    fn marked(&mut self, syntax: &Marked) {
        self.thought_tokens();
        let mut names = Vec::new();
        for (index, tool) in self.tools().into_iter().enumerate() {
            let name = format!("call_{index}");
            let body = self.call(syntax, tool, index);
            self.writer.rule(&name, &body);
            names.push(name);
        }
        self.writer.rule("call", &names.join(" | "));
        let (open, close) = syntax.section.unwrap_or_default();
        let call_open = syntax.call_open;
        let first = match syntax.section {
            Some(_) => format!("{open}{call_open}"),
            None => call_open.to_owned(),
        };
        let first = self.writer.literal(&first);
        let next = self
            .writer
            .literal(&format!("{}{call_open}", syntax.between));
        let more = match self.several {
            true => format!("({next} call)*"),
            false => String::new(),
        };
        let close = self.writer.literal(close);
        if self.free {
            self.free_text(syntax, &more, &close);
        } else {
            let thought = self.thought();
            self.writer
                .rule("start", &format!("{thought} {first} call {more} {close}"));
        }
    }

    /// Text, and calls in it.
    fn free_text(&mut self, syntax: &Marked, more: &str, close: &str) {
        let trigger = syntax.trigger();
        let mark = match syntax.section {
            Some((open, _)) => format!("{open}{}", syntax.call_open),
            None => syntax.call_open.to_owned(),
        };
        let rest = mark.get(trigger.len()..).unwrap_or("").to_owned();
        let rest = self.writer.literal(&rest);
        // After the calls the model may say more, and call again if it may do so.
        let again = if self.several { "*" } else { "?" };
        let before = self.writer.text_until(trigger);
        let thought = self.thought();
        self.writer
            .rule("start", &format!("{thought} calls{again} {TEXT}"));
        self.writer
            .rule("calls", &format!("{before} {rest} call {more} {close}"));
    }

    /// A call without its opening mark.
    fn call(&mut self, syntax: &Marked, tool: &Tool, index: usize) -> String {
        let schema = self.schema(tool);
        let close = self.writer.literal(syntax.call_close);
        let name = &tool.name;
        match &syntax.body {
            Body::Envelope { arguments, id } => {
                let before = format!("{{\"name\": \"{name}\", \"{arguments}\": ");
                let before = self.writer.literal(&before);
                let arguments = schema.as_json();
                let id = match id {
                    true => "(\", \\\"id\\\": \\\"\" /[a-zA-Z0-9]{1,16}/ \"\\\"\")?",
                    false => "",
                };
                format!("{before} {arguments} {id} \"}}\" {close}")
            }
            Body::Named {
                suffix,
                arguments_open,
                arguments,
            } => {
                let before = self.name(name, *suffix, arguments_open);
                let arguments = match arguments {
                    Arguments::Json => schema.as_json(),
                    Arguments::Parameters(parameters) => {
                        schema.as_elements(parameters, index, &mut self.writer)
                    }
                    Arguments::Literals(dialect) => {
                        schema.as_literals(*dialect, index, &mut self.writer)
                    }
                };
                format!("{before} {arguments} {close}")
            }
        }
    }

    fn name(&self, name: &str, suffix: NameSuffix, arguments_open: &str) -> String {
        match suffix {
            NameSuffix::None => self.writer.literal(&format!("{name}{arguments_open}")),
            NameSuffix::Index(before) => {
                let name = self.writer.literal(&format!("{before}{name}:"));
                let open = self.writer.literal(arguments_open);
                format!("{name} /[0-9]{{1,9}}/ {open}")
            }
            NameSuffix::Id(mark) => {
                let name = self.writer.literal(name);
                let open = self.writer.literal(arguments_open);
                match self.writer.is_special(mark) {
                    true => {
                        let mark = self.writer.literal(mark);
                        format!("{name} ({mark} /[a-zA-Z0-9]{{9}}/)? {open}")
                    }
                    false => format!("{name} {open}"),
                }
            }
        }
    }

    fn thought_tokens(&mut self) {
        if let Some((format, _)) = self.request.reasoning {
            self.writer.add_special(format.special_tokens);
        }
    }

    /// What the model may think first.
    fn thought(&mut self) -> String {
        let Some((format, thought)) = self.request.reasoning else {
            return String::new();
        };
        if thought == Thought::Closed {
            return String::new();
        }
        let until_close = self.writer.text_until(format.close);
        let open = self.writer.literal(format.open);
        match thought {
            Thought::Open => format!("{until_close} {BLANK}"),
            _ => format!("({open} {until_close} {BLANK})?"),
        }
    }

    /// gpt-oss: a message for each call, thoughts before it.
    fn channels(&mut self) {
        self.thought_tokens();
        let mut names = Vec::new();
        for (index, tool) in self.tools().into_iter().enumerate() {
            let schema = self.schema(tool);
            let header = format!(
                "<|channel|>commentary to=functions.{} <|constrain|>json<|message|>",
                tool.name
            );
            let header = self.writer.literal(&header);
            let end = self.writer.literal("<|call|>");
            let name = format!("call_{index}");
            self.writer
                .rule(&name, &format!("{header} {} {end}", schema.as_json()));
            names.push(name);
        }
        self.writer.rule("call", &names.join(" | "));
        let next = self.writer.literal("<|start|>assistant");
        let end = self.writer.text_until("<|end|>");
        let thought = self.writer.literal("<|channel|>analysis<|message|>");
        self.writer
            .rule("thought", &format!("{thought} {end} {next}"));
        let open = match self.request.reasoning {
            Some((_, Thought::Open)) => format!("{end} {next}"),
            _ => String::new(),
        };
        let more = match self.several {
            true => format!("({next} call)*"),
            false => String::new(),
        };
        if self.free {
            let says = self.writer.literal("<|channel|>commentary<|message|>");
            let answers = self.writer.literal("<|channel|>final<|message|>");
            self.writer.rule("says", &format!("{says} {end} {next}"));
            self.writer.rule("answers", &format!("{answers} {TEXT}"));
            let start = format!("{open} (thought | says)* (answers | call {more})");
            self.writer.rule("start", &start);
        } else {
            self.writer
                .rule("start", &format!("{open} thought* call {more}"));
        }
    }
}
