//! Filters of HTML and URLs.

use minijinja::{Error, Value};

use crate::python::arguments::{Arguments, flag};
use crate::python::budget::Context;
use crate::python::items::iterate;
use crate::python::repr::to_str;
use crate::python::text::is_space;
use crate::python::values::{View, type_name, view};
use crate::python::{fail, unsupported};

pub(super) fn apply(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    if name == "xmlattr" {
        return xmlattr(context, value, arguments);
    }
    if name == "urlize" {
        return Err(unsupported("the filter urlize"));
    }
    arguments.none(name)?;
    match name {
        "safe" => Ok(Value::from_safe_string(to_str(context, value)?)),
        "e" | "escape" => Ok(Value::from_safe_string(escaped(context, value)?)),
        "forceescape" => {
            let plain = Value::from(to_str(context, value)?);
            Ok(Value::from_safe_string(escaped(context, &plain)?))
        }
        "striptags" => strip_tags(context, &to_str(context, value)?),
        _ => urlencode(context, value),
    }
}

/// `markupsafe.escape`: what is markup stays.
pub(in crate::python) fn escaped(
    context: &Context<'_, '_, '_>,
    value: &Value,
) -> Result<String, Error> {
    let text = to_str(context, value)?;
    if value.is_safe() {
        return Ok(text);
    }
    context.build(text.len().saturating_mul(5))?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// `Markup.striptags`: without comments and tags, white space collapsed, entities resolved.
fn strip_tags(context: &Context<'_, '_, '_>, text: &str) -> Result<Value, Error> {
    context.build(text.len())?;
    let without = without(&without(text, "<!--", "-->"), "<", ">");
    let words: Vec<&str> = without
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    let text = words.join(" ");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = [
            ("&amp;", '&'),
            ("&lt;", '<'),
            ("&gt;", '>'),
            ("&quot;", '"'),
            ("&#39;", '\''),
            ("&#34;", '"'),
        ];
        match known.iter().find(|(entity, _)| rest.starts_with(entity)) {
            Some((entity, c)) => {
                out.push(*c);
                rest = &rest[entity.len()..];
            }
            None if rest[1..].starts_with(|c: char| c == '#' || c.is_ascii_alphabetic()) => {
                return Err(unsupported("the filter striptags of such an entity"));
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Ok(Value::from(out))
}

/// Without what stands between `open` and `close`.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(open) {
        let Some((_, after)) = inside.split_once(close) else {
            break;
        };
        out.push_str(before);
        rest = after;
    }
    out.push_str(rest);
    out
}

fn urlencode(context: &Context<'_, '_, '_>, value: &Value) -> Result<Value, Error> {
    let pairs = match view(value) {
        View::Str(_) | View::None | View::Bool(_) | View::Int(_) | View::Float(_) => {
            return quoted(context, value, false).map(Value::from);
        }
        View::Dict(dict) => dict.entries.clone(),
        _ => {
            let mut pairs = Vec::new();
            for pair in iterate(context, value)? {
                match iterate(context, &pair)?.as_slice() {
                    [key, value] => pairs.push((key.clone(), value.clone())),
                    _ => return Err(fail("urlencode: expected pairs of key and value")),
                }
            }
            pairs
        }
    };
    context.items(pairs.len())?;
    let mut out = String::new();
    for (index, (key, value)) in pairs.iter().enumerate() {
        let (key, value) = (quoted(context, key, true)?, quoted(context, value, true)?);
        context.bound(out.len().saturating_add(key.len() + value.len()))?;
        out.push_str(if index > 0 { "&" } else { "" });
        out.push_str(&key);
        out.push('=');
        out.push_str(&value);
    }
    Ok(Value::from(out))
}

fn quoted(context: &Context<'_, '_, '_>, value: &Value, in_query: bool) -> Result<String, Error> {
    let text = to_str(context, value)?;
    context.build(text.len().saturating_mul(3))?;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' if !in_query => out.push('/'),
            b' ' if in_query => out.push('+'),
            b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(out)
}

fn xmlattr(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [autospace] = arguments.bind("xmlattr", ["autospace"], 0)?;
    let View::Dict(dict) = view(value) else {
        return Err(fail(format!(
            "xmlattr: expected a dict, not {}",
            type_name(value)
        )));
    };
    let mut out = String::new();
    for (key, value) in &dict.entries {
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let name = super::super::arguments::text("xmlattr", key)?;
        let invalid = |c: char| {
            matches!(
                c,
                ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '/' | '>' | '='
            )
        };
        if name.contains(invalid) {
            return Err(fail("xmlattr: invalid character in attribute name"));
        }
        let (key, value) = (escaped(context, key)?, escaped(context, value)?);
        context.bound(out.len().saturating_add(key.len() + value.len()))?;
        let space = !out.is_empty() || flag(&autospace, true);
        out.push_str(if space { " " } else { "" });
        out.push_str(&format!("{key}=\"{value}\""));
    }
    Ok(Value::from(out))
}
