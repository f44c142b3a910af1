//! Takes an answer of gpt-oss apart (the harmony format): a sequence of messages, each with a channel and
//! perhaps a recipient in its header.
//!
//! ```text
//! <|channel|>analysis<|message|>a thought<|end|>
//! <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>
//! <|start|>assistant<|channel|>final<|message|>the answer<|return|>
//! ```
//! (without line breaks). The prompt ends with `<|start|>assistant`, so an answer begins inside a header. An
//! answer that does not begin with a header is text: a grammar may have made the model write JSON at once.

use std::collections::VecDeque;
use std::sync::Arc;

use compact_str::CompactString;

use super::calls::MalformedCalls;
use super::json::{Json, JsonStep};
use super::output::Output;
use super::reasoning::Thought;
use super::scanner::Scanner;
use super::tools::{Tools, is_name};

/// Longest header of a message, in bytes; a longer one is text.
const MAX_HEADER_BYTES: usize = 512;
/// Most bytes of a call that are held; a longer one is text.
const MAX_HELD_BYTES: usize = 4 << 20;

/// The marks, and by which index the scanner finds them.
const MARKS: [&str; 7] = [
    "<|start|>",
    "<|channel|>",
    "<|constrain|>",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
];
const START: usize = 0;
const CHANNEL: usize = 1;
const CONSTRAIN: usize = 2;
const MESSAGE: usize = 3;
/// Before the name of a function, among recipients.
const FUNCTIONS: &str = "functions.";

#[derive(Debug, Clone)]
enum Place {
    /// A header, as it is written. Before the first one of an answer, `<|start|>assistant` is missing.
    Header(String),
    Text,
    Thought,
    Call(Call),
    /// After a call's arguments.
    CallEnd,
    /// After a message: a header follows, or text that has none.
    Between,
}

/// The body of a message to a function.
#[derive(Debug, Clone)]
struct Call {
    name: String,
    json: Json,
    /// What was read and not passed on, with the message's header.
    raw: String,
    arguments: String,
    begun: bool,
}

/// The parser of the harmony format.
#[derive(Debug, Clone)]
pub(super) struct ChannelParser {
    scanner: Scanner,
    place: Place,
    /// The tools, if calls are looked for.
    tools: Option<Arc<Tools>>,
    whole: bool,
    next_index: u32,
    again: VecDeque<char>,
    malformed: MalformedCalls,
}

impl ChannelParser {
    pub(super) fn new(tools: Option<Arc<Tools>>, whole: bool, thought: Thought) -> Self {
        Self {
            scanner: Scanner::new(&MARKS),
            place: match thought {
                Thought::Open => Place::Thought,
                Thought::Closed => Place::Text,
                Thought::Unopened => Place::Between,
            },
            tools,
            whole,
            next_index: 0,
            again: VecDeque::new(),
            malformed: MalformedCalls::default(),
        }
    }

