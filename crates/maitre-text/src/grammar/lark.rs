//! Grammars in llguidance's variant of Lark, written by program: choices, and free text with tags.

use serde_json::Value;

use super::limits::{MAX_CHOICES, MAX_FIXED_BYTES, MAX_TAGS};
use super::trie::is_control;
use super::{GrammarError, JsonWhitespace, StructuralTag, schema};
use crate::Tokenizer;

/// Text as Lark quotes it. Its strings are JSON's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// One of `choices`.
pub(super) fn choice(choices: &[String]) -> Result<String, GrammarError> {
    let invalid = |reason: String| GrammarError::Invalid {
        expected: "a list of texts to choose from",
        reason,
    };
    if choices.is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    if choices.len() > MAX_CHOICES {
        return Err(GrammarError::TooLarge {
            what: "the texts to choose from are",
            found: choices.len(),
            limit: MAX_CHOICES,
        });
    }
    let longest = choices.iter().map(String::len).max().unwrap_or(0);
    if longest > MAX_FIXED_BYTES {
        return Err(GrammarError::TooLarge {
            what: "a text's bytes are",
            found: longest,
            limit: MAX_FIXED_BYTES,
        });
    }
    if let Some(index) = choices.iter().position(String::is_empty) {
        return Err(invalid(format!("text {index} is empty")));
    }
    let texts: Vec<String> = choices.iter().map(|text| quoted(text)).collect();
    Ok(format!("start: CHOICE\nCHOICE: {}\n", texts.join(" | ")))
}

/// Free text in which triggers begin tags.
///
/// ```text
/// start: (tag_0 | tag_1)* REST
/// FREE: .* & ~(.* trigger .*)            no trigger in it; the complement alone is not only text
/// AT_0: FREE "trigger 0"                 free text up to the trigger
/// tag_0: AT_0 "begin" %json {…} "end"
/// ```
pub(super) fn structural_tag(
    tag: &StructuralTag,
    tokenizer: &Tokenizer,
) -> Result<String, GrammarError> {
    let invalid = |reason: String| GrammarError::Invalid {
        expected: "a structural tag",
        reason,
    };
    if tag.tags.is_empty() || tag.triggers.iter().any(String::is_empty) || tag.triggers.is_empty() {
        let reason = "it needs at least one tag and one trigger, and no trigger may be empty";
        return Err(invalid(reason.to_owned()));
    }
    let most = MAX_TAGS;
    let found = tag.tags.len().max(tag.triggers.len());
    if found > most {
        return Err(GrammarError::TooLarge {
            what: "the tags or triggers are",
            found,
            limit: most,
        });
    }
    let mut lark = free_text(&tag.triggers, tokenizer);
    let mut names = Vec::new();
    for (index, each) in tag.tags.iter().enumerate() {
        let trigger = tag.triggers.iter();
        let trigger = trigger
            .enumerate()
            .filter(|(_, text)| each.begin.starts_with(text.as_str()))
            .max_by_key(|(_, text)| text.len());
        let Some((number, trigger)) = trigger else {
            let reason = format!("tag {index} begins with {:?}, no trigger", each.begin);
            return Err(invalid(reason));
        };
        let begin = pieces(&each.begin[trigger.len()..], tokenizer);
        let end = pieces(&each.end, tokenizer);
        let value = schema::prepared(&each.schema, JsonWhitespace::Flexible)?;
        let at = at_trigger(number, trigger, tokenizer);
        lark += &format!("tag_{index}: {at} {begin} %json {value} {end}\n");
        names.push(format!("tag_{index}"));
    }
    lark += &format!("start: ({})* FREE\n", names.join(" | "));
    Ok(lark)
}

/// The terminals of free text, and of free text up to each trigger that is no control token.
fn free_text(triggers: &[String], tokenizer: &Tokenizer) -> String {
    let plain = |trigger: &&String| control_token(trigger, tokenizer).is_none();
    let texts: Vec<String> = triggers.iter().filter(plain).map(|it| quoted(it)).collect();
    let mut lark = "ANY: /(.|\\n)*/\n".to_owned();
    lark += &match texts.is_empty() {
        // Control tokens are no text, so they are not in it anyway.
        true => "FREE: /(.|\\n)*/\n".to_owned(),
        false => format!("FREE: ANY & ~(ANY ({}) ANY)\n", texts.join(" | ")),
    };
    for (number, trigger) in triggers.iter().enumerate() {
        if plain(&trigger) {
            lark += &format!("AT_{number}: FREE {}\n", quoted(trigger));
        }
    }
    lark
}

fn at_trigger(number: usize, trigger: &str, tokenizer: &Tokenizer) -> String {
    match control_token(trigger, tokenizer) {
        Some(id) => format!("FREE <[{id}]>"),
        None => format!("AT_{number}"),
    }
}

/// The id of the control token that is written so: a special token, or an added one in the shape of a tag, such as
/// Qwen3's `<tool_call>`. A grammar names it by its id, for no text in it reaches it.
#[must_use]
pub fn control_token(text: &str, tokenizer: &Tokenizer) -> Option<u32> {
    let id = tokenizer.token_to_id(text)?;
    let is_one = tokenizer.is_special(id) || is_control(tokenizer, id, text.as_bytes());
    is_one.then_some(id)
}

/// A text as a sequence of strings and control tokens: a model that was taught `<tool_call>` as one token does not spell it.
fn pieces(text: &str, tokenizer: &Tokenizer) -> String {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let found = control_at_start(rest, tokenizer);
        if let Some((id, len)) = found {
            if !plain.is_empty() {
                parts.push(quoted(&std::mem::take(&mut plain)));
            }
            parts.push(format!("<[{id}]>"));
            rest = &rest[len..];
        } else {
            plain.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    if !plain.is_empty() {
        parts.push(quoted(&plain));
    }
    parts.join(" ")
}

/// A control token that `text` begins with, and its bytes.
fn control_at_start(text: &str, tokenizer: &Tokenizer) -> Option<(u32, usize)> {
    let close = match text.as_bytes().first()? {
        b'<' => '>',
        b'[' => ']',
        _ => return None,
    };
    let ends = text.match_indices(close).map(|(at, _)| at + 1);
    let candidates = ends.take_while(|&end| end <= 64);
    let known = |end: usize| Some((control_token(text.get(..end)?, tokenizer)?, end));
    candidates.filter_map(known).last()
}
