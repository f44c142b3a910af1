//! Takes an answer apart that has marks in its text: `<think>…</think>` around a thought, marks around calls.

use std::collections::VecDeque;
use std::sync::Arc;

use compact_str::CompactString;

use super::ReasoningFormat;
use super::calls::{Calls, Flow, MalformedCalls};
use super::description::Marked;
use super::output::{Edges, Output};
use super::reasoning::Thought;
use super::scanner::Scanner;
use super::tools::Tools;

/// What of the answer is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Thought,
    /// A call, or what may become one, that began in a thought or not.
    Call {
        in_thought: bool,
    },
}

const CALL: usize = 0;
const THOUGHT: usize = 1;
const SHORT_CALL: usize = 2;

/// The parser of formats with marks.
#[derive(Debug, Clone)]
pub(super) struct MarkedParser {
    place: Place,
    calls: Option<Calls>,
    in_text: Scanner,
    in_thought: Scanner,
    text_edges: Edges,
    thought_edges: Edges,
    /// Whether text was released since the answer began or a call ended: before it, a thought may begin, and
    /// a call without a mark.
    said: bool,
    /// Characters to be read again.
    again: VecDeque<char>,
}

impl MarkedParser {
    pub(super) fn new(
        calls: Option<(&'static Marked, Arc<Tools>, bool)>,
        reasoning: Option<&'static ReasoningFormat>,
        thought: Thought,
    ) -> Self {
        let calls = calls.map(|(syntax, tools, whole)| Calls::new(syntax, tools, whole));
        let trigger = calls.as_ref().map_or("", |calls| calls.syntax.trigger());
        let short = calls.as_ref().map_or("", |calls| calls.syntax.short_open);
        let (open, close) = reasoning.map_or(("", ""), |format| (format.open.trim(), format.close));
        let ends_thought = calls
            .as_ref()
            .is_some_and(|calls| calls.syntax.ends_thought);
        let mut parser = Self {
            place: Place::Text,
            calls,
            in_text: Scanner::new(&[trigger, open, short]),
            in_thought: Scanner::new(&[if ends_thought { trigger } else { "" }, close]),
            text_edges: Edges::default(),
            thought_edges: Edges::default(),
            said: false,
            again: VecDeque::new(),
        };
        match thought {
            Thought::Open if reasoning.is_some() => parser.begin_thought(),
            Thought::Closed => parser.text_edges.skip(),
            Thought::Open | Thought::Unopened => {}
        }
        parser
    }

    pub(super) fn malformed_calls(&self) -> MalformedCalls {
        self.calls
            .as_ref()
            .map_or_else(MalformedCalls::default, Calls::malformed)
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(
            self.place,
            Place::Thought | Place::Call { in_thought: true }
        )
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Output<'_>) {
        for c in text.chars() {
            self.again.push_back(c);
            while let Some(c) = self.again.pop_front() {
                match self.place {
                    Place::Text => self.read_text(c, out),
                    Place::Thought => self.read_thought(c, out),
                    Place::Call { in_thought } => self.read_call(c, in_thought, out),
                }
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Output<'_>) {
        match self.place {
            Place::Text => {
                let held = self.in_text.take();
                self.say(&held, false, out);
            }
            Place::Thought => {
                let held = self.in_thought.take();
                self.say(&held, true, out);
            }
            Place::Call { in_thought } => {
                let calls = self.calls.as_mut();
                let text = calls.map_or_else(String::new, |calls| calls.finish(out));
                self.say(&text, in_thought, out);
            }
        }
        out.reasoning(&self.thought_edges.take());
        out.text(&self.text_edges.take());
    }

    fn begin_thought(&mut self) {
        self.place = Place::Thought;
        self.text_edges.skip();
        self.thought_edges.skip();
    }

    /// Releases what is text or thought for certain, but for white space at its end.
    fn say(&mut self, text: &str, in_thought: bool, out: &mut Output<'_>) {
        let edges = match in_thought {
            true => &mut self.thought_edges,
            false => &mut self.text_edges,
        };
        let mut free = CompactString::default();
        for c in text.chars() {
            edges.push(c, &mut free);
        }
        match in_thought {
            true => out.reasoning(&free),
            false => {
                self.said |= !free.is_empty();
                out.text(&free);
            }
        }
    }

    fn read_text(&mut self, c: char, out: &mut Output<'_>) {
        let mut free = CompactString::default();
        let found = self.in_text.push(c, &mut free);
        let bare = self
            .calls
            .as_ref()
            .and_then(|calls| calls.syntax.bare_start());
        if let Some(bare) = bare
            && !self.said
            && free.trim_start().starts_with(bare)
        {
            return self.begin_bare(&free, found, out);
        }
        self.say(&free, false, out);
        match found {
            Some(CALL) => self.begin_call(false),
            Some(SHORT_CALL) => self.begin_short_call(),
            Some(_) if !self.said => self.begin_thought(),
            Some(_) => {
                let mark = self.thought_mark();
                self.say(&mark, false, out);
            }
            None => {}
        }
    }

    /// The mark of a thought, where none may begin.
    fn thought_mark(&self) -> String {
        self.in_text.mark(THOUGHT).to_owned()
    }

    /// A call without a mark may begin in `free`, which was read last, perhaps with a mark behind it.
    fn begin_bare(&mut self, free: &str, found: Option<usize>, out: &mut Output<'_>) {
        let call = free.trim_start();
        let blank = free.get(..free.len() - call.len()).unwrap_or("");
        self.say(blank, false, out);
        let mark = found.map_or("", |mark| self.in_text.mark(mark)).to_owned();
        let held = self.in_text.take();
        for c in format!("{call}{mark}{held}").chars().rev() {
            self.again.push_front(c);
        }
        if let Some(calls) = &mut self.calls {
            calls.begin_bare(self.text_edges.take());
            self.place = Place::Call { in_thought: false };
        }
    }

    fn begin_call(&mut self, in_thought: bool) {
        let edges = match in_thought {
            true => &mut self.thought_edges,
            false => &mut self.text_edges,
        };
        if let Some(calls) = &mut self.calls {
            calls.begin(edges.take() + calls.syntax.trigger());
            self.place = Place::Call { in_thought };
        }
    }

    fn begin_short_call(&mut self) {
        if let Some(calls) = &mut self.calls {
            calls.begin_short(self.text_edges.take());
            self.place = Place::Call { in_thought: false };
        }
    }

    fn read_thought(&mut self, c: char, out: &mut Output<'_>) {
        let mut free = CompactString::default();
        let found = self.in_thought.push(c, &mut free);
        self.say(&free, true, out);
        match found {
            Some(CALL) => self.begin_call(true),
            Some(_) => self.end_thought(),
            None => {}
        }
    }

    fn end_thought(&mut self) {
        // White space before the mark is dropped with it.
        self.thought_edges.take();
        self.place = Place::Text;
        self.text_edges.skip();
    }

    fn read_call(&mut self, c: char, in_thought: bool, out: &mut Output<'_>) {
        let Some(calls) = &mut self.calls else {
            self.place = Place::Text;
            self.again.push_front(c);
            return;
        };
        match calls.step(c, out) {
            Flow::More | Flow::Again => {}
            Flow::Over => self.end_calls(),
            Flow::Failed => {
                let (text, again) = calls.take_failed(out);
                let between = calls.is_between();
                self.again.push_front(c);
                for c in again.chars().rev() {
                    self.again.push_front(c);
                }
                self.place = match in_thought && !between {
                    true => Place::Thought,
                    false => Place::Text,
                };
                if between {
                    self.end_calls();
                }
                self.say(&text, in_thought && !between, out);
            }
        }
    }

    fn end_calls(&mut self) {
        self.place = Place::Text;
        self.text_edges.skip();
        self.said = false;
    }
}
