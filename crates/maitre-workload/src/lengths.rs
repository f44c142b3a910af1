//! How long prompts and answers are.

use std::ops::RangeInclusive;

use crate::{Random, SettingError, Trace};

/// A number of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Length {
    /// Always so many.
    Fixed(u32),
    /// Any number of these, all of them as likely.
    Uniform(RangeInclusive<u32>),
}

impl Length {
    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        match self {
            Self::Fixed(tokens) => *tokens,
            Self::Uniform(range) => {
                let width = u64::from(range.end().saturating_sub(*range.start())) + 1;
                range.start() + random.below(width) as u32
            }
        }
    }

    /// The longest there is.
    #[must_use]
    pub fn most(&self) -> u32 {
        match self {
            Self::Fixed(tokens) => *tokens,
            Self::Uniform(range) => *range.end(),
        }
    }

    fn check(&self, setting: &'static str) -> Result<(), SettingError> {
        let (least, most) = match self {
            Self::Fixed(tokens) => (*tokens, *tokens),
            Self::Uniform(range) => (*range.start(), *range.end()),
        };
        match least >= 1 && most >= least {
            true => Ok(()),
            false => Err(SettingError::new(
                setting,
                self,
                "at least 1, or a range such as 100..200",
            )),
        }
    }
}

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(tokens) => write!(f, "{tokens}"),
            Self::Uniform(range) => write!(f, "{}..{}", range.start(), range.end()),
        }
    }
}

/// A number where it is fixed, as it is read where it is not.
impl serde::Serialize for Length {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(tokens) => serializer.serialize_u32(*tokens),
            Self::Uniform(_) => serializer.collect_str(self),
        }
    }
}

impl std::str::FromStr for Length {
    type Err = SettingError;

    /// Reads `N` or `LEAST..MOST`, both included.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let bad = || {
            SettingError::new(
                "a length",
                text,
                "a number of tokens, or a range such as 100..200",
            )
        };
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| bad());
        let length = match text.split_once("..") {
            None => Self::Fixed(number(text)?),
            Some((least, most)) => Self::Uniform(number(least)?..=number(most)?),
        };
        length.check("a length").map(|()| length)
    }
}

/// How long the prompts and the answers of a workload are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lengths {
    /// Drawn independently of each other.
    Independent {
        /// Tokens of a prompt.
        prompt: Length,
        /// Tokens of an answer.
        output: Length,
    },
    /// Those of a trace, one row after the other, and from the beginning again after the last: prompt and answer.
    InTurn(Vec<(u32, u32)>),
    /// Those of a trace, a row drawn for each request.
    Sampled(Vec<(u32, u32)>),
}

impl Lengths {
    /// The lengths of a trace's rows.
    #[must_use]
    pub fn pairs_of(trace: &Trace) -> Vec<(u32, u32)> {
        let rows = trace.requests.iter();
        rows.map(|row| (row.prompt_tokens, row.output_tokens))
            .collect()
    }

    /// Checks that all lengths are at least 1.
    ///
    /// # Errors
    ///
    /// [`SettingError`].
    pub fn validate(&self) -> Result<(), SettingError> {
        match self {
            Self::Independent { prompt, output } => {
                prompt.check("the length of prompts")?;
                output.check("the length of answers")
            }
            Self::InTurn(pairs) | Self::Sampled(pairs) => {
                let usable = pairs
                    .iter()
                    .all(|&(prompt, output)| prompt >= 1 && output >= 1);
                match usable && !pairs.is_empty() {
                    true => Ok(()),
                    false => Err(SettingError::new(
                        "the lengths of the trace",
                        format!("{} rows", pairs.len()),
                        "at least one row, with at least 1 token of prompt and of answer in each",
                    )),
                }
            }
        }
    }

    /// Prompt and answer of request `number`. They depend on nothing but the seed and the number, so that runs which
    /// differ in something else see the same requests.
    pub(crate) fn of(&self, seed: u64, number: u64) -> (u32, u32) {
        let mut random = Random::new(seed ^ 0x6c65_6e67_7468_7321, number);
        let row =
            |pairs: &[(u32, u32)], index: u64| pairs.get(index as usize).copied().unwrap_or((1, 1));
        match self {
            Self::Independent { prompt, output } => {
                let prompt = prompt.draw(&mut random);
                (prompt, output.draw(&mut random))
            }
            Self::InTurn(pairs) => row(pairs, number % pairs.len().max(1) as u64),
            Self::Sampled(pairs) => row(pairs, random.below(pairs.len() as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_refused() {
        let read = |text: &str| text.parse::<Length>().map_err(|error| error.to_string());
        assert_eq!(read("12"), Ok(Length::Fixed(12)));
        assert_eq!(read("3..5"), Ok(Length::Uniform(3..=5)));
        for bad in ["", "0", "5..3", "0..2", "x", "1..", "-4"] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(&format!("a length is {bad}")), "{said}");
        }
    }

    #[test]
    fn a_uniform_length_reaches_both_ends() {
        let lengths = Lengths::Independent {
            prompt: Length::Uniform(3..=5),
            output: Length::Fixed(2),
        };
        let drawn: Vec<_> = (0..100).map(|number| lengths.of(1, number)).collect();
        assert!(
            drawn
                .iter()
                .all(|&(prompt, output)| (3..=5).contains(&prompt) && output == 2)
        );
        assert!((3..=5).all(|wanted| drawn.iter().any(|&(prompt, _)| prompt == wanted)));
    }

    #[test]
    fn rows_come_in_turn_or_are_drawn() {
        let pairs = vec![(1, 10), (2, 20), (3, 30)];
        let in_turn = Lengths::InTurn(pairs.clone());
        let rows: Vec<_> = (0..4).map(|number| in_turn.of(1, number)).collect();
        assert_eq!(rows, [(1, 10), (2, 20), (3, 30), (1, 10)]);
        let sampled = Lengths::Sampled(pairs.clone());
        assert!((0..100).all(|number| pairs.contains(&sampled.of(1, number))));
        assert!(Lengths::InTurn(Vec::new()).validate().is_err());
        assert!(Lengths::Sampled(vec![(1, 0)]).validate().is_err());
    }
}
