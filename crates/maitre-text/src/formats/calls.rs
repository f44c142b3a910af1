//! Reads calls between marks as one description says, a character at a time.
//!
//! What was read and not passed on is kept as it was written: should it turn out to be no call, it goes back
//! into the text. Nothing is read twice but the beginning of the mark that did not match, since another call
//! may begin there; so the work is linear in the text, whatever a model writes.

mod bodies;

use std::sync::Arc;

use super::description::{Arguments, Body, Marked, Parameters, Placement};
use super::envelope::Envelope;
use super::json::Json;
use super::literal::Dialect;
use super::marks::{Goal, MarkStep, Marks, Progress, Way, Written};
use super::output::Output;
use super::tools::Tools;
use super::values::{ElementValue, LiteralItem};

/// Most bytes of a call that are held; a longer one is text.
const MAX_HELD_BYTES: usize = 4 << 20;
/// Longest name of a tool or an argument, and longest id, in bytes.
const MAX_WORD_BYTES: usize = 256;

/// What a character did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It was read.
    More,
    /// It was read, and the calls are over.
    Over,
    /// It was not read, and no call goes on like this.
    Failed,
    /// It was not read; it has to be given again.
    Again,
}

#[derive(Debug, Clone)]
enum Stage {
    Marks(Marks),
    Name,
    Index,
    Id(usize),
    Envelope(Envelope),
    Json(Json, bool),
    Key,
    Value(ElementValue),
    Literal(LiteralItem),
    Over,
}

/// The calls of an answer, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    pub(super) syntax: &'static Marked,
    tools: Arc<Tools>,
    /// Whether a call is passed on only when it is complete.
    whole: bool,
    next_index: u32,
    stage: Stage,
    /// What was read and not passed on.
    raw: String,
    /// Where in `raw` the mark begins that is being read, and its word.
    mark_start: usize,
    word_start: usize,
    /// Whether a call is complete and no other one has begun.
    between: bool,
    name: String,
    key: String,
    /// Arguments of this call so far, for those that are not passed on yet.
    held: String,
    /// Whether the name was passed on, or is to be passed on with all the rest.
    is_open: bool,
    num_arguments: usize,
    /// Whether calls have no mark, so that most text that begins as one is none.
    is_bare: bool,
    malformed: MalformedCalls,
}

/// How often what began as a call was none, and became text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MalformedCalls {
    /// No call goes on as the model wrote.
    pub mistaken: u32,
    /// The answer ended within it.
    pub cut_off: u32,
}

impl Calls {
    pub(super) fn new(syntax: &'static Marked, tools: Arc<Tools>, whole: bool) -> Self {
        Self {
            syntax,
            tools,
            whole,
            next_index: 0,
            stage: Stage::Over,
            raw: String::new(),
            mark_start: 0,
            word_start: 0,
            between: false,
            name: String::new(),
            key: String::new(),
            held: String::new(),
            is_open: false,
            num_arguments: 0,
            is_bare: false,
            malformed: MalformedCalls::default(),
        }
    }

    pub(super) fn malformed(&self) -> MalformedCalls {
        self.malformed
    }

    /// Whether what was read since the last call was meant as a call. Without a mark, a tool's name says so.
    fn was_meant(&self) -> bool {
        let has_name = || self.tools.get(&self.name).is_some();
        (self.is_open || !self.raw.trim().is_empty()) && (!self.is_bare || has_name())
    }

    /// Begins after the short mark of a call was read.
    pub(super) fn begin_short(&mut self, blank: String) {
        self.restart(blank + self.syntax.short_open);
        self.begin_body();
    }

    /// Begins after the trigger was read; `raw` is the white space before it, and the trigger.
    pub(super) fn begin(&mut self, raw: String) {
        self.restart(raw);
        let trigger = self.syntax.trigger();
        let (mark, goal) = match (self.syntax.placement, self.syntax.section) {
            (Placement::Start(_), _) => return self.begin_bare_section(),
            (Placement::Anywhere, Some((open, _))) => (open, Goal::Section),
            (Placement::Anywhere, None) => (self.syntax.call_open, Goal::Call),
        };
        let rest = mark.trim_start().get(trigger.len()..).unwrap_or("");
        self.expect(Way::new(rest, goal), None, None);
    }

    /// Begins where a call without a mark may stand; `raw` is the white space before it.
    pub(super) fn begin_bare(&mut self, raw: String) {
        self.restart(raw);
        self.is_bare = true;
        self.begin_bare_section();
    }

    fn restart(&mut self, raw: String) {
        self.raw = raw;
        self.is_open = false;
        self.between = false;
        self.is_bare = false;
        self.name.clear();
    }

    fn begin_bare_section(&mut self) {
        match self.syntax.section {
            Some((open, _)) => self.expect(Way::new(open, Goal::Section), None, None),
            None => self.reach(Goal::Section),
        }
    }

