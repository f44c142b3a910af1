//! Values as Python prints them: `json.dumps` for the `tojson` filter, `str` and `repr` for what a
//! template writes out. Chat templates are written for Jinja on Python, and a model was trained on
//! exactly those characters.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Value};

/// Deeper values are refused rather than followed until the stack ends.
const MAX_DEPTH: usize = 200;

/// `json.dumps`' arguments, as far as templates use them.
#[derive(Debug, Default)]
struct DumpOptions {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The `tojson` filter as transformers defines it: `json.dumps(x, ensure_ascii=False, indent=None,
/// separators=None, sort_keys=False)`, without the HTML escaping of Jinja's own.
///
/// One deviation: Unicode noncharacters stay as they are under `ensure_ascii`, because masked control
/// tokens travel through templates as noncharacters.
pub(crate) fn to_json(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let options = dump_options(&args)?;
    let mut out = String::new();
    dump(value, &options, 0, &mut out)?;
    Ok(Value::from(out))
}

/// The `string` filter: Python's `str`.
pub(crate) fn to_string(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_str(value, &mut out)?;
    Ok(out)
}

/// Appends `str(value)`.
pub(crate) fn write_str(value: &Value, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Number => write_repr(value, 0, out),
        _ => Ok(write!(out, "{value}")?),
    }
}

fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    check_depth(depth)?;
    match value.kind() {
        ValueKind::Number if !value.is_integer() => out.push_str(&float(value, "inf", "nan")),
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&item, depth + 1, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}")?,
    }
    Ok(())
}

/// A string as Python's `repr` quotes it.
fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn dump_options(args: &[Value]) -> Result<DumpOptions, Error> {
    let (positional, kwargs): (&[Value], Kwargs) = from_args(args)?;
    let get = |index: usize, name: &str| -> Result<Value, Error> {
        let value = positional
            .get(index)
            .cloned()
            .map_or_else(|| kwargs.get::<Option<Value>>(name), |v| Ok(Some(v)))?;
        Ok(value.unwrap_or_default())
    };
    let indent = match get(1, "indent")? {
        none if none.is_none() || none.is_undefined() => None,
        text if text.as_str().is_some() => text.as_str().map(str::to_owned),
        width => Some(" ".repeat(usize::try_from(width).unwrap_or(0).min(64))),
    };
    let separators = get(2, "separators")?;
    let (item_separator, key_separator) = if separators.is_none() || separators.is_undefined() {
        (
            if indent.is_some() { "," } else { ", " }.to_owned(),
            ": ".to_owned(),
        )
    } else {
        (
            separators.get_item_by_index(0)?.to_string(),
            separators.get_item_by_index(1)?.to_string(),
        )
    };
    let options = DumpOptions {
        ensure_ascii: get(0, "ensure_ascii")?.is_true(),
        indent,
        item_separator,
        key_separator,
        sort_keys: get(3, "sort_keys")?.is_true(),
    };
    kwargs.assert_all_used()?;
    Ok(options)
}

fn dump(value: &Value, options: &DumpOptions, depth: usize, out: &mut String) -> Result<(), Error> {
    check_depth(depth)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => write!(out, "{value}")?,
        ValueKind::Number => out.push_str(&float(value, "Infinity", "NaN")),
        ValueKind::String => write_json_string(value.as_str().unwrap_or_default(), options, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            brackets(['[', ']'], items, options, depth, out, |item, out| {
                dump(&item, options, depth + 1, out)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if options.sort_keys {
                keys.sort();
            }
            brackets(['{', '}'], keys, options, depth, out, |key, out| {
                write_json_string(&json_key(&key)?, options, out);
                out.push_str(&options.key_separator);
                dump(&value.get_item(&key)?, options, depth + 1, out)
            })?;
        }
        kind => {
            return Err(Error::new(
                ErrorKind::BadSerialization,
                format!("tojson: {kind} is not JSON serializable"),
            ));
        }
    }
    Ok(())
}

/// Writes a list or an object: separators, and line breaks if there is an indent.
fn brackets(
    [open, close]: [char; 2],
    items: Vec<Value>,
    options: &DumpOptions,
    depth: usize,
    out: &mut String,
    mut write_item: impl FnMut(Value, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |depth: usize, out: &mut String| {
        if let Some(indent) = &options.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    };
    out.push(open);
    let empty = items.is_empty();
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(&options.item_separator);
        }
        new_line(depth + 1, out);
        write_item(item, out)?;
    }
    if !empty {
        new_line(depth, out);
    }
    out.push(close);
    Ok(())
}

/// Python turns keys that are no strings into strings.
fn json_key(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number if !key.is_integer() => float(key, "Infinity", "NaN"),
        ValueKind::String | ValueKind::Number => key.to_string(),
        kind => {
            let message =
                format!("tojson: keys must be strings, numbers, booleans or none, not {kind}");
            return Err(Error::new(ErrorKind::BadSerialization, message));
        }
    })
}

fn write_json_string(text: &str, options: &DumpOptions, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if options.ensure_ascii
                && !(' '..='~').contains(&c)
                && !crate::mask::is_noncharacter(c) =>
            {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Python's `repr` of a float: the shortest digits that read back the same; exponents below -4 and
/// from 16 on in scientific notation with a sign and two digits.
fn float(value: &Value, infinite: &str, nan: &str) -> String {
    let x = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    if x.is_nan() {
        return nan.to_owned();
    }
    let sign = if x.is_sign_negative() { "-" } else { "" };
    if x.is_infinite() {
        return format!("{sign}{infinite}");
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent if x != 0.0 && !(-4..16).contains(&exponent) => {
            let exponent_sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{exponent_sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{x:?}"),
    }
}

fn check_depth(depth: usize) -> Result<(), Error> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("a value is nested more than {MAX_DEPTH} deep"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        for (x, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.789, "123456.789"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(&Value::from(x), "Infinity", "NaN"), expected);
        }
    }

    #[test]
    fn a_value_nested_too_deep_is_an_error_not_a_stack_overflow() {
        let mut value = Value::from(1);
        for _ in 0..1_000 {
            value = Value::from(vec![value]);
        }
        assert!(
            to_json(&value, Rest(Vec::new()))
                .unwrap_err()
                .to_string()
                .contains("200 deep")
        );
        assert!(to_string(&value).is_err());
    }
}
