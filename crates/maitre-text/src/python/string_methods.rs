//! The methods of `str`.

mod cases;
mod search;
mod split;

use minijinja::{Error, Value};

use super::arguments::{Arguments, flag, integer, integer_or, size, text};
use super::budget::Context;
use super::items::{iterate, markup_like};
use super::text::{char_count, is_space, split_lines};
use super::values::{list, type_name};
use super::{fail, format, unsupported};

/// Whether `str` has a method of this name.
pub(super) fn exists(name: &str) -> bool {
    const METHODS: [&str; 47] = [
        "capitalize",
        "casefold",
        "center",
        "count",
        "encode",
        "endswith",
        "expandtabs",
        "find",
        "format",
        "format_map",
        "index",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "isidentifier",
        "islower",
        "isnumeric",
        "isprintable",
        "isspace",
        "istitle",
        "isupper",
        "join",
        "ljust",
        "lower",
        "lstrip",
        "maketrans",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rjust",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "translate",
        "upper",
        "zfill",
    ];
    METHODS.contains(&name)
}

/// Calls a method of a string.
pub(super) fn call(
    context: &Context<'_, '_, '_>,
    receiver: &Value,
    name: &str,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let string = receiver.as_str().unwrap_or_default();
    context.read(string.len())?;
    let escapes = matches!(name, "replace" | "join" | "format" | "format_map");
    if receiver.is_safe() && escapes {
        return Err(unsupported(format!("the method {name} of Markup")));
    }
    let markup = |text: String| Ok(markup_like(receiver, text));
    match name {
        "upper" | "lower" | "capitalize" | "title" | "swapcase" | "casefold" => {
            arguments.none(name)?;
            context.build(string.len())?;
            markup(cases::convert(name, string))
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments.bind(name, [""], 0)?;
            context.build(string.len())?;
            markup(strip(context, name, string, chars.as_ref())?.to_owned())
        }
        "split" | "rsplit" | "splitlines" | "partition" | "rpartition" => {
            split::call(context, receiver, name, arguments)
        }
        "find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith" => {
            search::call(context, string, name, arguments)
        }
        "replace" => {
            let [old, new, count] = arguments.bind(name, ["", "", ""], 2)?;
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            let count = integer_or(name, &count, -1)?;
            replace(context, string, text(name, &old)?, text(name, &new)?, count).map(Value::from)
        }
        "join" => {
            let [items] = arguments.bind(name, [""], 1)?;
            join(context, string, &items.unwrap_or_default())
        }
        "removeprefix" | "removesuffix" => {
            let [part] = arguments.bind(name, [""], 1)?;
            let part = part.unwrap_or_default();
            let part = text(name, &part)?;
            let rest = if name == "removeprefix" {
                string.strip_prefix(part)
            } else {
                string.strip_suffix(part)
            };
            context.build(string.len())?;
            markup(rest.unwrap_or(string).to_owned())
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = arguments.bind(name, ["", ""], 1)?;
            let width = size(integer(name, &width.unwrap_or_default())?);
            let fill = fill_character(name, fill.as_ref())?;
            markup(justify(context, name, string, width, fill)?)
        }
        "zfill" => {
            let [width] = arguments.bind(name, [""], 1)?;
            let width = size(integer(name, &width.unwrap_or_default())?);
            let sign = if string.starts_with(['+', '-']) { 1 } else { 0 };
            let padded = justify(
                context,
                "rjust",
                &string[sign..],
                width.saturating_sub(sign),
                '0',
            )?;
            markup(format!("{}{padded}", &string[..sign]))
        }
        "expandtabs" => {
            let [width] = arguments.bind(name, ["tabsize"], 0)?;
            markup(expand_tabs(
                context,
                string,
                size(integer_or(name, &width, 8)?),
            )?)
        }
        "format" => format::format(context, string, arguments).map(Value::from),
        "format_map" => {
            let [map] = arguments.bind(name, [""], 1)?;
            format::format_map(context, string, &map.unwrap_or_default()).map(Value::from)
        }
        _ if name.starts_with("is") => {
            arguments.none(name)?;
            Ok(Value::from(cases::is(name, string)))
        }
        _ => Err(unsupported(format!("the method {name} of str"))),
    }
}

