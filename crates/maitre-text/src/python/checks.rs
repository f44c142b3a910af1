//! Jinja2's tests: `value is name`.

use minijinja::{Error, ErrorKind, Value};

use super::arguments::Arguments;
use super::budget::Context;
use super::call::is_callable;
use super::compare::{compare_named, equal, same_object};
use super::operators::binary;
use super::repr::to_str;
use super::values::{Key, View, view};
use super::{filters, unsupported};

const NAMES: [&str; 39] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
];

/// The comparison that a test stands for.
fn operator(name: &str) -> Option<&'static str> {
    Some(match name {
        "==" | "eq" | "equalto" => "==",
        "!=" | "ne" => "!=",
        ">" | "gt" | "greaterthan" => ">",
        ">=" | "ge" => ">=",
        "<" | "lt" | "lessthan" => "<",
        "<=" | "le" => "<=",
        "in" => "in",
        _ => return None,
    })
}

/// Whether `value is name(arguments)`.
pub(crate) fn check(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<bool, Error> {
    let one = || {
        let [other] = arguments.bind(name, ["other"], 1)?;
        Ok::<_, Error>(other.unwrap_or_default())
    };
    if let Some(operator) = operator(name) {
        return compare_named(context, operator, value, &one()?);
    }
    if name == "divisibleby" {
        let remainder = binary(context, "%", value, &one()?)?;
        return equal(context, &remainder, &Value::from(0));
    }
    if name == "sameas" {
        return is_same(value, &one()?);
    }
    arguments.none(name)?;
    let seen = view(value);
    Ok(match name {
        "odd" | "even" => {
            let remainder = binary(context, "%", value, &Value::from(2))?;
            equal(context, &remainder, &Value::from(i64::from(name == "odd")))?
        }
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => value.is_none(),
        "boolean" => matches!(seen, View::Bool(_)),
        "true" => matches!(seen, View::Bool(true)),
        "false" => matches!(seen, View::Bool(false)),
        "integer" => matches!(seen, View::Int(_)),
        "float" => matches!(seen, View::Float(_)),
        "number" => matches!(seen, View::Bool(_) | View::Int(_) | View::Float(_)),
        "string" => matches!(seen, View::Str(_)),
        "mapping" => matches!(seen, View::Dict(_)),
        "sequence" => matches!(
            seen,
            View::Undefined
                | View::Str(_)
                | View::List(_)
                | View::Tuple(_)
                | View::Dict(_)
                | View::Range(_)
        ),
        "iterable" => match seen {
            View::None | View::Bool(_) | View::Int(_) | View::Float(_) | View::Namespace(_) => {
                false
            }
            View::Other => value.to_string().starts_with("<loop "),
            _ => true,
        },
        "callable" => is_callable(value),
        "escaped" => value.is_safe(),
        "lower" | "upper" => {
            let text = to_str(context, value)?;
            let text = Value::from(text);
            super::call::call_method(context, &text, &format!("is{name}"), arguments)?.is_true()
        }
        "filter" | "test" => {
            Key::of(value)?;
            let known = |text| match name {
                "filter" => filters::exists(text),
                _ => NAMES.contains(&text),
            };
            value.as_str().is_some_and(known)
        }
        _ => {
            return Err(Error::new(
                ErrorKind::UnknownTest,
                format!("test {name} is unknown"),
            ));
        }
    })
}

/// `a is b` in Python, where that does not depend on how its interpreter keeps constants.
fn is_same(a: &Value, b: &Value) -> Result<bool, Error> {
    match (view(a), view(b)) {
        (View::None, View::None) => Ok(true),
        (View::Bool(a), View::Bool(b)) => Ok(a == b),
        (View::Int(a), View::Int(b)) if a != b => Ok(false),
        (View::Int(a), View::Int(_)) if (-5..=256).contains(&a) => Ok(true),
        (View::Str(a), View::Str(b)) if a != b => Ok(false),
        (View::Float(a), View::Float(b)) if a != b => Ok(false),
        (View::Int(_), View::Int(_))
        | (View::Str(_), View::Str(_))
        | (View::Float(_), View::Float(_)) => {
            Err(unsupported("the test sameas of equal strings or numbers"))
        }
        _ => Ok(same_object(a, b)),
    }
}
