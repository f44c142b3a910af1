//! Walking values, and reading their items and attributes.

use minijinja::{Error, ErrorKind, Value};

use super::budget::Context;
use super::call::Method;
use super::repr::not_iterable;
use super::text::{byte_of, char_count};
use super::values::{Range, Sequence, SequenceKind, View, sequence, type_name, view};
use super::{containers, fail, string_methods};

/// The items of a value in a `for` loop and wherever else Python calls `iter`.
pub(crate) fn iterate(context: &Context<'_, '_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    let items = match view(value) {
        View::Undefined => return Ok(Vec::new()),
        View::Str(text) => {
            context.items(char_count(text))?;
            text.chars().map(Value::from).collect()
        }
        View::List(sequence) | View::Tuple(sequence) => {
            context.items(sequence.items.len())?;
            sequence.items.clone()
        }
        View::Dict(dict) => {
            context.items(dict.entries.len())?;
            dict.entries.iter().map(|(key, _)| key.clone()).collect()
        }
        View::Entries(view) => {
            context.items(view.len())?;
            view.items()?
        }
        View::Range(range) => {
            let length = range_length(range);
            context.items(length)?;
            (0..length).map(|at| Value::from(range.get(at))).collect()
        }
        View::Generator(generator) => {
            let items = generator.take_all();
            context.items(items.len())?;
            items
        }
        _ => return Err(not_iterable(value)),
    };
    Ok(items)
}

/// A range's length; no range that exists is longer.
pub(super) fn range_length(range: &Range) -> usize {
    usize::try_from(range.len()).unwrap_or(usize::MAX)
}

/// `len(value)`.
pub(crate) fn length(value: &Value) -> Result<usize, Error> {
    Ok(match view(value) {
        View::Undefined => 0,
        View::Str(text) => char_count(text),
        View::List(sequence) | View::Tuple(sequence) => sequence.items.len(),
        View::Dict(dict) => dict.entries.len(),
        View::Entries(view) => view.len(),
        View::Range(range) => range_length(range),
        _ => {
            return Err(fail(format!(
                "object of type '{}' has no len()",
                type_name(value)
            )));
        }
    })
}

/// Takes a value apart as an assignment to several names does.
pub(crate) fn unpack(
    context: &Context<'_, '_, '_>,
    value: &Value,
    shape: &Value,
) -> Result<Value, Error> {
    let shapes: Vec<Value> = match shape.try_iter() {
        Ok(shapes) => shapes.collect(),
        Err(_) => return Ok(value.clone()),
    };
    if value.is_undefined() {
        return Err(fail("cannot unpack an undefined value"));
    }
    let items = iterate(context, value)?;
    if items.len() != shapes.len() {
        return Err(fail(format!(
            "cannot unpack {} values into {} names",
            items.len(),
            shapes.len()
        )));
    }
    let taken: Result<Vec<Value>, Error> = items
        .iter()
        .zip(&shapes)
        .map(|(item, shape)| unpack(context, item, shape))
        .collect();
    Ok(Value::from(taken?))
}

/// `object.name`: a method or attribute, then an item.
pub(crate) fn attribute(object: &Value, name: &str) -> Result<Value, Error> {
    if object.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            format!("cannot read '{name}' of it"),
        ));
    }
    if let Some(found) = python_attribute(object, name)? {
        return Ok(found);
    }
    if let View::Dict(dict) = view(object) {
        return Ok(dict.get_str(name).cloned().unwrap_or_default());
    }
    Ok(Value::UNDEFINED)
}

/// `getattr(object, name)` as the sandbox allows it.
fn python_attribute(object: &Value, name: &str) -> Result<Option<Value>, Error> {
    let has_method = match view(object) {
        View::Str(_) => string_methods::exists(name),
        View::Namespace(namespace) => return Ok(namespace.get(name)),
        View::Other => return foreign_attribute(object, name),
        View::Tuple(tuple)
            if tuple.kind == SequenceKind::Group && matches!(name, "grouper" | "list") =>
        {
            let at = usize::from(name == "list");
            return Ok(tuple.items.get(at).cloned());
        }
        View::Range(range) => {
            let value = match name {
                "start" => range.start,
                "stop" => range.stop,
                "step" => range.step,
                _ => {
                    return Ok(
                        containers::exists(object, name).then(|| Method::value(object, name))
                    );
                }
            };
            return Ok(Some(Value::from(value)));
        }
        _ if containers::modifies(object, name) => return Ok(Some(Value::UNDEFINED)),
        _ => containers::exists(object, name),
    };
    Ok(has_method.then(|| Method::value(object, name)))
}

/// Attributes of loops, macros and this crate's functions.
fn foreign_attribute(object: &Value, name: &str) -> Result<Option<Value>, Error> {
    if let Some(cycler) = object.downcast_object_ref::<super::call::Cycler>() {
        return Ok(cycler
            .attribute(name)
            .or_else(|| matches!(name, "next" | "reset").then(|| Method::value(object, name))));
    }
    let text = object.to_string();
    if text.starts_with("<loop ") && matches!(name, "cycle" | "changed") {
        return Ok(Some(Method::value(object, name)));
    }
    if text.starts_with("<macro ") && name != "name" {
        return Err(super::unsupported(format!(
            "the attribute '{name}' of a macro"
        )));
    }
    Ok(object
        .get_attr(name)
        .ok()
        .filter(|found| !found.is_undefined()))
}

