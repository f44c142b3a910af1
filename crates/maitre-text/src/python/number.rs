//! Numbers as Python reads, prints and rounds them.

/// Python's `repr` of a float: the shortest digits that read back the same; exponents below -4 and
/// from 16 on in scientific notation with a sign and two digits.
pub(crate) fn float_repr(x: f64, infinite: &str, nan: &str) -> String {
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

/// `float(text)`.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let text = without_underscores(text.trim_matches(super::text::is_space))?;
    let body = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let named = ["inf", "infinity", "nan"].contains(&body.to_ascii_lowercase().as_str());
    if named || body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return text.parse().ok();
    }
    None
}

/// `int(text, base)`; `Err` if it is an integer that 127 bits cannot hold.
pub(crate) fn parse_int(text: &str, base: u32) -> Option<Result<i128, ()>> {
    let text = without_underscores(text.trim_matches(super::text::is_space))?;
    let negative = text.starts_with('-');
    let mut body = text
        .strip_prefix(['+', '-'])
        .unwrap_or(&text)
        .to_ascii_lowercase();
    let mut radix = base;
    for (prefix, of_prefix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if body.starts_with(prefix) && (base == of_prefix || base == 0) {
            body = body.split_off(2);
            radix = of_prefix;
        }
    }
    if radix == 0 {
        radix = 10;
        // Leading zeros are ambiguous in a literal.
        if body.len() > 1 && body.starts_with('0') && body.bytes().any(|digit| digit != b'0') {
            return None;
        }
    }
    if body.is_empty() || !body.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    Some(i128::from_str_radix(&format!("{sign}{body}"), radix).map_err(|_| ()))
}

/// Single underscores between digits count for nothing.
fn without_underscores(text: &str) -> Option<String> {
    if !text.contains('_') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let valid = (0..bytes.len()).filter(|&at| bytes[at] == b'_').all(|at| {
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
        at > 0 && digit(at - 1) && digit(at + 1)
    });
    valid.then(|| text.replace('_', ""))
}

/// `round(x, digits)` of a float: half to even, of the exact decimal value.
pub(crate) fn round_float(x: f64, digits: i128) -> f64 {
    if !x.is_finite() || digits > 400 {
        return x;
    }
    if digits < -400 {
        return 0.0 * x;
    }
    if digits >= 0 {
        let digits = usize::try_from(digits).unwrap_or(0);
        return format!("{x:.digits$}").parse().unwrap_or(x);
    }
    let scale = 10f64.powi(i32::try_from(-digits).unwrap_or(i32::MAX));
    let scaled = x / scale;
    (if scaled.is_finite() {
        scaled.round_ties_even()
    } else {
        scaled
    }) * scale
}

/// `round(n, digits)` of an integer: half to even.
pub(crate) fn round_int(n: i128, digits: i128) -> i128 {
    if digits >= 0 {
        return n;
    }
    let Some(scale) = u32::try_from(-digits)
        .ok()
        .and_then(|digits| 10i128.checked_pow(digits))
    else {
        return 0;
    };
    let floor = n.div_euclid(scale);
    let rest = n.rem_euclid(scale);
    let up = rest * 2 > scale || (rest * 2 == scale && floor % 2 != 0);
    (floor + i128::from(up)) * scale
}

/// The digits of a finite, positive float in C's `%e`, `%f` and `%g`.
pub(crate) fn float_digits(x: f64, kind: char, precision: usize, keep_zeros: bool) -> String {
    match kind {
        'f' => format!("{x:.precision$}"),
        'e' => exponential(x, precision),
        _ => {
            let precision = precision.max(1);
            let scientific = exponential(x, precision - 1);
            let exponent: i64 = scientific
                .split_once('e')
                .and_then(|(_, exponent)| exponent.parse().ok())
                .unwrap_or(0);
            let digits = precision as i64 - 1 - exponent;
            if exponent >= -4 && digits >= 0 {
                let digits = usize::try_from(digits).unwrap_or(0);
                return trimmed(&format!("{x:.digits$}"), keep_zeros);
            }
            match scientific.split_once('e') {
                Some((mantissa, exponent)) => {
                    format!("{}e{exponent}", trimmed(mantissa, keep_zeros))
                }
                None => scientific,
            }
        }
    }
}

fn exponential(x: f64, precision: usize) -> String {
    let text = format!("{x:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// Without the zeros at the end of a fraction.
fn trimmed(digits: &str, keep_zeros: bool) -> String {
    if keep_zeros || !digits.contains('.') {
        return digits.to_owned();
    }
    digits
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
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
            assert_eq!(float_repr(x, "Infinity", "NaN"), expected);
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        assert_eq!(
            [0.5, 1.5, 2.5, -0.5, 2.675].map(|x| round_float(x, 0)),
            [0.0, 2.0, 2.0, -0.0, 3.0]
        );
        assert_eq!(round_float(2.675, 2), 2.67);
        assert_eq!(round_float(1250.0, -2), 1200.0);
        assert_eq!([25, 35, -25].map(|n| round_int(n, -1)), [20, 40, -20]);
    }

    #[test]
    fn numbers_are_read_as_in_python() {
        assert_eq!(parse_int(" -1_0 ", 10), Some(Ok(-10)));
        assert_eq!(parse_int("0x1f", 16), Some(Ok(31)));
        assert_eq!(parse_int("0x1f", 10), None);
        assert_eq!(parse_int("1__0", 10), None);
        assert_eq!(parse_float(" .5e1 "), Some(5.0));
        assert_eq!(parse_float("e5"), None);
    }
}
