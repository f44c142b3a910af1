//! Arithmetic, and what its operators mean for strings and lists.

use minijinja::{Error, Value};

use super::budget::Context;
use super::compare::{Number, number};
use super::repr::to_str;
use super::values::{Sequence, SequenceKind, View, sequence, type_name, view};
use super::{fail, filters, percent, unsupported};

/// `a + b` and the like.
pub(crate) fn binary(
    context: &Context<'_, '_, '_>,
    operator: &str,
    a: &Value,
    b: &Value,
) -> Result<Value, Error> {
    if let (Some(x), Some(y)) = (number(a), number(b)) {
        return arithmetic(operator, x, y);
    }
    let times = |value: &Value| match view(value) {
        View::Int(count) => Some(count),
        View::Bool(count) => Some(i128::from(count)),
        _ => None,
    };
    match (operator, view(a), view(b)) {
        ("+", View::Str(x), View::Str(y)) => add_text(context, (a, x), (b, y)),
        ("+", View::List(x), View::List(y)) | ("+", View::Tuple(x), View::Tuple(y)) => {
            context.items(x.items.len() + y.items.len())?;
            sequence(
                plain(x.kind),
                x.items.iter().chain(&y.items).cloned().collect(),
            )
        }
        ("%", View::Str(text), _) => percent::format(context, text, b),
        ("*", View::Str(text), _) if times(b).is_some() => {
            repeat_text(context, a, text, times(b).unwrap_or(0))
        }
        ("*", _, View::Str(text)) if times(a).is_some() => {
            repeat_text(context, b, text, times(a).unwrap_or(0))
        }
        ("*", View::List(items) | View::Tuple(items), _) if times(b).is_some() => {
            repeat_items(context, items, times(b).unwrap_or(0))
        }
        ("*", _, View::List(items) | View::Tuple(items)) if times(a).is_some() => {
            repeat_items(context, items, times(a).unwrap_or(0))
        }
        ("|", View::Dict(_), View::Dict(_)) => Err(unsupported("| of dicts")),
        _ => Err(fail(format!(
            "tried to use {operator} operator on unsupported types {} and {}",
            a.kind(),
            b.kind()
        ))),
    }
}

/// Markup escapes what is added to it.
fn add_text(
    context: &Context<'_, '_, '_>,
    (a, x): (&Value, &str),
    (b, y): (&Value, &str),
) -> Result<Value, Error> {
    context.build(x.len().saturating_add(y.len()))?;
    if a.is_safe() || b.is_safe() {
        let x = filters::escaped(context, a)?;
        let y = filters::escaped(context, b)?;
        return Ok(Value::from_safe_string(x + &y));
    }
    Ok(Value::from(format!("{x}{y}")))
}

fn repeat_text(
    context: &Context<'_, '_, '_>,
    value: &Value,
    text: &str,
    times: i128,
) -> Result<Value, Error> {
    let times = super::arguments::size(times);
    context.build(text.len().saturating_mul(times))?;
    let times = if text.is_empty() { 0 } else { times };
    let repeated = text.repeat(times);
    if value.is_safe() {
        return Ok(Value::from_safe_string(repeated));
    }
    Ok(Value::from(repeated))
}

fn repeat_items(
    context: &Context<'_, '_, '_>,
    items: &Sequence,
    times: i128,
) -> Result<Value, Error> {
    let times = super::arguments::size(times);
    context.items(items.items.len().saturating_mul(times))?;
    let times = if items.items.is_empty() { 0 } else { times };
    let repeated = std::iter::repeat_n(&items.items, times).flatten().cloned();
    sequence(plain(items.kind), repeated.collect())
}

fn arithmetic(operator: &str, a: Number, b: Number) -> Result<Value, Error> {
    if let (Number::Int(a), Number::Int(b)) = (a, b) {
        return integers(operator, a, b);
    }
    let float = |number| match number {
        Number::Int(number) => number as f64,
        Number::Float(number) => number,
    };
    let (a, b) = (float(a), float(b));
    let division = matches!(operator, "/" | "//" | "%");
    if division && b == 0.0 {
        return Err(fail(format!("float division by zero ({operator})")));
    }
    let result = match operator {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "//" => float_divmod(a, b).0,
        "%" => float_divmod(a, b).1,
        "**" => return float_power(a, b),
        _ => return Err(fail(format!("unknown operator {operator}"))),
    };
    Ok(Value::from(result))
}

