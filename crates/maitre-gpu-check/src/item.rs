//! What is to be done, in order: one fixed list for supervisor and workers. Each item becomes one row.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::site::Site;
use super::{Half, Options, checks, speeds};

/// One check or one measurement.
pub(super) struct Item {
    /// Names it in the JSON.
    pub(super) id: String,
    /// Names it in the table, in at most 48 characters.
    pub(super) title: String,
    pub(super) half: Half,
    /// A worker that takes longer hangs, and is ended; it begins only if so much time is left.
    pub(super) most_s: f64,
    pub(super) work: Work,
}

pub(super) type Work = Box<dyn Fn(&mut Site) -> Result<Outcome>>;

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Checked(Checked),
    Timed(Timed),
    /// It does not apply, or there was no time.
    NotRun {
        reason: String,
    },
    /// There is no result: an error, a panic, the end of the worker.
    Failed {
        message: String,
    },
}

/// A check that came to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Checked {
    pub(super) passed: bool,
    /// The figure, for the table.
    pub(super) measured: String,
    /// What it may be, for the table.
    pub(super) limit: String,
    pub(super) figures: Figures,
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Timed {
    /// What is measured; part of the names in the JSON.
    pub(super) unit: Unit,
    pub(super) measured: f64,
    /// What bytes and operations allow at the measured rates of the device.
    pub(super) predicted: Option<f64>,
    /// What another engine reached, as `speeds` has it.
    pub(super) reference: Option<f64>,
    /// What it is to reach.
    pub(super) goal: Option<f64>,
    pub(super) figures: Figures,
    /// What one should know beside.
    pub(super) note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    TokensPerS,
    GigabytesPerS,
    TeraflopsPerS,
    Microseconds,
    Seconds,
    Percent,
}

impl Unit {
    pub(super) fn in_table(self) -> &'static str {
        match self {
            Self::TokensPerS => "tok/s",
            Self::GigabytesPerS => "GB/s",
            Self::TeraflopsPerS => "TFLOP/s",
            Self::Microseconds => "us",
            Self::Seconds => "s",
            Self::Percent => "%",
        }
    }

    pub(super) fn in_names(self) -> &'static str {
        match self {
            Self::TokensPerS => "tokens_per_s",
            Self::GigabytesPerS => "gigabytes_per_s",
            Self::TeraflopsPerS => "teraflops_per_s",
            Self::Microseconds => "us",
            Self::Seconds => "s",
            Self::Percent => "percent",
        }
    }

    /// Whether more is better.
    fn is_rate(self) -> bool {
        matches!(
            self,
            Self::TokensPerS | Self::GigabytesPerS | Self::TeraflopsPerS
        )
    }
}

impl Timed {
    pub(super) fn new(unit: Unit, measured: f64) -> Self {
        Self {
            unit,
            measured,
            predicted: None,
            reference: None,
            goal: None,
            figures: BTreeMap::new(),
            note: None,
        }
    }

    /// The share of what is possible that was reached: 1 is the limit.
    pub(super) fn ratio(&self) -> Option<f64> {
        let predicted = self.predicted?;
        let ratio = match self.unit.is_rate() {
            true => self.measured / predicted,
            false => predicted / self.measured,
        };
        ratio.is_finite().then_some(ratio)
    }
}

impl Checked {
    /// A check of one number, which may be at most `limit`.
    pub(super) fn at_most(name: &str, measured: f64, limit: f64) -> Self {
        let limit_name = format!("limit_{name}");
        Self {
            // What is no number is beyond every limit.
            passed: measured <= limit,
            measured: format!("{measured:.1e}"),
            limit: format!("at most {limit:.1e}"),
            figures: figures([(name, measured), (&limit_name, limit)]),
        }
    }

    /// A check of how many of `all` are as they should be, which must be all.
    pub(super) fn all(what: &str, right: usize, all: usize) -> Self {
        let names = [format!("right_{what}"), format!("all_{what}")];
        Self {
            passed: right == all && all > 0,
            measured: format!("{right} of {all} {what}"),
            limit: "all".to_owned(),
            figures: figures([(&names[0], right as f64), (&names[1], all as f64)]),
        }
    }
}

impl From<Checked> for Outcome {
    fn from(checked: Checked) -> Self {
        Self::Checked(checked)
    }
}

impl From<Timed> for Outcome {
    fn from(timed: Timed) -> Self {
        Self::Timed(timed)
    }
}

impl Item {
    pub(super) fn check(
        id: impl Into<String>,
        title: impl Into<String>,
        work: impl Fn(&mut Site) -> Result<Outcome> + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            half: Half::Checks,
            most_s: 40.0,
            work: Box::new(work),
        }
    }

    pub(super) fn speed(
        id: impl Into<String>,
        title: impl Into<String>,
        work: impl Fn(&mut Site) -> Result<Outcome> + 'static,
    ) -> Self {
        Self {
            half: Half::Speeds,
            ..Self::check(id, title, work)
        }
    }

    /// Lets it take longer.
    pub(super) fn within(mut self, seconds: f64) -> Self {
        self.most_s = seconds;
        self
    }
}

/// Numbers by name, with units in the names; null is what was no number.
pub(super) type Figures = BTreeMap<String, Option<f64>>;

/// Numbers by name.
pub(super) fn figures<const N: usize>(pairs: [(&str, f64); N]) -> Figures {
    let named = pairs.into_iter();
    named
        .map(|(name, it)| (name.to_owned(), it.is_finite().then_some(it)))
        .collect()
}

/// Everything that is to be done, what matters most first: operators before the models made of them, and last what
/// takes long and says little that is new. Each takes its site only if there is time for it.
pub(super) fn items(options: &Options) -> Vec<Item> {
    let mut items = Vec::new();
    speeds::rates::list(&mut items);
    checks::operators(&mut items);
    speeds::first_model(options, &mut items);
    checks::models(options, &mut items);
    speeds::other_models(options, &mut items);
    checks::soak(&mut items);
    let is_rate = |id: &str| [speeds::rates::COPY_RATE, speeds::rates::MATMUL_RATE].contains(&id);
    items.retain(|item| {
        (options.wants(item.half) && options.wants_row(&item.id)) || is_rate(&item.id)
    });
    items
}
