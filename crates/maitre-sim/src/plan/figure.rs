//! Numbers with the formulas that they follow from.

use std::fmt;

use serde::Serialize;

/// A number, and the formula with the numbers put in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// How it follows from other numbers.
    pub formula: String,
}

impl Figure {
    pub(super) fn new(
        name: &'static str,
        value: f64,
        unit: &'static str,
        formula: impl Into<String>,
    ) -> Self {
        Self {
            name,
            value,
            unit,
            formula: formula.into(),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.unit {
            "bytes" => bytes(self.value),
            "boxes" => number(self.value),
            unit => format!("{} {unit}", number(self.value)),
        };
        write!(f, "{:<20}{value:<34}= {}", self.name, self.formula)
    }
}

/// A number in a few digits: whole ones from 100 on, with a comma for each thousand.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, format!(".{rest}")),
        None => (&text[..], String::new()),
    };
    let length = whole.trim_start_matches('-').len();
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let behind = whole.len() - index;
        if digit != '-' && behind % 3 == 0 && behind != length {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

/// Bytes in the largest decimal unit of which there is one.
pub(super) fn bytes(value: f64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = units.into_iter().find(|(_, size)| value.abs() >= *size);
    match unit {
        Some((unit, size)) => format!("{:.2} {unit}", value / size),
        None => format!("{} bytes", number(value)),
    }
}

/// Seconds in milliseconds.
pub(super) fn millis(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        for (value, expected) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.1234, "0.1234"),
            (1.236, "1.24"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.0, "1,234"),
            (1_234_567.8, "1,234,568"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), expected);
        }
        assert_eq!(bytes(16.381e9), "16.38 GB");
        assert_eq!(bytes(2048.0), "2.05 kB");
        assert_eq!(bytes(512.0), "512 bytes");
        assert_eq!(millis(0.01234), "12.34 ms");
    }
}