/// Python's floor division and modulo: the remainder has the divisor's sign.
fn float_divmod(a: f64, b: f64) -> (f64, f64) {
    let mut remainder = a % b;
    let mut quotient = (a - remainder) / b;
    if remainder == 0.0 {
        remainder = 0.0_f64.copysign(b);
    } else if (b < 0.0) != (remainder < 0.0) {
        remainder += b;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(a / b), remainder);
    }
    let floor = quotient.floor();
    let floor = if quotient - floor > 0.5 {
        floor + 1.0
    } else {
        floor
    };
    (floor, remainder)
}

fn float_power(a: f64, b: f64) -> Result<Value, Error> {
    if a == 0.0 && b < 0.0 {
        return Err(fail("0.0 cannot be raised to a negative power"));
    }
    if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
        return Err(unsupported("a complex number (a root of a negative one)"));
    }
    let result = a.powf(b);
    if result.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(fail("the result of ** is too large"));
    }
    Ok(Value::from(result))
}

fn integers(operator: &str, a: i128, b: i128) -> Result<Value, Error> {
    let division = matches!(operator, "/" | "//" | "%");
    if division && b == 0 {
        return Err(fail(format!("integer division by zero ({operator})")));
    }
    let result = match operator {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        // The nearest float of the quotient: exact where both are exact.
        "/" => return Ok(Value::from(a as f64 / b as f64)),
        "//" => a.checked_div(b).map(|quotient| {
            let exact = a % b == 0;
            quotient - i128::from(!exact && (a < 0) != (b < 0))
        }),
        "%" => a.checked_rem(b).map(|remainder| {
            if remainder != 0 && (remainder < 0) != (b < 0) {
                remainder + b
            } else {
                remainder
            }
        }),
        "**" if b < 0 => return float_power(a as f64, b as f64),
        "**" => match (a, u32::try_from(b)) {
            (0 | 1, _) => Some(if b == 0 { 1 } else { a }),
            (-1, _) => Some(if b % 2 == 0 { 1 } else { -1 }),
            (_, Ok(b)) => a.checked_pow(b),
            _ => None,
        },
        _ => return Err(fail(format!("unknown operator {operator}"))),
    };
    result
        .map(Value::from)
        .ok_or_else(|| unsupported("an integer beyond 127 bits"))
}

/// `-a` and `+a`.
pub(crate) fn unary(operator: &str, operand: &Value) -> Result<Value, Error> {
    match (operator, number(operand)) {
        ("-", Some(Number::Int(number))) => number
            .checked_neg()
            .map(Value::from)
            .ok_or_else(|| unsupported("an integer beyond 127 bits")),
        ("-", Some(Number::Float(number))) => Ok(Value::from(-number)),
        (_, Some(Number::Int(number))) => Ok(Value::from(number)),
        (_, Some(Number::Float(number))) => Ok(Value::from(number)),
        _ => Err(fail(format!(
            "bad operand type for unary {operator}: '{}'",
            type_name(operand)
        ))),
    }
}

/// `a ~ b ~ c`.
pub(crate) fn concat(context: &Context<'_, '_, '_>, parts: &[Value]) -> Result<Value, Error> {
    let mut out = String::new();
    for part in parts {
        match part.as_str() {
            Some(text) => {
                context.read(text.len())?;
                context.bound(out.len().saturating_add(text.len()))?;
                out.push_str(text);
            }
            None => {
                let text = to_str(context, part)?;
                context.bound(out.len().saturating_add(text.len()))?;
                out.push_str(&text);
            }
        }
    }
    Ok(Value::from(out))
}

fn plain(kind: SequenceKind) -> SequenceKind {
    match kind {
        SequenceKind::Group => SequenceKind::Tuple,
        kind => kind,
    }
}
