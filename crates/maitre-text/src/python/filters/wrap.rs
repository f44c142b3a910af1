//! The `wordwrap` filter: `textwrap.wrap` of every line, without tabs expanded or white space
//! replaced.

use minijinja::{Error, Value};

use super::numbers::{count, given};
use crate::python::arguments::{Arguments, flag, size, text};
use crate::python::budget::Context;
use crate::python::text::{byte_of, char_count, split_lines};
use crate::python::{fail, unsupported};

/// The white space that `textwrap` knows.
fn is_wrap_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

pub(super) fn wordwrap(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let names = [
        "width",
        "break_long_words",
        "wrapstring",
        "break_on_hyphens",
    ];
    let [width, break_long, wrapstring, hyphens] = arguments.bind("wordwrap", names, 0)?;
    let string = text("wordwrap", value)?;
    let width = count("wordwrap", &width, Some(79))?;
    if width <= 0 {
        return Err(fail(format!(
            "wordwrap: invalid width {width} (must be > 0)"
        )));
    }
    if flag(&hyphens, true) && string.contains('-') {
        return Err(unsupported("the filter wordwrap of text with hyphens"));
    }
    let separator = match given(&wrapstring) {
        Some(given) => text("wordwrap", given)?,
        None => "\n",
    };
    context.items(char_count(string))?;
    let mut lines: Vec<String> = Vec::new();
    for line in split_lines(string, false) {
        let wrapped = wrap(context, line, size(width), flag(&break_long, true))?;
        lines.push(wrapped.join(separator));
    }
    let length = lines.iter().map(|line| line.len() + separator.len()).sum();
    context.build(length)?;
    Ok(Value::from(lines.join(separator)))
}

/// Words and the white space between them, as `textwrap` splits without hyphens.
fn chunks(line: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let white = is_wrap_space(first);
        let end = rest
            .find(|c| is_wrap_space(c) != white)
            .unwrap_or(rest.len());
        chunks.push(&rest[..end]);
        rest = &rest[end..];
    }
    chunks
}

fn wrap(
    context: &Context<'_, '_, '_>,
    line: &str,
    width: usize,
    break_long_words: bool,
) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    let mut chunks: Vec<&str> = chunks(line);
    chunks.reverse();
    let white = |chunk: &str| chunk.chars().all(crate::python::text::is_space);
    while !chunks.is_empty() {
        let mut current: Vec<&str> = Vec::new();
        let mut length = 0;
        if !lines.is_empty() && chunks.last().is_some_and(|chunk| white(chunk)) {
            chunks.pop();
        }
        while let Some(chunk) = chunks.last() {
            context.read(chunk.len())?;
            let chunk_length = char_count(chunk);
            if length + chunk_length > width {
                break;
            }
            length += chunk_length;
            current.extend(chunks.pop());
        }
        if let Some(chunk) = chunks.last_mut()
            && char_count(chunk) > width
        {
            if break_long_words {
                let space = width.saturating_sub(length).max(1);
                let (fits, rest) = chunk.split_at(byte_of(chunk, space));
                current.push(fits);
                *chunk = rest;
            } else if current.is_empty() {
                current.extend(chunks.pop());
            }
        }
        if current.last().is_some_and(|chunk| white(chunk)) {
            current.pop();
        }
        if !current.is_empty() {
            lines.push(current.concat());
        }
    }
    Ok(lines)
}
