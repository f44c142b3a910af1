//! `'%s and %d' % values`.

use minijinja::{Error, Value};

use super::arguments::size;
use super::budget::Context;
use super::compare::{Number, number};
use super::format_spec::MAX_PRECISION;
use super::number::float_digits;
use super::repr::{ascii, repr, to_str};
use super::text::{byte_of, char_count};
use super::values::{View, type_name, view};
use super::{fail, unsupported};

/// `%` with its flags, width, precision and type.
#[derive(Debug, Default)]
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

struct Operands<'v> {
    /// The values in a row: a tuple's, or the one value.
    values: Vec<&'v Value>,
    next: usize,
    whole: &'v Value,
}

impl<'v> Operands<'v> {
    fn next(&mut self) -> Result<&'v Value, Error> {
        let value = self.values.get(self.next).copied();
        self.next += 1;
        value.ok_or_else(|| fail("not enough arguments for format string"))
    }
}

/// `format % operand`.
pub(super) fn format(
    context: &Context<'_, '_, '_>,
    format: &str,
    operand: &Value,
) -> Result<Value, Error> {
    context.read(format.len())?;
    let mut operands = Operands {
        values: match view(operand) {
            View::Tuple(tuple) => tuple.items.iter().collect(),
            _ => vec![operand],
        },
        next: 0,
        whole: operand,
    };
    let mut used_names = false;
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let mut spec = &rest[at + 1..];
        let mut named = None;
        if spec.starts_with('(') {
            let (name, after) = name(spec)?;
            let View::Dict(dict) = view(operands.whole) else {
                return Err(fail("format requires a mapping"));
            };
            named = Some(
                dict.get_str(name)
                    .ok_or_else(|| fail(format!("there is no key '{name}' for the format")))?,
            );
            used_names = true;
            spec = after;
        }
        let (conversion, kind, after) = conversion(spec, &mut operands)?;
        rest = after;
        if kind == '%' && after.len() + 1 == spec.len() {
            out.push('%');
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => operands.next()?,
        };
        let text = convert(context, &conversion, kind, value)?;
        context.bound(out.len().saturating_add(text.len()))?;
        out.push_str(&text);
    }
    out.push_str(rest);
    context.build(out.len())?;
    // What has items by a key may be left unused, a value or a tuple's value may not.
    let is_container = matches!(
        view(operand),
        View::Dict(_) | View::List(_) | View::Range(_) | View::Undefined
    );
    if operands.next < operands.values.len() && !used_names && !is_container {
        return Err(fail("not all arguments converted during string formatting"));
    }
    Ok(Value::from(out))
}

/// The name in parentheses at the start of `spec`, and what follows it.
fn name(spec: &str) -> Result<(&str, &str), Error> {
    let mut depth = 0;
    for (at, c) in spec.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return Ok((&spec[1..at], &spec[at + 1..]));
                }
            }
            _ => {}
        }
    }
    Err(fail("incomplete format key"))
}

/// Flags, width, precision and type.
fn conversion<'s>(
    spec: &'s str,
    operands: &mut Operands<'_>,
) -> Result<(Conversion, char, &'s str), Error> {
    let mut parsed = Conversion::default();
    let flags = spec
        .find(|c| !matches!(c, '-' | '+' | ' ' | '#' | '0'))
        .unwrap_or(spec.len());
    for flag in spec[..flags].chars() {
        match flag {
            '-' => parsed.left = true,
            '+' => parsed.plus = true,
            ' ' => parsed.space = true,
            '#' => parsed.alternate = true,
            _ => parsed.zero = true,
        }
    }
    let (width, rest) = count(&spec[flags..], operands)?;
    parsed.left |= width < 0;
    parsed.width = size(width.saturating_abs());
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = count(after, operands)?;
        parsed.precision = Some(size(precision));
        rest = after;
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let mut chars = rest.chars();
    let kind = chars.next().ok_or_else(|| fail("incomplete format"))?;
    Ok((parsed, kind, chars.as_str()))
}

/// A number, or `*` for the next operand's.
fn count<'s>(spec: &'s str, operands: &mut Operands<'_>) -> Result<(i128, &'s str), Error> {
    if let Some(rest) = spec.strip_prefix('*') {
        return match view(operands.next()?) {
            View::Int(count) => Ok((count, rest)),
            _ => Err(fail("* wants int")),
        };
    }
    let end = spec
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(spec.len());
    match &spec[..end] {
        "" => Ok((0, spec)),
        digits => digits
            .parse()
            .map(|count| (count, &spec[end..]))
            .map_err(|_| fail("width too big")),
    }
}

