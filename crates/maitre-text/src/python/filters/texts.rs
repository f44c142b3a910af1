//! Filters of texts.

use minijinja::{Error, Value};

use super::numbers::{count, given};
use crate::python::arguments::{Arguments, flag, size, text};
use crate::python::budget::Context;
use crate::python::items::markup_like;
use crate::python::repr::{repr, soft_str};
use crate::python::string_methods::{call, justify, replace, strip};
use crate::python::text::{byte_of, char_count, is_space, is_word, split_lines};
use crate::python::values::{SequenceKind, View, dict, sequence, type_name, view};
use crate::python::{fail, percent, unsupported};

pub(super) fn apply(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    if name == "truncate" {
        return truncate(context, value, arguments);
    }
    if name == "indent" {
        return indent(context, value, arguments);
    }
    if name == "pprint" {
        return pretty(context, value, arguments);
    }
    let string = soft_str(context, value)?;
    let markup = |text: String| Ok(markup_like(value, text));
    match name {
        "upper" | "lower" | "capitalize" => {
            call(context, &markup_like(value, string), name, arguments)
        }
        "title" => {
            arguments.none(name)?;
            context.build(string.len())?;
            markup(title(&string))
        }
        "trim" => {
            let [chars] = arguments.bind(name, ["chars"], 0)?;
            context.build(string.len())?;
            markup(strip(context, "strip", &string, chars.as_ref())?.to_owned())
        }
        "center" => {
            let [width] = arguments.bind(name, ["width"], 0)?;
            let width = size(count(name, &width, Some(80))?);
            markup(justify(context, name, &string, width, ' ')?)
        }
        "replace" => {
            let [old, new, limit] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let old = soft_str(context, &old.unwrap_or_default())?;
            let new = soft_str(context, &new.unwrap_or_default())?;
            let limit = match given(&limit) {
                Some(_) => count(name, &limit, None)?,
                None => -1,
            };
            replace(context, &string, &old, &new, limit).map(Value::from)
        }
        "format" => {
            context.items(arguments.positional.len() + arguments.named.len())?;
            let operand = match (arguments.positional.as_slice(), arguments.named.as_slice()) {
                (positional, []) => sequence(SequenceKind::Tuple, positional.to_vec())?,
                ([], named) => dict(
                    named
                        .iter()
                        .map(|(name, value)| (Value::from(&**name), value.clone())),
                )?,
                _ => {
                    return Err(fail(
                        "format: can't handle positional and keyword arguments at the same time",
                    ));
                }
            };
            if value.is_safe() {
                return Err(unsupported("the filter format of Markup"));
            }
            percent::format(context, &string, &operand)
        }
        "wordcount" => {
            arguments.none(name)?;
            let words = string
                .split(|c| !is_word(c))
                .filter(|word| !word.is_empty())
                .count();
            Ok(Value::from(words))
        }
        _ => Err(unsupported(format!("the filter {name}"))),
    }
}

/// Every word begins with a capital; words begin behind white space, dashes and opening brackets.
fn title(string: &str) -> String {
    let mut out = String::with_capacity(string.len());
    let separates = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    for word in string.split_inclusive(separates) {
        let mut chars = word.chars();
        if let Some(first) = chars.next() {
            out.extend(first.to_uppercase());
        }
        out.push_str(&chars.as_str().to_lowercase());
    }
    out
}

fn truncate(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, killwords, end, leeway] = arguments.bind("truncate", names, 0)?;
    let length = count("truncate", &length, Some(255))?;
    let end = end.unwrap_or_else(|| Value::from("..."));
    let end = text("truncate", &end)?;
    let leeway = match given(&leeway) {
        Some(_) => count("truncate", &leeway, None)?,
        None => 5,
    };
    let kept = length - char_count(end) as i128;
    if kept < 0 || leeway < 0 {
        return Err(fail(format!(
            "truncate: expected length >= {} and leeway >= 0",
            char_count(end)
        )));
    }
    let string = match view(value) {
        View::Undefined => return Ok(value.clone()),
        View::Str(string) => string,
        _ if crate::python::items::length(value)? as i128 <= length + leeway => {
            return Ok(value.clone());
        }
        _ => {
            return Err(fail(format!(
                "truncate: a {} is too long",
                type_name(value)
            )));
        }
    };
    context.build(string.len())?;
    if char_count(string) as i128 <= length + leeway {
        return Ok(value.clone());
    }
    let cut = &string[..byte_of(string, size(kept))];
    let cut = if flag(&killwords, false) {
        cut
    } else {
        cut.rsplit_once(' ').map_or(cut, |(before, _)| before)
    };
    Ok(markup_like(value, format!("{cut}{end}")))
}

fn indent(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [width, first, blank] = arguments.bind("indent", ["width", "first", "blank"], 0)?;
    let string = text("indent", value)?;
    let lines = split_lines(string, false);
    let lines = if lines.is_empty() { vec![""] } else { lines };
    // A line break at the end leaves an empty line, as "…\n" + "\n" has it.
    let ends_open = string.ends_with(crate::python::text::is_line_break);
    let count_of_lines = lines.len() + usize::from(ends_open);
    let indention = match &width {
        Some(width) if width.as_str().is_some() => width.as_str().unwrap_or_default().to_owned(),
        width => {
            let width = size(count("indent", width, Some(4))?);
            context.build(width.saturating_mul(count_of_lines))?;
            " ".repeat(width)
        }
    };
    context.items(count_of_lines)?;
    context.build(
        string
            .len()
            .saturating_add(indention.len().saturating_mul(count_of_lines)),
    )?;
    let (first, blank) = (flag(&first, false), flag(&blank, false));
    let mut out = String::new();
    for (index, line) in lines.into_iter().chain(ends_open.then_some("")).enumerate() {
        out.push_str(if index > 0 { "\n" } else { "" });
        let indented = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        out.push_str(if indented { &indention } else { "" });
        out.push_str(line);
    }
    Ok(markup_like(value, out))
}

/// `pprint.pformat` of what fits into one line: a `repr` with sorted keys.
fn pretty(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    arguments.none("pprint")?;
    let has_dict = !matches!(
        view(value),
        View::Undefined | View::None | View::Bool(_) | View::Int(_) | View::Float(_) | View::Str(_)
    );
    let text = repr(context, value)?;
    if text.len() > 75 || (has_dict && text.contains('{')) {
        return Err(unsupported(
            "the filter pprint of a dict or of a long value",
        ));
    }
    Ok(Value::from(text))
}
