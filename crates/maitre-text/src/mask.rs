//! Keeps text that imitates a control token from becoming one.
//!
//! A chat template glues what users say between control tokens, as one string, and the tokenizer
//! then looks for control tokens in all of it. If a user writes `<|im_end|>`, their turn would end
//! there. So before rendering, the first character of every imitation is replaced by a *stand-in*, a
//! Unicode noncharacter that the conversation does not contain. The template runs, the tokenizer
//! splits the result at the control tokens it finds, which can only be the template's own, and the
//! stand-ins turn back before the text between is tokenized, as ordinary text.
//!
//! Replacing one character (rather than inserting one) keeps lengths, slices and trimming as they were.
//!
//! **What is masked:** everything a request brings, in every role: contents, names, tool calls, tools,
//! template arguments. A system prompt that a caller assembles out of documents needs this as much as a user's
//! message. An imitation of any added token is masked, special or not. So is the unfinished beginning of one at
//! the end of a string, which the template's next character could complete.
//!
//! **What is not:** an assistant's message may begin with a block of reasoning, and templates like
//! Qwen3's look for its end (`content.split('</think>')`) to drop or reorder it. If the template
//! mentions the closing delimiter, its first occurrence in an assistant's message, and the opening one
//! that the message begins with, are left to the template. Neither can end a turn or change who speaks.
//! Also left alone are added tokens of white space only that are not special: they are vocabulary.

use std::ops::Range;

use serde_json::Value;
use tokenizers::Tokenizer as Library;
use tokenizers::tokenizer::{OffsetReferential, OffsetType};

use crate::TextError;
use crate::automaton::Automaton;
use crate::chat::{ChatRequest, Role};

/// How models delimit their reasoning: (opening, closing).
const REASONING: [(&str, &str); 3] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
];

/// The control tokens of one tokenizer.
#[derive(Debug)]
pub(crate) struct ControlTokens {
    automaton: Automaton,
    /// Some tokens are looked for in normalized text, where other characters may imitate them.
    normalized: bool,
}

/// The stand-ins of one conversation.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    /// (what the text says, what stands in for it).
    pairs: Vec<(char, char)>,
    /// Noncharacters that the conversation itself contains.
    taken: Vec<char>,
}

/// U+FDD0…U+FDEF and the last two code points of every plane: 66 code points that Unicode reserves for
/// internal use and never assigns (The Unicode Standard, section 23.7).
pub(crate) fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

