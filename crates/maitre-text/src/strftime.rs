//! `strftime_now(format)` for chat templates: Python's format codes, English names, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment, taken apart.
struct Moment {
    year: i64,
    /// 1…12.
    month: i64,
    /// 1…31.
    day: i64,
    /// 1…366.
    day_of_year: i64,
    /// 0 is Monday.
    weekday: i64,
    /// Since midnight.
    second: i64,
    /// Since 1970.
    unix_s: i64,
}

impl Moment {
    fn new(time: SystemTime) -> Self {
        let unix_s = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        let days = unix_s.div_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            day_of_year: days - days_from_civil(year) + 1,
            weekday: (days + 3).rem_euclid(7),
            second: unix_s.rem_euclid(86_400),
            unix_s,
        }
    }

    fn hour(&self) -> i64 {
        self.second / 3600
    }

    /// Year and week of ISO 8601: a week belongs to the year that its Thursday is in.
    fn iso_week(&self) -> (i64, i64) {
        let thursday = self.day_of_year - self.weekday + 3;
        let length = |year| days_from_civil(year + 1) - days_from_civil(year);
        if thursday < 1 {
            let year = self.year - 1;
            (year, (thursday + length(year) - 1) / 7 + 1)
        } else if thursday > length(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, (thursday - 1) / 7 + 1)
        }
    }

    fn hour12(&self) -> i64 {
        (self.hour() + 11) % 12 + 1
    }
}

/// (year, month, day) of a day since 1970-01-01 in the proleptic Gregorian calendar: years are counted
/// from March, so that the leap day ends one and months follow a linear rule (H. Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to the first of January of `year`.
fn days_from_civil(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

/// Formats `time`. Codes that Python knows and this does not stay as they are.
pub(crate) fn strftime(format: &str, time: SystemTime) -> String {
    let moment = Moment::new(time);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let spec = chars.as_str();
        let flags = spec.len() - spec.trim_start_matches(['-', '_', '0', '^', '#']).len();
        let (flags, rest) = spec.split_at(flags);
        let width = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (width, rest) = rest.split_at(width);
        let mut codes = rest.chars();
        let expanded = codes.next().and_then(|code| {
            let width = if width.is_empty() {
                0
            } else {
                width.parse().ok()?
            };
            let text = expand(code, &moment)?;
            (width <= MAX_WIDTH).then(|| with_flags(text, code, flags, width))
        });
        match expanded {
            Some(text) => {
                out.push_str(&text);
                chars = codes;
            }
            None => out.push('%'),
        }
    }
    out
}

/// A code with a wider field stays as it is.
const MAX_WIDTH: usize = 30;

/// What glibc's flags and width make of a code's text: `-` no padding, `_` spaces, `0` zeros, `^` upper
/// case, `#` the other case.
fn with_flags(text: String, code: char, flags: &str, width: usize) -> String {
    let is_number = text.trim_start().bytes().all(|byte| byte.is_ascii_digit());
    let mut text = text;
    let mut padding = if is_number && !matches!(code, 'e' | 'k' | 'l') {
        '0'
    } else {
        ' '
    };
    for flag in flags.chars() {
        match flag {
            '-' if is_number => {
                let bare = text.trim_start_matches(['0', ' ']);
                text = if bare.is_empty() { "0" } else { bare }.to_owned();
            }
            '_' | '0' if is_number => {
                padding = if flag == '_' { ' ' } else { '0' };
                let digits = text.trim_start_matches(['0', ' ']);
                let digits = if digits.is_empty() { "0" } else { digits };
                let missing = text.len() - digits.len();
                text = format!("{}{digits}", padding.to_string().repeat(missing));
            }
            '0' => padding = '0',
            '^' => text = text.to_uppercase(),
            '#' if matches!(code, 'p' | 'P') => text = text.to_lowercase(),
            '#' if code.is_ascii_alphabetic() => text = text.to_uppercase(),
            _ => {}
        }
    }
    let missing = width.saturating_sub(text.len());
    format!("{}{text}", padding.to_string().repeat(missing))
}