/// `str.strip` and its halves.
pub(super) fn strip<'a>(
    context: &Context<'_, '_, '_>,
    name: &str,
    string: &'a str,
    chars: Option<&Value>,
) -> Result<&'a str, Error> {
    let chars = match chars {
        Some(chars) if !chars.is_none() => Some(text(name, chars)?),
        _ => None,
    };
    let tried = chars.map_or(1, str::len);
    context.read(string.len().saturating_mul(tried))?;
    let strips = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    Ok(match name {
        "lstrip" => string.trim_start_matches(strips),
        "rstrip" => string.trim_end_matches(strips),
        _ => string.trim_matches(strips),
    })
}

/// `str.replace`; a negative count replaces all.
pub(super) fn replace(
    context: &Context<'_, '_, '_>,
    string: &str,
    old: &str,
    new: &str,
    count: i128,
) -> Result<String, Error> {
    context.read(string.len())?;
    let limit = if count < 0 { usize::MAX } else { size(count) };
    let found = string.matches(old).count().min(limit);
    let length = string.len().saturating_add(found.saturating_mul(new.len()));
    context.build(length)?;
    Ok(string.replacen(old, new, limit))
}

fn join(context: &Context<'_, '_, '_>, separator: &str, items: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    for (index, item) in iterate(context, items)?.iter().enumerate() {
        let Some(text) = item.as_str() else {
            return Err(fail(format!(
                "join(): item {index} is a {}, expected a str",
                type_name(item)
            )));
        };
        let separator = if index > 0 { separator } else { "" };
        context.read(separator.len() + text.len())?;
        context.bound(out.len().saturating_add(separator.len() + text.len()))?;
        out.push_str(separator);
        out.push_str(text);
    }
    Ok(Value::from(out))
}

fn fill_character(name: &str, fill: Option<&Value>) -> Result<char, Error> {
    let Some(fill) = fill else {
        return Ok(' ');
    };
    let mut chars = text(name, fill)?.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => Err(fail(format!(
            "{name}(): the fill character must be exactly one character long"
        ))),
    }
}

/// `str.center`, `str.ljust`, `str.rjust`.
pub(super) fn justify(
    context: &Context<'_, '_, '_>,
    name: &str,
    string: &str,
    width: usize,
    fill: char,
) -> Result<String, Error> {
    let padding = width.saturating_sub(char_count(string));
    context.build(
        string
            .len()
            .saturating_add(padding.saturating_mul(fill.len_utf8())),
    )?;
    let left = match name {
        "ljust" => 0,
        "rjust" => padding,
        _ => padding / 2 + (padding & width & 1),
    };
    let mut out = String::new();
    out.extend(std::iter::repeat_n(fill, left));
    out.push_str(string);
    out.extend(std::iter::repeat_n(fill, padding - left));
    Ok(out)
}

fn expand_tabs(context: &Context<'_, '_, '_>, string: &str, width: usize) -> Result<String, Error> {
    let tabs = string.matches('\t').count();
    context.build(string.len().saturating_add(tabs.saturating_mul(width)))?;
    let mut out = String::new();
    let mut column = 0;
    for c in string.chars() {
        match c {
            '\t' if width == 0 => {}
            '\t' => {
                let spaces = width - column % width;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c => {
                column = if matches!(c, '\n' | '\r') {
                    0
                } else {
                    column + 1
                };
                out.push(c);
            }
        }
    }
    Ok(out)
}

/// `str.splitlines`.
fn lines(
    context: &Context<'_, '_, '_>,
    receiver: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [keep_ends] = arguments.bind("splitlines", ["keepends"], 0)?;
    let string = receiver.as_str().unwrap_or_default();
    let lines = split_lines(string, flag(&keep_ends, false));
    context.items(lines.len())?;
    list(
        lines
            .into_iter()
            .map(|line| markup_like(receiver, line.to_owned()))
            .collect(),
    )
}