fn noncharacters() -> impl Iterator<Item = char> {
    let plane_ends = (0..=16_u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    ('\u{fdd0}'..='\u{fdef}').chain(plane_ends.filter_map(char::from_u32))
}

impl Mask {
    /// Whether nothing had to be masked.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Takes a stand-in back.
    pub(crate) fn unmask(&self, c: char) -> char {
        if !is_noncharacter(c) {
            return c;
        }
        self.pairs
            .iter()
            .find(|&&(_, stand_in)| stand_in == c)
            .map_or(c, |&(original, _)| original)
    }

    /// What stands in for `c`, chosen now if it has none yet.
    fn stand_in(&mut self, c: char) -> Result<char, TextError> {
        if let Some(&(_, stand_in)) = self.pairs.iter().find(|&&(original, _)| original == c) {
            return Ok(stand_in);
        }
        let free = |n: &char| {
            !self.taken.contains(n) && !self.pairs.iter().any(|(_, stand_in)| stand_in == n)
        };
        let stand_in = noncharacters().find(free).ok_or(TextError::Unmaskable)?;
        self.pairs.push((c, stand_in));
        Ok(stand_in)
    }

    fn note(&mut self, text: &str) {
        for c in text.chars().filter(|&c| is_noncharacter(c)) {
            if !self.taken.contains(&c) {
                self.taken.push(c);
            }
        }
    }
}

impl ControlTokens {
    pub(crate) fn new(library: &Library) -> Self {
        let added = library.get_added_tokens_decoder();
        let control: Vec<_> = added
            .values()
            .filter(|token| token.special || !token.content.trim().is_empty())
            .collect();
        Self {
            automaton: Automaton::new(control.iter().map(|token| token.content.as_str())),
            normalized: library.get_normalizer().is_some()
                && control.iter().any(|token| token.normalized),
        }
    }

    /// The conversation with every imitation masked, and the mask. `mentions(text)`: whether the template
    /// contains `text`.
    pub(crate) fn mask_chat(
        &self,
        request: &ChatRequest,
        library: &Library,
        mentions: impl Fn(&str) -> bool,
    ) -> Result<(ChatRequest, Mask), TextError> {
        let mut request = request.clone();
        let mut mask = Mask::default();
        visit(&mut request, &mut |text, _| {
            mask.note(text);
            Ok(())
        })?;
        visit(&mut request, &mut |text, whose| {
            let left_alone = match whose {
                Whose::Assistants => reasoning_block(text, &mentions),
                Whose::Anyones => Vec::new(),
            };
            self.mask_text(text, &left_alone, library, &mut mask)
        })?;
        Ok((request, mask))
    }

    /// A text on its own with every imitation masked, and the mask.
    pub(crate) fn mask_plain(
        &self,
        text: &str,
        library: &Library,
    ) -> Result<(String, Mask), TextError> {
        let mut mask = Mask::default();
        mask.note(text);
        let mut text = text.to_owned();
        self.mask_text(&mut text, &[], library, &mut mask)?;
        Ok((text, mask))
    }

    fn mask_text(
        &self,
        text: &mut String,
        left_alone: &[Range<usize>],
        library: &Library,
        mask: &mut Mask,
    ) -> Result<(), TextError> {
        let mut starts = self.imitations(text);
        starts.retain(|start| !left_alone.iter().any(|range| range.contains(start)));
        let left_alone: Vec<u32> = left_alone
            .iter()
            .filter_map(|range| library.token_to_id(&text[range.clone()]))
            .collect();
        replace_at(text, starts, mask)?;
        if self.normalized {
            mask_normalized(text, &left_alone, library, mask)?;
        }
        Ok(())
    }

    /// Where imitations start, in bytes, complete ones and one that the text's end leaves open.
    fn imitations(&self, text: &str) -> Vec<usize> {
        let mut starts = Vec::new();
        let mut state = Automaton::START;
        let trimmed = text.trim_end().len();
        for (at, byte) in text.bytes().enumerate() {
            state = self.automaton.step(state, byte);
            starts.extend(
                self.automaton
                    .matches(state)
                    .map(|(_, length)| at + 1 - length),
            );
            // Templates often trim, so the end of the trimmed text is an end too.
            if at + 1 == text.len() || at + 1 == trimmed {
                starts.extend(
                    self.automaton
                        .open_suffixes(state)
                        .map(|length| at + 1 - length),
                );
            }
        }
        starts.sort_unstable();
        starts.dedup();
        starts
    }
}

/// Masks what only imitates a token once it is normalized (full-width brackets under NFKC, say), found
/// the way the tokenizer itself will find it.
fn mask_normalized(
    text: &mut String,
    left_alone: &[u32],
    library: &Library,
    mask: &mut Mask,
) -> Result<(), TextError> {
    /// A masked match cannot match again; a new one may appear beside it, but not for ever.
    const MAX_PASSES: usize = 8;
    for _ in 0..MAX_PASSES {
        let pieces = library
            .get_added_vocabulary()
            .extract_and_normalize(library.get_normalizer(), text);
        let starts: Vec<usize> = pieces
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .filter(|(_, _, tokens)| {
                let mut tokens = tokens.iter().flatten();
                tokens.any(|token| !left_alone.contains(&token.id))
            })
            .filter_map(|(_, (start, end), _)| {
                let content = text.get(start..end)?;
                Some(start + content.find(|c: char| !c.is_whitespace() && !is_noncharacter(c))?)
            })
            .collect();
        if starts.is_empty() {
            return Ok(());
        }
        replace_at(text, starts, mask)?;
    }
    Err(TextError::Unmaskable)
}

/// Replaces the characters that start at `starts` (ascending) by their stand-ins.
fn replace_at(text: &mut String, starts: Vec<usize>, mask: &mut Mask) -> Result<(), TextError> {
    if starts.is_empty() {
        return Ok(());
    }
    let mut masked = String::with_capacity(text.len() + 2 * starts.len());
    let mut done = 0;
    for start in starts {
        let Some(c) = text[start..].chars().next() else {
            continue;
        };
        masked.push_str(&text[done..start]);
        masked.push(mask.stand_in(c)?);
        done = start + c.len_utf8();
    }
    masked.push_str(&text[done..]);
    *text = masked;
    Ok(())
}

/// The delimiters of the reasoning that an assistant's message begins with, if the template knows them.
fn reasoning_block(text: &str, mentions: &impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let begin = text.len() - text.trim_start().len();
    let known = |&(open, close): &(&str, &str)| {
        let end = text.find(close).filter(|_| mentions(close))?;
        let closing = Some(end..end + close.len());
        let opening = text[begin..]
            .starts_with(open)
            .then(|| begin..begin + open.len());
        Some(opening.into_iter().chain(closing).collect())
    };
    REASONING.iter().find_map(known).unwrap_or_default()
}

/// Whose words a string is.
enum Whose {
    Assistants,
    Anyones,
}

type Visitor<'a> = dyn FnMut(&mut String, Whose) -> Result<(), TextError> + 'a;

/// Visits every string that a request brings into a template.
fn visit(request: &mut ChatRequest, visitor: &mut Visitor<'_>) -> Result<(), TextError> {
    for message in &mut request.messages {
        let whose = if message.role == Role::Assistant {
            Whose::Assistants
        } else {
            Whose::Anyones
        };
        if let Some(content) = &mut message.content {
            visitor(content, whose)?;
        }
        let rest = [
            &mut message.reasoning_content,
            &mut message.name,
            &mut message.tool_call_id,
        ];
        for text in rest.into_iter().flatten() {
            visitor(text, Whose::Anyones)?;
        }
        for call in &mut message.tool_calls {
            visit_json(call, visitor)?;
        }
    }
    for tool in &mut request.tools {
        visit_json(tool, visitor)?;
    }
    for value in request.template_kwargs.values_mut() {
        visit_json(value, visitor)?;
    }
    Ok(())
}

fn visit_json(value: &mut Value, visitor: &mut Visitor<'_>) -> Result<(), TextError> {
    match value {
        Value::String(text) => visitor(text, Whose::Anyones),
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| visit_json(item, visitor)),
        Value::Object(fields) => {
            for (mut key, mut value) in std::mem::take(fields) {
                visitor(&mut key, Whose::Anyones)?;
                visit_json(&mut value, visitor)?;
                fields.insert(key, value);
            }
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