fn expand(code: char, at: &Moment) -> Option<String> {
    let weekday = WEEKDAYS[at.weekday as usize];
    let month = MONTHS[at.month as usize - 1];
    let (hour, minute, second) = (at.hour(), at.second / 60 % 60, at.second % 60);
    Some(match code {
        'Y' => at.year.to_string(),
        'y' => format!("{:02}", at.year.rem_euclid(100)),
        'm' => format!("{:02}", at.month),
        'B' => month.to_owned(),
        'b' | 'h' => month[..3].to_owned(),
        'd' => format!("{:02}", at.day),
        'e' => format!("{:2}", at.day),
        'j' => format!("{:03}", at.day_of_year),
        'A' => weekday.to_owned(),
        'a' => weekday[..3].to_owned(),
        'u' => (at.weekday + 1).to_string(),
        'w' => ((at.weekday + 1) % 7).to_string(),
        'H' => format!("{hour:02}"),
        'I' => format!("{:02}", at.hour12()),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'f' => "000000".to_owned(),
        'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        'F' => format!("{}-{:02}-{:02}", at.year, at.month, at.day),
        'T' | 'X' => format!("{hour:02}:{minute:02}:{second:02}"),
        'R' => format!("{hour:02}:{minute:02}"),
        'D' | 'x' => format!(
            "{:02}/{:02}/{:02}",
            at.month,
            at.day,
            at.year.rem_euclid(100)
        ),
        'c' => {
            format!(
                "{} {} {:2} {hour:02}:{minute:02}:{second:02} {}",
                &weekday[..3],
                &month[..3],
                at.day,
                at.year
            )
        }
        // transformers' moment knows no zone.
        'Z' | 'z' => String::new(),
        'U' => format!("{:02}", (at.day_of_year + 6 - (at.weekday + 1) % 7) / 7),
        'W' => format!("{:02}", (at.day_of_year + 6 - at.weekday) / 7),
        'G' => at.iso_week().0.to_string(),
        'g' => format!("{:02}", at.iso_week().0.rem_euclid(100)),
        'V' => format!("{:02}", at.iso_week().1),
        'C' => format!("{:02}", at.year.div_euclid(100)),
        'k' => format!("{hour:2}"),
        'l' => format!("{:2}", at.hour12()),
        'P' => if hour < 12 { "am" } else { "pm" }.to_owned(),
        'r' => {
            let half = if hour < 12 { "AM" } else { "PM" };
            format!("{:02}:{minute:02}:{second:02} {half}", at.hour12())
        }
        's' => at.unix_s.to_string(),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        '%' => "%".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Expected values from Python's `datetime.fromtimestamp(s, timezone.utc).strftime(…)`.
    #[test]
    fn dates_equal_pythons() {
        let format = "%A %a %d %B %b %Y %y %j %w %H:%M:%S %I%p %-d %-m %%";
        for (unix_s, expected) in [
            (
                0,
                "Thursday Thu 01 January Jan 1970 70 001 4 00:00:00 12AM 1 1 %",
            ),
            (
                951_782_400,
                "Tuesday Tue 29 February Feb 2000 00 060 2 00:00:00 12AM 29 2 %",
            ),
            (
                1_721_995_199,
                "Friday Fri 26 July Jul 2024 24 208 5 11:59:59 11AM 26 7 %",
            ),
            (
                1_735_689_599,
                "Tuesday Tue 31 December Dec 2024 24 366 2 23:59:59 11PM 31 12 %",
            ),
            (
                4_107_542_400,
                "Monday Mon 01 March Mar 2100 00 060 1 00:00:00 12AM 1 3 %",
            ),
        ] {
            assert_eq!(
                strftime(format, UNIX_EPOCH + Duration::from_secs(unix_s)),
                expected
            );
        }
    }

    #[test]
    fn odd_formats_do_no_harm() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(
            strftime("%F %T %Q %-Q % %", before),
            "1969-12-31 23:59:59 %Q %-Q % %"
        );
        assert_eq!(strftime("%-", UNIX_EPOCH), "%-");
        assert_eq!(strftime("%-H", UNIX_EPOCH), "0");
    }
}
