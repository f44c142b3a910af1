//! Equality, order, membership and sorting.

use std::cmp::Ordering;

use minijinja::{Error, Value};

use super::budget::Context;
use super::fail;
use super::items::iterate;
use super::values::{DictViewKind, View, type_name, view};

/// `a == b`. Values of types that cannot be equal are not.
pub(crate) fn equal(context: &Context<'_, '_, '_>, a: &Value, b: &Value) -> Result<bool, Error> {
    context.items(1)?;
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(compare_numbers(a, b) == Some(Ordering::Equal));
    }
    Ok(match (view(a), view(b)) {
        (View::Undefined, View::Undefined) | (View::None, View::None) => true,
        (View::Str(a), View::Str(b)) => {
            context.read(a.len().min(b.len()))?;
            a == b
        }
        (View::List(a), View::List(b)) | (View::Tuple(a), View::Tuple(b)) => {
            a.items.len() == b.items.len() && {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !equal(context, a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
        }
        (View::Dict(a), View::Dict(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                context.read(key.as_str().map_or(0, str::len))?;
                match b.get(key)? {
                    Some(other) if equal(context, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (View::Entries(a), View::Entries(b)) if a.kind != DictViewKind::Values => {
            context.items(a.len().saturating_add(b.len()))?;
            let (a, b) = (a.items()?, b.items()?);
            let mut same = a.len() == b.len();
            for item in &a {
                same = same && contains_item(context, &b, item)?;
            }
            same
        }
        (View::Range(a), View::Range(b)) => {
            let length = a.len();
            length == b.len()
                && (length == 0 || a.start == b.start && (length == 1 || a.step == b.step))
        }
        _ => same_object(a, b),
    })
}

/// `a is b` of what has an identity.
pub(crate) fn same_object(a: &Value, b: &Value) -> bool {
    match (identity(a), identity(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// Where the object lies.
fn identity(value: &Value) -> Option<usize> {
    fn at<T>(object: &T) -> Option<usize> {
        Some(std::ptr::from_ref(object).addr())
    }
    match view(value) {
        View::List(object) | View::Tuple(object) => at(object),
        View::Dict(object) => at(object),
        View::Entries(object) => at(object),
        View::Range(object) => at(object),
        View::Generator(object) => at(object),
        View::Namespace(object) => at(object),
        _ => None,
    }
}

/// An integer or a float.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

pub(super) fn number(value: &Value) -> Option<Number> {
    match view(value) {
        View::Bool(value) => Some(Number::Int(i128::from(value))),
        View::Int(value) => Some(Number::Int(value)),
        View::Float(value) => Some(Number::Float(value)),
        _ => None,
    }
}

/// Exact, also between integers and floats.
fn compare_numbers(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => compare_int_float(a, b),
        (Number::Float(a), Number::Int(b)) => compare_int_float(b, a).map(Ordering::reverse),
    }
}

fn compare_int_float(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // The cast saturates; beyond 127 bits only the sign matters.
    let whole = b.trunc() as i128;
    let fraction = b - b.trunc();
    Some(a.cmp(&whole).then_with(|| {
        if b.is_infinite() {
            0.0_f64.partial_cmp(&b).unwrap_or(Ordering::Equal)
        } else {
            0.0_f64.partial_cmp(&fraction).unwrap_or(Ordering::Equal)
        }
    }))
}

/// `a < b` and the like; `None` if neither is less, as with NaN.
pub(crate) fn order(
    context: &Context<'_, '_, '_>,
    operator: &str,
    a: &Value,
    b: &Value,
) -> Result<Option<Ordering>, Error> {
    context.items(1)?;
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(compare_numbers(a, b));
    }
    match (view(a), view(b)) {
        (View::Str(a), View::Str(b)) => {
            context.read(a.len().min(b.len()))?;
            Ok(Some(a.cmp(b)))
        }
        (View::List(a), View::List(b)) | (View::Tuple(a), View::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(context, a, b)? {
                    return order(context, operator, a, b);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ => Err(fail(format!(
            "'{operator}' not supported between instances of '{}' and '{}'",
            type_name(a),
            type_name(b)
        ))),
    }
}

/// `item in container`.
pub(crate) fn contains(
    context: &Context<'_, '_, '_>,
    container: &Value,
    item: &Value,
) -> Result<bool, Error> {
    match view(container) {
        View::Str(text) => match item.as_str() {
            Some(part) => {
                context.read(text.len())?;
                Ok(text.contains(part))
            }
            None => Err(fail(format!(
                "'in <string>' requires string as left operand, not {}",
                type_name(item)
            ))),
        },
        View::Dict(dict) => Ok(dict.get(item)?.is_some()),
        View::List(sequence) | View::Tuple(sequence) => {
            contains_item(context, &sequence.items, item)
        }
        View::Undefined | View::Entries(_) | View::Range(_) | View::Generator(_) => {
            contains_item(context, &iterate(context, container)?, item)
        }
        _ => Err(fail(format!(
            "argument of type '{}' is not iterable",
            type_name(container)
        ))),
    }
}

fn contains_item(
    context: &Context<'_, '_, '_>,
    items: &[Value],
    item: &Value,
) -> Result<bool, Error> {
    for candidate in items {
        if equal(context, candidate, item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A comparison by its operator.
pub(crate) fn compare_named(
    context: &Context<'_, '_, '_>,
    operator: &str,
    a: &Value,
    b: &Value,
) -> Result<bool, Error> {
    let by_order =
        |matches: fn(Ordering) -> bool| Ok(order(context, operator, a, b)?.is_some_and(matches));
    match operator {
        "==" => equal(context, a, b),
        "!=" => equal(context, a, b).map(|same| !same),
        "<" => by_order(Ordering::is_lt),
        "<=" => by_order(Ordering::is_le),
        ">" => by_order(Ordering::is_gt),
        ">=" => by_order(Ordering::is_ge),
        "in" => contains(context, b, a),
        "not in" => contains(context, b, a).map(|found| !found),
        _ => Err(fail(format!("unknown comparison {operator}"))),
    }
}

/// `sorted(items, key=…, reverse=…)`, which keeps the order of equal items.
pub(crate) fn sorted_by<T>(
    context: &Context<'_, '_, '_>,
    items: Vec<T>,
    mut key: impl FnMut(&T) -> Result<Value, Error>,
    reverse: bool,
) -> Result<Vec<T>, Error> {
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        keyed.push((key(&item)?, item));
    }
    let sorted = merge_sort(context, keyed, reverse)?;
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

/// A stable sort that bears what has no order, such as NaN; the standard library's may panic then.
fn merge_sort<T>(
    context: &Context<'_, '_, '_>,
    mut items: Vec<(Value, T)>,
    reverse: bool,
) -> Result<Vec<(Value, T)>, Error> {
    if items.len() < 2 {
        return Ok(items);
    }
    context.items(items.len())?;
    let second = items.split_off(items.len() / 2);
    let mut first = merge_sort(context, items, reverse)?.into_iter().peekable();
    let mut second = merge_sort(context, second, reverse)?.into_iter().peekable();
    let mut merged = Vec::new();
    while let (Some((a, _)), Some((b, _))) = (first.peek(), second.peek()) {
        let (low, high) = if reverse { (a, b) } else { (b, a) };
        let second_first = order(context, "<", low, high)? == Some(Ordering::Less);
        merged.extend(if second_first {
            second.next()
        } else {
            first.next()
        });
    }
    merged.extend(first);
    merged.extend(second);
    Ok(merged)
}