fn convert(
    context: &Context<'_, '_, '_>,
    conversion: &Conversion,
    kind: char,
    value: &Value,
) -> Result<String, Error> {
    match kind {
        's' | 'r' | 'a' => {
            let text = match kind {
                's' => to_str(context, value)?,
                'r' => repr(context, value)?,
                _ => ascii(context, value)?,
            };
            let end = conversion
                .precision
                .map_or(text.len(), |precision| byte_of(&text, precision));
            pad(context, conversion, "", &text[..end], false)
        }
        'c' => {
            let text = match view(value) {
                View::Str(text) if char_count(text) == 1 => text.to_owned(),
                View::Int(code) => u32::try_from(code)
                    .ok()
                    .and_then(char::from_u32)
                    .ok_or_else(|| fail("%c arg not in range"))?
                    .to_string(),
                _ => return Err(fail("%c requires int or char")),
            };
            pad(context, conversion, "", &text, false)
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let number = match (number(value), kind) {
                (Some(Number::Int(number)), _) => number,
                (Some(Number::Float(number)), 'd' | 'i' | 'u') if number.is_finite() => {
                    if number.abs() >= 1e38 {
                        return Err(unsupported("an integer beyond 127 bits"));
                    }
                    number.trunc() as i128
                }
                _ => return Err(wants(kind, value)),
            };
            integer(context, conversion, kind, number)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let number = match number(value) {
                Some(Number::Int(number)) => number as f64,
                Some(Number::Float(number)) => number,
                None => return Err(wants(kind, value)),
            };
            float(context, conversion, kind, number)
        }
        '%' => Err(unsupported("a width of %%")),
        other => Err(fail(format!("unsupported format character '{other}'"))),
    }
}

fn wants(kind: char, value: &Value) -> Error {
    fail(format!(
        "%{kind} format: a number is required, not {}",
        type_name(value)
    ))
}

fn integer(
    context: &Context<'_, '_, '_>,
    conversion: &Conversion,
    kind: char,
    number: i128,
) -> Result<String, Error> {
    let magnitude = number.unsigned_abs();
    let (prefix, mut digits) = match kind {
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        _ => ("", magnitude.to_string()),
    };
    if let Some(precision) = conversion.precision {
        context.build(precision)?;
        let zeros = precision.saturating_sub(digits.len());
        digits.insert_str(0, &"0".repeat(zeros));
    }
    let prefix = if conversion.alternate { prefix } else { "" };
    let sign = sign(conversion, number < 0);
    pad(
        context,
        conversion,
        &format!("{sign}{prefix}"),
        &digits,
        true,
    )
}

fn float(
    context: &Context<'_, '_, '_>,
    conversion: &Conversion,
    kind: char,
    number: f64,
) -> Result<String, Error> {
    let precision = conversion.precision.unwrap_or(6);
    if precision > MAX_PRECISION {
        return Err(unsupported(format!("a precision of {precision}")));
    }
    let magnitude = number.abs();
    let digits = if magnitude.is_nan() {
        "nan".to_owned()
    } else if magnitude.is_infinite() {
        "inf".to_owned()
    } else {
        let lower = kind.to_ascii_lowercase();
        let digits = float_digits(magnitude, lower, precision, conversion.alternate);
        if conversion.alternate && !digits.contains('.') {
            return Err(unsupported("the flag # of a float"));
        }
        digits
    };
    let digits = if kind.is_ascii_uppercase() {
        digits.to_uppercase()
    } else {
        digits
    };
    let sign = sign(conversion, number.is_sign_negative() && !number.is_nan());
    pad(
        context,
        conversion,
        sign,
        &digits,
        magnitude.is_finite() || conversion.zero,
    )
}

fn sign(conversion: &Conversion, negative: bool) -> &'static str {
    match (negative, conversion.plus, conversion.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

/// Fills up to the width: with zeros behind the sign, if that is asked of a number.
fn pad(
    context: &Context<'_, '_, '_>,
    conversion: &Conversion,
    before: &str,
    text: &str,
    is_number: bool,
) -> Result<String, Error> {
    let length = char_count(before) + char_count(text);
    let padding = conversion.width.saturating_sub(length);
    context.build(padding.saturating_add(text.len()))?;
    Ok(if conversion.left {
        format!("{before}{text}{}", " ".repeat(padding))
    } else if conversion.zero && is_number {
        format!("{before}{}{text}", "0".repeat(padding))
    } else {
        format!("{}{before}{text}", " ".repeat(padding))
    })
}
