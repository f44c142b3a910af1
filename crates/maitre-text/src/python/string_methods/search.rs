//! Finding and counting parts of a string. Positions are characters.

use minijinja::{Error, Value};

use crate::python::arguments::{Arguments, integer, text};
use crate::python::budget::Context;
use crate::python::fail;
use crate::python::text::{byte_of, char_count};
use crate::python::values::{View, view};

/// `find`, `rfind`, `index`, `rindex`, `count`, `startswith`, `endswith`.
pub(super) fn call(
    context: &Context<'_, '_, '_>,
    string: &str,
    name: &str,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [part, start, stop] = arguments.bind(name, ["", "", ""], 1)?;
    let part = part.unwrap_or_default();
    let length = char_count(string);
    let bound = |value: Option<Value>, default: usize| match value {
        Some(value) if !value.is_none() => Ok::<_, Error>(match integer(name, &value)? {
            at if at < 0 => usize::try_from(at + length as i128).unwrap_or(0),
            at => usize::try_from(at).unwrap_or(usize::MAX),
        }),
        _ => Ok(default),
    };
    let start = bound(start, 0)?;
    let stop = bound(stop, length)?.min(length);
    let within = (start <= stop).then(|| {
        let (from, to) = (byte_of(string, start), byte_of(string, stop));
        &string[from..to]
    });
    if matches!(name, "startswith" | "endswith") {
        return affix(context, name, within, &part);
    }
    let part = text(name, &part)?;
    let Some(within) = within else {
        return match name {
            "count" => Ok(Value::from(0)),
            "index" | "rindex" => Err(fail("substring not found")),
            _ => Ok(Value::from(-1)),
        };
    };
    if name == "count" {
        return Ok(Value::from(within.matches(part).count()));
    }
    let found = match name {
        "find" | "index" => within.find(part),
        _ => within.rfind(part),
    };
    match found {
        Some(at) => Ok(Value::from(start + char_count(&within[..at]))),
        None if name.ends_with("index") => Err(fail("substring not found")),
        None => Ok(Value::from(-1)),
    }
}

fn affix(
    context: &Context<'_, '_, '_>,
    name: &str,
    within: Option<&str>,
    part: &Value,
) -> Result<Value, Error> {
    let one = |part: &Value| {
        let part = text(name, part)?;
        context.read(part.len())?;
        Ok::<_, Error>(within.is_some_and(|within| {
            if name == "startswith" {
                within.starts_with(part)
            } else {
                within.ends_with(part)
            }
        }))
    };
    match view(part) {
        View::Tuple(parts) => {
            context.items(parts.items.len())?;
            for part in &parts.items {
                if one(part)? {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
        }
        _ => one(part).map(Value::from),
    }
}
