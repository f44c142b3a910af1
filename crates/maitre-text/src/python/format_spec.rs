//! The format specification mini-language: `format(value, ">8.2f")`.

use minijinja::{Error, Value};

use super::budget::Context;
use super::number::{float_digits, float_repr};
use super::repr::to_str;
use super::text::{byte_of, char_count};
use super::values::{View, type_name, view};
use super::{fail, unsupported};

/// Precisions and widths beyond this are refused: no number has more digits.
pub(super) const MAX_PRECISION: usize = 1_000;

#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

fn parse(spec: &str) -> Result<Spec, Error> {
    let mut parsed = Spec::default();
    let mut rest = spec.chars().peekable();
    let mut ahead = spec.chars();
    let (first, second) = (ahead.next(), ahead.next());
    let is_align = |c: char| matches!(c, '<' | '>' | '=' | '^');
    if second.is_some_and(is_align) {
        parsed.fill = first;
        parsed.align = second;
        rest.next();
        rest.next();
    } else if first.is_some_and(is_align) {
        parsed.align = first;
        rest.next();
    }
    parsed.sign = rest.next_if(|c| matches!(c, '+' | '-' | ' '));
    if rest.next_if_eq(&'z').is_some() {
        return Err(unsupported("the format option z"));
    }
    parsed.alternate = rest.next_if_eq(&'#').is_some();
    parsed.zero = rest.next_if_eq(&'0').is_some();
    let number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        match digits.as_str() {
            "" => Ok(None),
            digits => digits
                .parse::<usize>()
                .map(Some)
                .map_err(|_| fail("too many decimal digits in a format string")),
        }
    };
    parsed.width = number(&mut rest)?.unwrap_or(0);
    parsed.grouping = rest.next_if(|c| matches!(c, ',' | '_'));
    if rest.next_if_eq(&'.').is_some() {
        let precision = number(&mut rest)?;
        parsed.precision =
            Some(precision.ok_or_else(|| fail("format specifier missing precision"))?);
    }
    parsed.kind = rest.next();
    if rest.next().is_some() {
        return Err(fail(format!("invalid format specifier '{spec}'")));
    }
    Ok(parsed)
}

/// `format(value, spec)`.
pub(super) fn format_value(
    context: &Context<'_, '_, '_>,
    value: &Value,
    spec: &str,
) -> Result<String, Error> {
    if spec.is_empty() {
        return to_str(context, value);
    }
    let parsed = parse(spec)?;
    let wrong = || {
        fail(format!(
            "the format specifier '{spec}' does not fit an object of type '{}'",
            type_name(value)
        ))
    };
    match view(value) {
        View::Str(text) => {
            let no_number_options =
                parsed.sign.is_none() && !parsed.alternate && parsed.grouping.is_none();
            let fits = matches!(parsed.kind, None | Some('s'))
                && no_number_options
                && parsed.align != Some('=');
            if !fits {
                return Err(wrong());
            }
            let end = parsed
                .precision
                .map_or(text.len(), |precision| byte_of(text, precision));
            // "0" fills with zeros, but aligns strings to the left all the same.
            pad(context, &parsed, "", &text[..end], '<')
        }
        View::Bool(_) if parsed.kind.is_none() => {
            let number = i128::from(value.is_true());
            integer(context, &parsed, number).ok_or_else(wrong)?
        }
        View::Int(number) => match parsed.kind {
            Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => {
                float(context, &parsed, number as f64).ok_or_else(wrong)?
            }
            _ => integer(context, &parsed, number).ok_or_else(wrong)?,
        },
        View::Bool(flag) => match parsed.kind {
            Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => {
                float(context, &parsed, f64::from(u8::from(flag))).ok_or_else(wrong)?
            }
            _ => integer(context, &parsed, i128::from(flag)).ok_or_else(wrong)?,
        },
        View::Float(number) => float(context, &parsed, number).ok_or_else(wrong)?,
        _ => Err(wrong()),
    }
}

/// `None` if the specification is not one for integers.
fn integer(
    context: &Context<'_, '_, '_>,
    spec: &Spec,
    number: i128,
) -> Option<Result<String, Error>> {
    if spec.precision.is_some() {
        return None;
    }
    let magnitude = number.unsigned_abs();
    let (prefix, digits) = match spec.kind {
        None | Some('d' | 'n') => ("", magnitude.to_string()),
        Some('b') => ("0b", format!("{magnitude:b}")),
        Some('o') => ("0o", format!("{magnitude:o}")),
        Some('x') => ("0x", format!("{magnitude:x}")),
        Some('X') => ("0X", format!("{magnitude:X}")),
        Some('c') => {
            let c = u32::try_from(number).ok().and_then(char::from_u32)?;
            return Some(pad(context, spec, "", &c.to_string(), '<'));
        }
        _ => return None,
    };
    let decimal = matches!(spec.kind, None | Some('d'));
    let size = match (spec.grouping, decimal) {
        (Some(','), false) => return None,
        (_, true) => 3,
        _ => 4,
    };
    let prefix = if spec.alternate { prefix } else { "" };
    let sign = sign(spec, number < 0);
    Some(number_text(
        context,
        spec,
        &format!("{sign}{prefix}"),
        &digits,
        "",
        size,
    ))
}

