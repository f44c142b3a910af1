//! `str.format` and `str.format_map`.

use minijinja::{Error, Value};

use super::arguments::Arguments;
use super::budget::Context;
use super::format_spec::format_value;
use super::items::{attribute, item};
use super::repr::{ascii, repr, to_str};
use super::{fail, unsupported};

/// Where replacement fields get their values.
struct Fields<'f, 'a, 'b, 'c> {
    context: &'f Context<'a, 'b, 'c>,
    arguments: &'f Arguments,
    map: Option<&'f Value>,
    /// The next field without a number; `None` once numbers were given.
    next: Option<usize>,
    numbered: bool,
}

/// `format.format(*positional, **named)`.
pub(super) fn format(
    context: &Context<'_, '_, '_>,
    format: &str,
    arguments: &Arguments,
) -> Result<String, Error> {
    fields(context, arguments, None).expand(format, 0)
}

/// `format.format_map(map)`.
pub(super) fn format_map(
    context: &Context<'_, '_, '_>,
    format: &str,
    map: &Value,
) -> Result<String, Error> {
    fields(context, &Arguments::default(), Some(map)).expand(format, 0)
}

fn fields<'f, 'a, 'b, 'c>(
    context: &'f Context<'a, 'b, 'c>,
    arguments: &'f Arguments,
    map: Option<&'f Value>,
) -> Fields<'f, 'a, 'b, 'c> {
    Fields {
        context,
        arguments,
        map,
        next: Some(0),
        numbered: false,
    }
}

impl Fields<'_, '_, '_, '_> {
    fn expand(&mut self, format: &str, depth: usize) -> Result<String, Error> {
        if depth > 2 {
            return Err(fail("Max string recursion exceeded"));
        }
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..];
            if brace.starts_with("{{") || brace.starts_with("}}") {
                out.push_str(&brace[..1]);
                rest = &brace[2..];
            } else if brace.starts_with('}') {
                return Err(fail("Single '}' encountered in format string"));
            } else {
                let end = field_end(brace)?;
                let text = self.field(&brace[1..end], depth)?;
                self.context.bound(out.len().saturating_add(text.len()))?;
                out.push_str(&text);
                rest = &brace[end + 1..];
            }
            self.context.bound(out.len())?;
        }
        out.push_str(rest);
        self.context.build(out.len())?;
        Ok(out)
    }

    /// One replacement field, without its braces.
    fn field(&mut self, field: &str, depth: usize) -> Result<String, Error> {
        let split = field_name_end(field);
        let (name, rest) = field.split_at(split);
        let (conversion, spec) = match rest.strip_prefix('!') {
            Some(rest) => {
                let mut chars = rest.chars();
                let conversion = chars.next();
                let spec = match chars.as_str() {
                    "" => "",
                    rest => rest
                        .strip_prefix(':')
                        .ok_or_else(|| fail("expected ':' after conversion specifier"))?,
                };
                (conversion, spec)
            }
            None => (None, rest.strip_prefix(':').unwrap_or("")),
        };
        let value = self.value(name)?;
        let spec = self.expand(spec, depth + 1)?;
        let converted = match conversion {
            None => value,
            Some('s') => Value::from(to_str(self.context, &value)?),
            Some('r') => Value::from(repr(self.context, &value)?),
            Some('a') => Value::from(ascii(self.context, &value)?),
            Some(c) => return Err(fail(format!("unknown conversion specifier '{c}'"))),
        };
        format_value(self.context, &converted, &spec)
    }

    /// The value that `name.attribute[item]` stands for.
    fn value(&mut self, name: &str) -> Result<Value, Error> {
        let first_end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(first_end);
        let mut value = self.first(first, path.is_empty())?;
        while !path.is_empty() {
            if let Some(rest) = path.strip_prefix('.') {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                value = attribute(&value, &rest[..end])?;
                path = &rest[end..];
            } else if let Some(rest) = path.strip_prefix('[') {
                let end = rest
                    .find(']')
                    .ok_or_else(|| fail("Missing ']' in format string"))?;
                let key = match rest[..end].parse::<i64>() {
                    Ok(index) if index >= 0 => Value::from(index),
                    _ => Value::from(&rest[..end]),
                };
                value = item(self.context, &value, &key)?;
                path = &rest[end + 1..];
            } else {
                return Err(fail(
                    "Only '.' or '[' may follow ']' in format field specifier",
                ));
            }
        }
        Ok(value)
    }

    /// Only a field that is nothing but a number, or nothing at all, is counted.
    fn first(&mut self, name: &str, is_whole: bool) -> Result<Value, Error> {
        let index = match name {
            "" if is_whole => {
                let next = self.next.filter(|_| !self.numbered).ok_or_else(|| {
                    fail("cannot switch from manual field specification to automatic numbering")
                })?;
                self.next = Some(next + 1);
                Some(next)
            }
            digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                if is_whole && self.next != Some(0) {
                    return Err(fail(
                        "cannot switch from automatic field numbering to manual specification",
                    ));
                }
                self.numbered |= is_whole;
                digits.parse().ok()
            }
            _ => None,
        };
        let found = match (index, self.map) {
            (Some(_), Some(_)) => return Err(unsupported("a numbered field in format_map")),
            (Some(index), None) => self.arguments.positional.get(index).cloned(),
            (None, Some(map)) => Some(item(self.context, map, &Value::from(name))?)
                .filter(|value| !value.is_undefined()),
            (None, None) => self
                .arguments
                .named
                .iter()
                .find(|(given, _)| &**given == name)
                .map(|(_, value)| value.clone()),
        };
        found.ok_or_else(|| {
            fail(format!(
                "format(): there is no argument for the field '{name}'"
            ))
        })
    }
}

/// Where the braces that `text` starts with close.
fn field_end(text: &str) -> Result<usize, Error> {
    let mut depth = 0;
    let mut in_brackets = false;
    for (at, c) in text.char_indices() {
        match c {
            '[' if depth == 1 => in_brackets = true,
            ']' => in_brackets = false,
            _ if in_brackets => {}
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    Err(fail("Single '{' encountered in format string"))
}

/// Where a field's name ends and its conversion or specification begins.
fn field_name_end(field: &str) -> usize {
    let mut in_brackets = false;
    for (at, c) in field.char_indices() {
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            '!' | ':' if !in_brackets => return at,
            _ => {}
        }
    }
    field.len()
}
