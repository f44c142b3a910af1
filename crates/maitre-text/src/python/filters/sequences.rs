//! Filters of sequences.

use minijinja::{Error, Value};

use super::AttributeGetter;
use super::numbers::{count, given};
use crate::python::arguments::{Arguments, size};
use crate::python::budget::Context;
use crate::python::items::{iterate, length, markup_like};
use crate::python::repr::to_str;
use crate::python::values::{View, generator, list, type_name, view};
use crate::python::{fail, unsupported};

pub(super) fn apply(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    match name {
        "first" => {
            arguments.none(name)?;
            first(context, value)
        }
        "last" => {
            arguments.none(name)?;
            let walks_back = !matches!(view(value), View::Generator(_));
            if !walks_back {
                return Err(fail("last: a generator is not reversible"));
            }
            Ok(iterate(context, value)?.pop().unwrap_or_default())
        }
        "join" => join(context, value, arguments),
        "batch" => batch(context, value, arguments),
        "slice" => slice(context, value, arguments),
        "reverse" => {
            arguments.none(name)?;
            reverse(context, value)
        }
        _ => {
            arguments.none(name)?;
            if length(value)? == 0 {
                return Ok(Value::UNDEFINED);
            }
            Err(unsupported("the filter random"))
        }
    }
}

fn first(context: &Context<'_, '_, '_>, value: &Value) -> Result<Value, Error> {
    Ok(match view(value) {
        View::List(items) | View::Tuple(items) => items.items.first().cloned().unwrap_or_default(),
        View::Str(text) => match text.chars().next() {
            Some(c) => markup_like(value, c.to_string()),
            None => Value::UNDEFINED,
        },
        View::Generator(generator) => generator.next().unwrap_or_default(),
        _ => iterate(context, value)?
            .into_iter()
            .next()
            .unwrap_or_default(),
    })
}

fn join(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [separator, attribute] = arguments.bind("join", ["d", "attribute"], 0)?;
    let separator = separator.map_or(Ok(String::new()), |value| to_str(context, &value))?;
    let getter = AttributeGetter::new(given(&attribute));
    let mut out = String::new();
    for (index, item) in iterate(context, value)?.iter().enumerate() {
        let item = getter.get(context, item, None)?;
        let text = to_str(context, &item)?;
        let separator = if index > 0 { separator.as_str() } else { "" };
        context.read(separator.len())?;
        context.bound(out.len().saturating_add(separator.len() + text.len()))?;
        out.push_str(separator);
        out.push_str(&text);
    }
    Ok(Value::from(out))
}

fn batch(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [linecount, fill] = arguments.bind("batch", ["linecount", "fill_with"], 1)?;
    let width = size(count("batch", &linecount, None)?);
    let items = iterate(context, value)?;
    // A row that cannot be full never ends; one of no items is Python's, too: it comes first.
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut row: Vec<Value> = Vec::new();
    for item in items {
        if row.len() == width {
            rows.push(std::mem::take(&mut row));
        }
        row.push(item);
    }
    if !row.is_empty() {
        if let Some(fill) = given(&fill) {
            let missing = width.saturating_sub(row.len());
            context.items(missing)?;
            row.extend(std::iter::repeat_n(fill.clone(), missing));
        }
        rows.push(row);
    }
    let rows: Result<Vec<Value>, Error> = rows.into_iter().map(list).collect();
    generator("do_batch", rows?)
}

fn slice(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [slices, fill] = arguments.bind("slice", ["slices", "fill_with"], 1)?;
    let slices = count("slice", &slices, None)?;
    if slices == 0 {
        return Err(fail("slice: integer division by zero"));
    }
    let slices = size(slices);
    let items = iterate(context, value)?;
    context.items(slices)?;
    if slices == 0 {
        return generator("sync_do_slice", Vec::new());
    }
    let (each, longer) = (items.len() / slices, items.len() % slices);
    let mut rows = Vec::new();
    let mut items = items.into_iter();
    for number in 0..slices {
        let length = each + usize::from(number < longer);
        let mut row: Vec<Value> = items.by_ref().take(length).collect();
        if let Some(fill) = given(&fill)
            && number >= longer
        {
            row.push(fill.clone());
        }
        rows.push(list(row)?);
    }
    generator("sync_do_slice", rows)
}

fn reverse(context: &Context<'_, '_, '_>, value: &Value) -> Result<Value, Error> {
    match view(value) {
        View::Str(text) => {
            context.build(text.len())?;
            Ok(markup_like(value, text.chars().rev().collect()))
        }
        View::Generator(_) => {
            let mut items = iterate(context, value)?;
            items.reverse();
            list(items)
        }
        View::None | View::Bool(_) | View::Int(_) | View::Float(_) => Err(fail(format!(
            "reverse: argument must be iterable, not {}",
            type_name(value)
        ))),
        _ => {
            let mut items = iterate(context, value)?;
            items.reverse();
            generator("reversed", items)
        }
    }
}