    /// Takes the next character.
    pub(super) fn step(&mut self, c: char, out: &mut Output<'_>) -> Flow {
        if self.raw.len() > MAX_HELD_BYTES {
            return Flow::Failed;
        }
        loop {
            match self.read(c, out) {
                Flow::Again => {}
                flow => return flow,
            }
        }
    }

    /// Whether a call is complete and no other one has begun.
    pub(super) fn is_between(&self) -> bool {
        self.between
    }

    /// What was read in vain, when a step failed: what is text, and what may be the beginning of another call.
    pub(super) fn take_failed(&mut self, out: &mut Output<'_>) -> (String, String) {
        if self.lacks_a_mark() {
            // What was read of the mark after its first word is read again, as text.
            let at = self.word_start.min(self.raw.len());
            let again = self.raw.get(at..).unwrap_or("").to_owned();
            self.complete_arguments(out);
            return (String::new(), again);
        }
        self.malformed.mistaken += u32::from(!self.between && self.was_meant());
        let mut text = std::mem::take(&mut self.raw);
        let at_word = matches!(&self.stage, Stage::Marks(marks) if marks.is_started());
        let again = match at_word && text.is_char_boundary(self.word_start) {
            true => text.split_off(self.word_start),
            false => String::new(),
        };
        self.close_failed();
        (text, again)
    }

    /// Whether the arguments are complete and no more than a part of the closing mark is missing.
    fn lacks_a_mark(&self) -> bool {
        match &self.stage {
            Stage::Marks(marks) => match self.arguments() {
                Some(Arguments::Parameters(_)) => marks.progress(Goal::Close) == Progress::Word,
                Some(Arguments::Literals(_)) => marks.progress(Goal::Close) >= Progress::Begun,
                Some(Arguments::Json) | None => false,
            },
            _ => false,
        }
    }

    /// No more text comes. Returns what has to go back into it.
    pub(super) fn finish(&mut self, out: &mut Output<'_>) -> String {
        if self.lacks_a_mark() {
            self.complete_arguments(out);
        }
        self.malformed.cut_off += u32::from(!self.between && self.was_meant());
        self.close_failed();
        self.stage = Stage::Over;
        let text = std::mem::take(&mut self.raw);
        match text.trim().is_empty() {
            true => String::new(),
            false => text,
        }
    }

    /// Whether a call was read to its end since the last [`Calls::begin`], or begun to be passed on.
    fn close_failed(&mut self) {
        if self.is_open && !self.whole {
            self.next_index += 1;
        }
        self.is_open = false;
        self.held.clear();
    }