/// `None` if the specification is not one for floats.
fn float(context: &Context<'_, '_, '_>, spec: &Spec, number: f64) -> Option<Result<String, Error>> {
    let kind = match spec.kind {
        None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%') => spec.kind,
        _ => return None,
    };
    let precision = spec.precision.unwrap_or(6);
    if precision > MAX_PRECISION {
        return Some(Err(unsupported(format!("a precision of {precision}"))));
    }
    let percent = if kind == Some('%') { "%" } else { "" };
    let magnitude = if kind == Some('%') {
        number * 100.0
    } else {
        number
    }
    .abs();
    let digits = if !magnitude.is_finite() {
        if magnitude.is_nan() { "nan" } else { "inf" }.to_owned()
    } else {
        match kind {
            None if spec.precision.is_none() => float_repr(magnitude, "inf", "nan"),
            None => {
                let digits = float_digits(magnitude, 'g', precision, false);
                // At least one digit stands behind the point.
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                let too_long = plain && digits.len() >= precision.max(1);
                if too_long {
                    float_digits(magnitude, 'e', precision.max(1) - 1, false)
                } else if plain {
                    format!("{digits}.0")
                } else {
                    digits
                }
            }
            Some('e' | 'E') => float_digits(magnitude, 'e', precision, false),
            Some('f' | 'F' | '%') => float_digits(magnitude, 'f', precision, false),
            Some(_) => float_digits(magnitude, 'g', precision, spec.alternate),
        }
    };
    if spec.alternate && !digits.contains('.') {
        return Some(Err(unsupported("the format option # of a float")));
    }
    let upper = matches!(kind, Some('E' | 'F' | 'G'));
    let digits = if upper { digits.to_uppercase() } else { digits };
    let whole = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(whole);
    let sign = sign(spec, number.is_sign_negative() && !number.is_nan());
    let rest = format!("{rest}{percent}");
    Some(number_text(context, spec, sign, whole, &rest, 3))
}

fn sign(spec: &Spec, negative: bool) -> &'static str {
    match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    }
}

/// Digits with their groups and their padding; zeros are grouped too.
fn number_text(
    context: &Context<'_, '_, '_>,
    spec: &Spec,
    before: &str,
    digits: &str,
    after: &str,
    group: usize,
) -> Result<String, Error> {
    context.build(spec.width)?;
    let zero_padded = spec.zero && spec.align.is_none()
        || spec.align == Some('=') && (spec.fill == Some('0') || spec.zero && spec.fill.is_none());
    let mut digits = digits.to_owned();
    let is_number = digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !digits.is_empty();
    let space = spec.width.saturating_sub(before.len() + after.len());
    if zero_padded && is_number {
        match spec.grouping {
            None => {
                let zeros = space.saturating_sub(digits.len());
                digits.insert_str(0, &"0".repeat(zeros));
            }
            Some(_) => {
                // So many digits that they and their separators fill the width.
                let mut wanted = (space * group / (group + 1)).max(digits.len());
                while wanted + (wanted - 1) / group < space {
                    wanted += 1;
                }
                digits.insert_str(0, &"0".repeat(wanted - digits.len()));
            }
        }
    }
    if let Some(separator) = spec.grouping {
        let count = digits.len();
        let mut grouped = String::with_capacity(count * 2);
        for (at, c) in digits.chars().enumerate() {
            if at > 0 && (count - at).is_multiple_of(group) {
                grouped.push(separator);
            }
            grouped.push(c);
        }
        digits = grouped;
    }
    pad(context, spec, before, &format!("{digits}{after}"), '>')
}

/// Fills up to the width; `before` stays in front of the padding of `=`.
fn pad(
    context: &Context<'_, '_, '_>,
    spec: &Spec,
    before: &str,
    text: &str,
    default: char,
) -> Result<String, Error> {
    let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
    let align = match spec.align {
        Some(align) => align,
        None if spec.zero && default == '>' => '=',
        None => default,
    };
    let padding = spec
        .width
        .saturating_sub(char_count(before) + char_count(text));
    context.build(padding.saturating_mul(4).saturating_add(text.len()))?;
    let fills = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(match align {
        '<' => format!("{before}{text}{}", fills(padding)),
        '^' => {
            let left = padding / 2;
            format!("{}{before}{text}{}", fills(left), fills(padding - left))
        }
        '=' => format!("{before}{}{text}", fills(padding)),
        _ => format!("{}{before}{text}", fills(padding)),
    })
}