/// `object[key]`: an item, then, for a string, a method or attribute.
pub(crate) fn item(
    context: &Context<'_, '_, '_>,
    object: &Value,
    key: &Value,
) -> Result<Value, Error> {
    let index = match view(key) {
        View::Int(index) => Some(index),
        View::Bool(index) => Some(i128::from(index)),
        _ => None,
    };
    let found = match (view(object), index) {
        (View::Undefined, _) => {
            return Err(Error::new(
                ErrorKind::UndefinedError,
                "cannot read an item of it",
            ));
        }
        (View::Dict(dict), _) => match dict.get(key) {
            Ok(found) => found.cloned(),
            // An unhashable key is a TypeError, which Jinja2 takes for an absent item.
            Err(_) => None,
        },
        (View::List(sequence) | View::Tuple(sequence), Some(index)) => {
            place(index, sequence.items.len()).and_then(|at| sequence.items.get(at).cloned())
        }
        (View::Str(text), Some(index)) => {
            context.read(text.len())?;
            let at = place(index, char_count(text));
            let c = at.and_then(|at| text[byte_of(text, at)..].chars().next());
            c.map(|c| markup_like(object, c.to_string()))
        }
        (View::Range(range), Some(index)) => {
            place(index, range_length(range)).map(|at| Value::from(range.get(at)))
        }
        _ => None,
    };
    match (found, key.as_str()) {
        (Some(found), _) => Ok(found),
        (None, Some(name)) => Ok(python_attribute(object, name)?.unwrap_or_default()),
        (None, None) => Ok(Value::UNDEFINED),
    }
}

/// Where an index that may count from the end points to.
fn place(index: i128, length: usize) -> Option<usize> {
    let index = if index < 0 {
        index + length as i128
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&at| at < length)
}

/// A string that is markup if `like` is.
pub(super) fn markup_like(like: &Value, text: String) -> Value {
    if like.is_safe() {
        Value::from_safe_string(text)
    } else {
        Value::from(text)
    }
}

/// `object[start:stop:step]`.
pub(crate) fn slice(
    context: &Context<'_, '_, '_>,
    object: &Value,
    bounds: &[Value],
) -> Result<Value, Error> {
    let bound = |at: usize| bounds.get(at).filter(|bound| !bound.is_none());
    match view(object) {
        View::Str(text) => {
            context.build(text.len())?;
            let chars: Vec<char> = text.chars().collect();
            let picked = picked(chars.len(), bound(0), bound(1), bound(2))?;
            let text = picked.into_iter().filter_map(|at| chars.get(at)).collect();
            Ok(markup_like(object, text))
        }
        View::List(items) | View::Tuple(items) => slice_items(context, items, bounds),
        View::Range(range) => {
            let (start, stop, step) = indices(range_length(range), bound(0), bound(1), bound(2))?;
            let at = |index: i128| range.start.saturating_add(range.step.saturating_mul(index));
            Ok(Value::from_object(Range {
                start: at(start),
                stop: at(stop),
                step: range.step.saturating_mul(step),
            }))
        }
        View::Undefined => Err(fail("cannot slice an undefined value")),
        _ => Err(fail(format!(
            "'{}' object cannot be sliced",
            type_name(object)
        ))),
    }
}

fn slice_items(
    context: &Context<'_, '_, '_>,
    items: &Sequence,
    bounds: &[Value],
) -> Result<Value, Error> {
    let bound = |at: usize| bounds.get(at).filter(|bound| !bound.is_none());
    let at = picked(items.items.len(), bound(0), bound(1), bound(2))?;
    context.items(at.len())?;
    let taken = at.into_iter().filter_map(|at| items.items.get(at).cloned());
    let kind = match items.kind {
        SequenceKind::Group => SequenceKind::Tuple,
        kind => kind,
    };
    sequence(kind, taken.collect())
}

/// `slice.indices`: where a slice of a sequence starts, stops, and how it steps.
fn indices(
    length: usize,
    start: Option<&Value>,
    stop: Option<&Value>,
    step: Option<&Value>,
) -> Result<(i128, i128, i128), Error> {
    let number = |value: Option<&Value>| {
        value
            .map(|value| super::arguments::integer("slice", value))
            .transpose()
    };
    let step = number(step)?.unwrap_or(1);
    if step == 0 {
        return Err(fail("slice step cannot be zero"));
    }
    let length = length as i128;
    let (lowest, highest) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let clamp = |value: Option<i128>, default: i128| match value {
        None => default,
        Some(value) if value < 0 => value.saturating_add(length).clamp(lowest, highest),
        Some(value) => value.clamp(lowest, highest),
    };
    let forward = step > 0;
    let start = clamp(number(start)?, if forward { lowest } else { highest });
    let stop = clamp(number(stop)?, if forward { highest } else { lowest });
    Ok((start, stop, step))
}

/// The places that a slice takes of a sequence.
fn picked(
    length: usize,
    start: Option<&Value>,
    stop: Option<&Value>,
    step: Option<&Value>,
) -> Result<Vec<usize>, Error> {
    let (mut at, stop, step) = indices(length, start, stop, step)?;
    let forward = step > 0;
    let mut places = Vec::new();
    while (forward && at < stop) || (!forward && at > stop) {
        places.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    Ok(places)
}