    fn arguments(&self) -> Option<&'static Arguments> {
        match &self.syntax.body {
            Body::Envelope { .. } => None,
            Body::Named { arguments, .. } => Some(arguments),
        }
    }

    fn parameters(&self) -> Option<&'static Parameters> {
        match self.arguments() {
            Some(Arguments::Parameters(parameters)) => Some(parameters),
            _ => None,
        }
    }

    fn expect(&mut self, way: Way, or: Option<Way>, otherwise: Option<Goal>) {
        self.mark_start = self.raw.len();
        self.word_start = self.mark_start;
        match way.is_empty() && or.is_none() {
            true => self.reach(way.goal()),
            false => self.stage = Stage::Marks(Marks::new([Some(way), or], otherwise)),
        }
    }

    /// A mark is complete: on to what follows it.
    fn reach(&mut self, goal: Goal) {
        match goal {
            Goal::Section => self.expect(Way::new(self.syntax.call_open, Goal::Call), None, None),
            Goal::Call => self.begin_body(),
            Goal::Id => self.stage = Stage::Id(0),
            Goal::Arguments => self.begin_arguments(),
            Goal::Key => {
                self.key.clear();
                self.stage = Stage::Key;
            }
            Goal::Value(written) => self.begin_value(written),
            Goal::Close => self.after_call(),
            Goal::SectionClose => self.after_section(),
            Goal::Over => self.stage = Stage::Over,
        }
    }

    fn begin_body(&mut self) {
        self.name.clear();
        self.held.clear();
        self.num_arguments = 0;
        self.between = false;
        self.stage = match self.syntax.body {
            Body::Envelope { .. } => Stage::Envelope(Envelope::new()),
            Body::Named { .. } => Stage::Name,
        };
    }

    fn begin_arguments(&mut self) {
        match self.arguments() {
            Some(Arguments::Json) => self.stage = Stage::Json(Json::new(), false),
            Some(Arguments::Parameters(parameters)) => {
                let key = Way::new(parameters.open, Goal::Key);
                let close = Way::new(self.syntax.call_close, Goal::Close);
                self.expect(key, Some(close), None);
            }
            Some(Arguments::Literals(dialect)) => self.begin_literal(*dialect),
            None => self.stage = Stage::Over,
        }
    }

    fn begin_literal(&mut self, dialect: Dialect) {
        let end = self.syntax.call_close.chars().next().unwrap_or(')');
        self.stage = Stage::Literal(LiteralItem::new(dialect, end));
    }

    fn begin_value(&mut self, written: Written) {
        let Some(parameters) = self.parameters() else {
            return;
        };
        let kinds = self.tools.kinds(&self.name, &self.key);
        self.stage = Stage::Value(ElementValue::new(
            parameters.value_close,
            parameters.own_lines,
            kinds,
            written,
        ));
    }

    /// A call is closed: another one may follow, or the section's end.
    fn after_call(&mut self) {
        let Marked {
            call_open, between, ..
        } = *self.syntax;
        let another = Way::of_two(between, call_open, Goal::Call);
        match (self.syntax.section, self.syntax.placement) {
            (Some((_, close)), _) => {
                let otherwise = another.is_empty().then_some(Goal::Call);
                let close = Way::new(close, Goal::SectionClose);
                self.expect(close, Some(another), otherwise);
            }
            (None, Placement::Start(_)) => self.expect(another, None, None),
            (None, Placement::Anywhere) => self.stage = Stage::Over,
        }
    }

    fn after_section(&mut self) {
        match self.syntax.placement {
            Placement::Start(Some((_, close))) => {
                self.expect(Way::new(close, Goal::Over), None, None)
            }
            Placement::Start(None) | Placement::Anywhere => self.stage = Stage::Over,
        }
    }

    fn read(&mut self, c: char, out: &mut Output<'_>) -> Flow {
        match &mut self.stage {
            Stage::Marks(_) => self.read_mark(c, out),
            Stage::Name => self.read_name(c),
            Stage::Index => match c {
                ':' | '0'..='9' if self.raw.len() < MAX_HELD_BYTES => self.keep(c),
                _ => self.after_suffix(),
            },
            Stage::Id(bytes) => match c.is_ascii_alphanumeric() && *bytes < MAX_WORD_BYTES {
                true => {
                    *bytes += 1;
                    self.keep(c)
                }
                false => self.after_suffix(),
            },
            Stage::Envelope(_) => self.read_envelope(c, out),
            Stage::Json(..) => self.read_json(c, out),
            Stage::Key => self.read_key(c),
            Stage::Value(_) => self.read_value(c, out),
            Stage::Literal(_) => self.read_literal(c, out),
            Stage::Over => Flow::Failed,
        }
    }

    fn keep(&mut self, c: char) -> Flow {
        self.raw.push(c);
        Flow::More
    }

    fn read_mark(&mut self, c: char, out: &mut Output<'_>) -> Flow {
        let Stage::Marks(marks) = &mut self.stage else {
            return Flow::Failed;
        };
        let was_started = marks.is_started();
        let step = marks.step(c);
        if !was_started {
            self.word_start = self.raw.len();
        }
        match step {
            MarkStep::More | MarkStep::Word => self.keep(c),
            MarkStep::Wrong => Flow::Failed,
            MarkStep::Other(goal) => {
                self.reach(goal);
                Flow::Again
            }
            MarkStep::Reached(goal) => {
                self.raw.push(c);
                self.reached(goal, out)
            }
        }
    }

    fn reached(&mut self, goal: Goal, out: &mut Output<'_>) -> Flow {
        let literals = matches!(self.arguments(), Some(Arguments::Literals(_)));
        match goal {
            Goal::Arguments if literals => self.open(out),
            Goal::Key if !self.is_open && self.raw.is_char_boundary(self.mark_start) => {
                // The name is certain; the argument that begins here is not.
                let mark = self.raw.split_off(self.mark_start);
                self.open(out);
                self.raw.push_str(&mark);
            }
            Goal::Close => {
                self.complete_arguments(out);
                self.raw.clear();
            }
            Goal::SectionClose => self.raw.clear(),
            _ => {}
        }
        self.reach(goal);
        match self.stage {
            Stage::Over => {
                self.raw.clear();
                Flow::Over
            }
            _ => Flow::More,
        }
    }

    /// Passes the name on, unless it was.
    fn open(&mut self, out: &mut Output<'_>) {
        if self.is_open {
            return;
        }
        self.is_open = true;
        if !self.whole {
            out.call(self.next_index, &self.name);
            self.raw.clear();
        }
    }

    /// Passes more of the arguments on.
    fn pass(&mut self, json: &str, out: &mut Output<'_>) {
        match self.whole {
            true => self.held.push_str(json),
            false => {
                out.arguments(self.next_index, json);
                self.raw.clear();
            }
        }
    }

    /// Completes a call whose arguments were passed on one by one; others are complete already.
    fn complete_arguments(&mut self, out: &mut Output<'_>) {
        if let Some(Arguments::Parameters(_) | Arguments::Literals(_)) = self.arguments() {
            self.open(out);
            self.pass(if self.num_arguments == 0 { "{}" } else { "}" }, out);
            self.complete(out);
        }
    }

    fn complete(&mut self, out: &mut Output<'_>) {
        if self.whole {
            out.call(self.next_index, &self.name);
            out.arguments(self.next_index, &self.held);
        }
        self.held.clear();
        self.raw.clear();
        self.is_open = false;
        self.between = true;
        self.next_index += 1;
    }
}
