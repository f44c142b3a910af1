//! What a parser releases: parts, of which neighbours of a kind are put together.

use compact_str::CompactString;

use crate::Part;

/// Longest run of white space that waits for what follows it, in bytes.
const MAX_BLANK_BYTES: usize = 256;

/// Where parts go.
pub(super) struct Output<'a>(pub(super) &'a mut Vec<Part>);

impl Output<'_> {
    pub(super) fn text(&mut self, more: &str) {
        match self.0.last_mut() {
            _ if more.is_empty() => {}
            Some(Part::Text(text)) => text.push_str(more),
            _ => self.0.push(Part::Text(more.into())),
        }
    }

    pub(super) fn reasoning(&mut self, more: &str) {
        match self.0.last_mut() {
            _ if more.is_empty() => {}
            Some(Part::Reasoning(text)) => text.push_str(more),
            _ => self.0.push(Part::Reasoning(more.into())),
        }
    }

    /// A call begins.
    pub(super) fn call(&mut self, index: u32, name: &str) {
        self.0.push(Part::ToolCall {
            index,
            name: Some(name.to_owned()),
            arguments_delta: CompactString::default(),
        });
    }

    pub(super) fn arguments(&mut self, index: u32, more: &str) {
        match self.0.last_mut() {
            _ if more.is_empty() => {}
            Some(Part::ToolCall {
                index: last,
                arguments_delta,
                ..
            }) if *last == index => arguments_delta.push_str(more),
            _ => self.0.push(Part::ToolCall {
                index,
                name: None,
                arguments_delta: more.into(),
            }),
        }
    }
}

/// White space at the edges of a text, which belongs to the marks beside it. A run waits until it is known
/// whether a mark follows.
#[derive(Debug, Clone, Default)]
pub(super) struct Edges {
    /// White space that a mark may follow.
    blank: String,
    /// Whether white space that comes now follows a mark.
    after_mark: bool,
}

impl Edges {
    /// White space that comes next follows a mark and is not part of the text.
    pub(super) fn skip(&mut self) {
        self.after_mark = true;
        self.blank.clear();
    }

    /// Takes more of the text; appends to `free` what is certainly of it.
    pub(super) fn push(&mut self, c: char, free: &mut CompactString) {
        if !c.is_whitespace() {
            self.after_mark = false;
            free.push_str(&self.blank);
            self.blank.clear();
            free.push(c);
        } else if !self.after_mark {
            self.blank.push(c);
            if self.blank.len() >= MAX_BLANK_BYTES {
                free.push_str(&self.blank);
                self.blank.clear();
            }
        }
    }

    /// The white space that waits.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.blank)
    }
}
