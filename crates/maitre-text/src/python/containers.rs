//! The methods of lists, tuples, dicts, their views and ranges that Jinja2's sandbox allows.

use minijinja::{Error, Value};

use super::arguments::{Arguments, integer_or};
use super::budget::Context;
use super::compare::equal;
use super::items::{iterate, length};
use super::values::{DictView, DictViewKind, View, list, type_name, view};
use super::{fail, unsupported};

/// Whether a container has the method and the sandbox allows it.
pub(super) fn exists(receiver: &Value, name: &str) -> bool {
    match view(receiver) {
        View::List(_) => matches!(name, "count" | "index" | "copy"),
        View::Tuple(_) | View::Range(_) => matches!(name, "count" | "index"),
        View::Dict(_) => matches!(
            name,
            "get" | "items" | "keys" | "values" | "copy" | "fromkeys"
        ),
        View::Entries(_) => matches!(name, "isdisjoint" | "mapping"),
        View::Int(_) | View::Bool(_) => {
            matches!(
                name,
                "bit_length" | "bit_count" | "to_bytes" | "conjugate" | "as_integer_ratio"
            ) || matches!(name, "real" | "imag" | "numerator" | "denominator")
        }
        View::Float(_) => matches!(
            name,
            "is_integer" | "hex" | "conjugate" | "as_integer_ratio" | "real" | "imag"
        ),
        _ => false,
    }
}

/// Whether Python has the method and the sandbox hides it, because it changes the container.
pub(super) fn modifies(receiver: &Value, name: &str) -> bool {
    match view(receiver) {
        View::List(_) => matches!(
            name,
            "append" | "clear" | "pop" | "reverse" | "insert" | "sort" | "extend" | "remove"
        ),
        View::Dict(_) => matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
        _ => false,
    }
}

/// Calls a method that [`exists`].
pub(super) fn call(
    context: &Context<'_, '_, '_>,
    receiver: &Value,
    name: &str,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let dict_view = |kind| {
        arguments.none(name)?;
        let dict = receiver.clone();
        Ok(Value::from_object(DictView { kind, dict }))
    };
    match (view(receiver), name) {
        (View::Dict(dict), "get") => {
            let [key, default] = arguments.bind("get", ["", ""], 1)?;
            let found = dict.get(&key.unwrap_or_default())?;
            Ok(found
                .cloned()
                .or(default)
                .unwrap_or_else(|| Value::from(())))
        }
        (View::Dict(_), "items") => dict_view(DictViewKind::Items),
        (View::Dict(_), "keys") => dict_view(DictViewKind::Keys),
        (View::Dict(_), "values") => dict_view(DictViewKind::Values),
        (View::Dict(_) | View::List(_), "copy") => {
            arguments.none(name)?;
            Ok(receiver.clone())
        }
        (View::List(_) | View::Tuple(_) | View::Range(_), "count") => {
            let [item] = arguments.bind("count", [""], 1)?;
            let item = item.unwrap_or_default();
            let mut count = 0;
            for candidate in iterate(context, receiver)? {
                count += usize::from(equal(context, &candidate, &item)?);
            }
            Ok(Value::from(count))
        }
        (View::List(_) | View::Tuple(_) | View::Range(_), "index") => {
            index(context, receiver, arguments)
        }
        (View::Float(number), "is_integer") => {
            arguments.none(name)?;
            Ok(Value::from(number.is_finite() && number.fract() == 0.0))
        }
        _ => Err(unsupported(format!(
            "the method {name} of {}",
            type_name(receiver)
        ))),
    }
}

fn index(
    context: &Context<'_, '_, '_>,
    receiver: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [item, start, stop] = arguments.bind("index", ["", "", ""], 1)?;
    let item = item.unwrap_or_default();
    let total = length(receiver)? as i128;
    let bound = |value, default| {
        let given = integer_or("index", value, default)?;
        Ok::<_, Error>(if given < 0 {
            (given + total).max(0)
        } else {
            given
        })
    };
    let (start, stop) = (bound(&start, 0)?, bound(&stop, total)?);
    for (at, candidate) in iterate(context, receiver)?.into_iter().enumerate() {
        let within = (start..stop).contains(&(at as i128));
        if within && equal(context, &candidate, &item)? {
            return Ok(Value::from(at));
        }
    }
    Err(fail(format!(
        "index(): the item is not in the {}",
        type_name(receiver)
    )))
}

/// `list(value)`.
pub(super) fn to_list(context: &Context<'_, '_, '_>, value: &Value) -> Result<Value, Error> {
    list(iterate(context, value)?)
}
