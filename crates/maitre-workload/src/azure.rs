//! The CSV files of the Azure Public Dataset: `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! A time is written `2023-11-16 18:15:46.6805900`, in later files with `+00:00` behind it.

use crate::TraceError;
use crate::trace::{Row, tokens};

/// Where the columns are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    time: usize,
    prompt: usize,
    output: usize,
}

impl Columns {
    /// The columns of a file with this first line.
    pub(crate) fn named_by(header: &str) -> Result<Self, TraceError> {
        let header = header.trim_start_matches('\u{feff}');
        let find = |column: &'static str| {
            let mut names = header.split(',');
            let place = names.position(|name| name.trim().eq_ignore_ascii_case(column));
            place.ok_or_else(|| TraceError::Header {
                found: header.chars().take(80).collect(),
                column,
            })
        };
        Ok(Self {
            time: find("TIMESTAMP")?,
            prompt: find("ContextTokens")?,
            output: find("GeneratedTokens")?,
        })
    }

    /// What a line says.
    pub(crate) fn row(&self, line: &str) -> Result<Row, String> {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |place: usize, name: &str| {
            let found = fields.len();
            let field = fields.get(place).copied();
            field.ok_or_else(|| format!("{name} is missing; found {found} columns"))
        };
        let time = field(self.time, "TIMESTAMP")?;
        Ok(Row {
            at_ns: nanoseconds(time).ok_or_else(|| {
                format!(
                    "TIMESTAMP is `{time}`; expected a time such as 2023-11-16 18:15:46.6805900"
                )
            })?,
            prompt_tokens: tokens("ContextTokens", field(self.prompt, "ContextTokens")?)?,
            output_tokens: tokens("GeneratedTokens", field(self.output, "GeneratedTokens")?)?,
            prefix: None,
        })
    }
}

/// Nanoseconds since the year 1970 of a time in UTC.
fn nanoseconds(text: &str) -> Option<i128> {
    let text = text.trim().trim_end_matches("+00:00").trim_end_matches('Z');
    let (date, time) = text.split_once([' ', 'T'])?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos(fraction)?))
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.split(separator).map(|part| match digits(part) {
        true => part.parse().ok(),
        false => None,
    });
    let parts: Vec<i64> = parts.collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// The digits behind the point, of which nine are taken.
fn nanos(fraction: &str) -> Option<i64> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        let second = 1_000_000_000;
        assert_eq!(nanoseconds("1970-01-01 00:00:00"), Some(0));
        assert_eq!(
            nanoseconds("1970-01-02 00:00:01.5"),
            Some(86_401 * second + second / 2)
        );
        // `date -u -d 2024-02-29T12:00:00 +%s`
        let leap = 1_709_208_000 * second;
        assert_eq!(
            nanoseconds("2024-02-29T12:00:00.000000001Z"),
            Some(leap + 1)
        );
        assert_eq!(
            nanoseconds("2024-02-29 12:00:00.0000000019+00:00"),
            Some(leap + 1)
        );
        for bad in [
            "",
            "2024-02-29",
            "2024-13-01 00:00:00",
            "2024-01-01 24:00:00",
            "2024-01-01 00:00:00.x",
            "a b",
        ] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }
}