    pub(super) fn malformed_calls(&self) -> MalformedCalls {
        self.malformed
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.place, Place::Thought)
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Output<'_>) {
        for c in text.chars() {
            self.again.push_back(c);
            while let Some(c) = self.again.pop_front() {
                let mut free = CompactString::default();
                let found = self.scanner.push(c, &mut free);
                for c in free.chars() {
                    self.read(c, out);
                }
                if let Some(mark) = found {
                    self.mark(mark, out);
                }
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Output<'_>) {
        for c in self.scanner.take().chars() {
            self.read(c, out);
        }
        match std::mem::replace(&mut self.place, Place::Between) {
            Place::Header(header) => out.text(&header),
            Place::Call(call) => {
                self.malformed.cut_off += 1;
                self.fail(&call, out);
            }
            Place::Text | Place::Thought | Place::CallEnd | Place::Between => {}
        }
    }

    /// A character that is of no mark.
    fn read(&mut self, c: char, out: &mut Output<'_>) {
        let mut bytes = [0; 4];
        let text = &*c.encode_utf8(&mut bytes);
        match &mut self.place {
            Place::Text => out.text(text),
            Place::Thought => out.reasoning(text),
            Place::CallEnd if c.is_whitespace() => {}
            Place::CallEnd => {
                self.place = Place::Text;
                out.text(text);
            }
            Place::Between => self.place = Place::Header(text.to_owned()),
            Place::Header(header) => header.push(c),
            Place::Call(_) => self.read_call(c, out),
        }
        if let Place::Header(header) = &self.place
            && !may_be_header(header)
        {
            out.text(header);
            self.place = Place::Text;
        }
    }

    fn mark(&mut self, mark: usize, out: &mut Output<'_>) {
        if matches!(&self.place, Place::Call(call) if call.json.is_in_text()) {
            // A string of the arguments may contain what looks like a mark.
            let text = MARKS.get(mark).unwrap_or(&"");
            return text.chars().for_each(|c| self.read(c, out));
        }
        let place = std::mem::replace(&mut self.place, Place::Between);
        self.place = match (place, mark) {
            (Place::Header(header), MESSAGE) => self.begin_message(header, out),
            (Place::Header(header), CHANNEL | CONSTRAIN) => {
                Place::Header(header + MARKS.get(mark).unwrap_or(&""))
            }
            (Place::Header(header), _) => {
                // A header that no message follows.
                out.text(&header);
                self.after(mark)
            }
            (Place::Call(call), _) => {
                self.malformed.mistaken += 1;
                self.fail(&call, out);
                self.after(mark)
            }
            (Place::Between, MESSAGE | CONSTRAIN) => {
                out.text(MARKS.get(mark).unwrap_or(&""));
                Place::Text
            }
            (Place::Text | Place::Thought | Place::CallEnd | Place::Between, _) => self.after(mark),
        };
    }

    /// What follows a mark that ends a message, or begins one.
    fn after(&self, mark: usize) -> Place {
        match mark {
            START | CHANNEL => Place::Header(MARKS.get(mark).unwrap_or(&"").to_string()),
            _ => Place::Between,
        }
    }

    fn begin_message(&self, header: String, out: &mut Output<'_>) -> Place {
        let recipient = word_after(&header, "to=").unwrap_or("");
        let channel = word_after(&header, "<|channel|>").unwrap_or("");
        let name = recipient.strip_prefix(FUNCTIONS).unwrap_or(recipient);
        let tool = self.tools.as_ref().is_some_and(|tools| {
            recipient.starts_with(FUNCTIONS) && is_name(name) || tools.get(name).is_some()
        });
        if tool {
            return Place::Call(Call {
                name: name.to_owned(),
                json: Json::new(),
                raw: header + "<|message|>",
                arguments: String::new(),
                begun: false,
            });
        }
        match (channel, recipient) {
            (_, "") if channel != "analysis" => Place::Text,
            // Calls of tools that the request does not have (a browser, Python) are thoughts of the model.
            ("analysis", "") => Place::Thought,
            _ => {
                if !recipient.is_empty() {
                    out.reasoning(&format!("{header}<|message|>"));
                }
                Place::Thought
            }
        }
    }

    fn read_call(&mut self, c: char, out: &mut Output<'_>) {
        let Place::Call(call) = &mut self.place else {
            return;
        };
        call.raw.push(c);
        if !call.begun && c.is_ascii_whitespace() && call.raw.len() < MAX_HELD_BYTES {
            return;
        }
        let wrong_start = !call.begun && c != '{';
        let step = call.json.step(c);
        if wrong_start
            || matches!(step, JsonStep::Wrong | JsonStep::After)
            || call.raw.len() > MAX_HELD_BYTES
        {
            if let Place::Call(call) = std::mem::replace(&mut self.place, Place::Text) {
                self.malformed.mistaken += 1;
                self.fail(&call, out);
            }
            return;
        }
        let first = !std::mem::replace(&mut call.begun, true);
        call.arguments.push(c);
        if !self.whole {
            if first {
                out.call(self.next_index, &call.name);
            }
            out.arguments(self.next_index, &call.arguments);
            call.arguments.clear();
            call.raw.clear();
        }
        if step == JsonStep::Last {
            if self.whole {
                out.call(self.next_index, &call.name);
                out.arguments(self.next_index, &call.arguments);
            }
            self.next_index += 1;
            self.place = Place::CallEnd;
        }
    }

    /// A message to a function that is no call: what was not passed on is text.
    fn fail(&mut self, call: &Call, out: &mut Output<'_>) {
        out.text(&call.raw);
        if call.begun && !self.whole {
            self.next_index += 1;
        }
    }
}

/// Whether a message's header may begin like this.
fn may_be_header(text: &str) -> bool {
    let begins = |start: &str| {
        let text = text.trim_start();
        text.starts_with(start) || start.starts_with(text)
    };
    text.len() <= MAX_HEADER_BYTES && ["<|start|>", "<|channel|>", "to="].into_iter().any(begins)
}

/// What follows `before` up to white space or a mark.
fn word_after<'a>(header: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(before)?;
    rest.trim_start()
        .split(|c: char| c.is_whitespace() || c == '<')
        .next()
}
