//! Filters of numbers.

use minijinja::{Error, Value};

use super::AttributeGetter;
use crate::python::arguments::{Arguments, flag, integer, integer_or, is_absent, text};
use crate::python::budget::Context;
use crate::python::compare::{Number, number};
use crate::python::items::iterate;
use crate::python::number::{parse_float, parse_int, round_float, round_int};
use crate::python::operators::binary;
use crate::python::values::{View, type_name, view};
use crate::python::{fail, unsupported};

pub(super) fn apply(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    match name {
        "abs" => {
            arguments.none(name)?;
            match number(value) {
                Some(Number::Int(number)) => number
                    .checked_abs()
                    .map(Value::from)
                    .ok_or_else(|| unsupported("an integer beyond 127 bits")),
                Some(Number::Float(number)) => Ok(Value::from(number.abs())),
                None => Err(wants_number(name, value)),
            }
        }
        "float" => {
            let [default] = arguments.bind(name, ["default"], 0)?;
            if value.is_undefined() {
                return Err(wants_number(name, value));
            }
            Ok(to_float(value)
                .map(Value::from)
                .or(default)
                .unwrap_or_else(|| Value::from(0.0)))
        }
        "int" => to_int(value, arguments),
        "round" => round(value, arguments),
        "sum" => sum(context, value, arguments),
        _ => file_size(value, arguments),
    }
}

fn wants_number(name: &str, value: &Value) -> Error {
    fail(format!(
        "{name}: expected a number, not {}",
        type_name(value)
    ))
}

fn to_float(value: &Value) -> Option<f64> {
    match number(value) {
        Some(Number::Int(number)) => Some(number as f64),
        Some(Number::Float(number)) => Some(number),
        None => value.as_str().and_then(parse_float),
    }
}

fn to_int(value: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let [default, base] = arguments.bind("int", ["default", "base"], 0)?;
    let base = integer_or("int", &base, 10)?;
    let base = u32::try_from(base)
        .ok()
        .filter(|base| *base == 0 || (2..=36).contains(base))
        .ok_or_else(|| unsupported(format!("int with base {base}")))?;
    let too_large = || unsupported("an integer beyond 127 bits");
    let truncated = |number: f64| {
        if number.abs() >= 1e38 {
            return Err(too_large());
        }
        Ok(Value::from(number.trunc() as i128))
    };
    let default = default.unwrap_or_else(|| Value::from(0));
    match view(value) {
        View::Undefined => Err(wants_number("int", value)),
        View::Int(number) => Ok(Value::from(number)),
        View::Bool(number) => Ok(Value::from(i128::from(number))),
        View::Float(number) if number.is_infinite() => {
            Err(fail("int: cannot convert float infinity to integer"))
        }
        View::Float(number) if number.is_nan() => Ok(default),
        View::Float(number) => truncated(number),
        View::Str(text) => match parse_int(text, base) {
            Some(Ok(number)) => Ok(Value::from(number)),
            Some(Err(())) => Err(too_large()),
            None => match parse_float(text) {
                Some(number) if number.is_finite() => truncated(number),
                _ => Ok(default),
            },
        },
        _ => Ok(default),
    }
}

fn round(value: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let [precision, method] = arguments.bind("round", ["precision", "method"], 0)?;
    let method = method.unwrap_or_else(|| Value::from("common"));
    let method = text("round", &method)?;
    let precision = integer_or("round", &precision, 0)?;
    let number = number(value).ok_or_else(|| wants_number("round", value))?;
    if method == "common" {
        return Ok(match number {
            Number::Int(number) => Value::from(round_int(number, precision)),
            Number::Float(number) => Value::from(round_float(number, precision)),
        });
    }
    if !matches!(method, "ceil" | "floor") {
        return Err(fail("round: method must be common, ceil or floor"));
    }
    let precision = i32::try_from(precision)
        .ok()
        .filter(|precision| (-30..=30).contains(precision))
        .ok_or_else(|| unsupported("round to so many digits"))?;
    let number = match number {
        Number::Int(number) => number as f64,
        Number::Float(number) => number,
    };
    let scale = 10f64.powi(precision);
    let scaled = number * scale;
    if !scaled.is_finite() {
        return Err(fail(
            "round: cannot convert float infinity or NaN to integer",
        ));
    }
    let whole = if method == "ceil" {
        scaled.ceil()
    } else {
        scaled.floor()
    };
    // Through an integer, which has no negative zero.
    Ok(Value::from((whole + 0.0) / scale))
}

fn sum(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let [attribute, start] = arguments.bind("sum", ["attribute", "start"], 0)?;
    let getter = AttributeGetter::new(attribute.as_ref());
    let mut total = start.unwrap_or_else(|| Value::from(0));
    if total.as_str().is_some() {
        return Err(fail("sum: can't sum strings, use join instead"));
    }
    for item in iterate(context, value)? {
        let item = getter.get(context, &item, None)?;
        total = binary(context, "+", &total, &item)?;
    }
    Ok(total)
}

fn file_size(value: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let [binary] = arguments.bind("filesizeformat", ["binary"], 0)?;
    let bytes = to_float(value).ok_or_else(|| wants_number("filesizeformat", value))?;
    let binary = flag(&binary, false);
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    let suffix = if binary { "iB" } else { "B" };
    if bytes == 1.0 {
        return Ok(Value::from("1 Byte"));
    }
    if bytes < base {
        if !bytes.is_finite() {
            return Err(fail("filesizeformat: the number is not finite"));
        }
        return Ok(Value::from(format!("{} Bytes", bytes.trunc() + 0.0)));
    }
    let prefixes = if binary { "KMGTPEZY" } else { "kMGTPEZY" };
    let mut unit = base;
    let mut last = 'k';
    for prefix in prefixes.chars() {
        unit *= base;
        last = prefix;
        if bytes < unit {
            break;
        }
    }
    Ok(Value::from(format!(
        "{:.1} {last}{suffix}",
        base * bytes / unit
    )))
}

/// A width or a number of items that a filter takes.
pub(super) fn count(
    name: &str,
    value: &Option<Value>,
    default: Option<i128>,
) -> Result<i128, Error> {
    match (value, default) {
        (Some(value), _) => integer(name, value),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(fail(format!("{name}: a number is missing"))),
    }
}

/// Whether an argument was given.
pub(super) fn given(value: &Option<Value>) -> Option<&Value> {
    if is_absent(value) {
        None
    } else {
        value.as_ref()
    }
}
