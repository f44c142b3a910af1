//! `maitre bench --find-capacity`: how much load a target bears, and what bends first.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use maitre::bench::{Dimension, MonotonicClock, Settings, Stop, Target, find_capacity};

use super::progress::Bar;
use super::until_interrupt;
use crate::cli::signals::Signals;

#[derive(Debug, Args)]
pub(super) struct CapacityArgs {
    /// Search the largest load under which enough answers keep to --slo, say which resource bends first, and what would move
    /// it: in users who wait for their answers, or in requests a second that do not.
    #[arg(long, value_name = "OF", num_args = 0..=1, default_missing_value = "users", requires = "slo",
        conflicts_with_all = ["concurrency", "rate", "arrivals", "speed"])]
    find_capacity: Option<DimensionArg>,
    /// Share of answers that have to keep to --slo.
    #[arg(
        long,
        default_value_t = 0.95,
        value_name = "SHARE",
        requires = "find_capacity"
    )]
    slo_share: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DimensionArg {
    Users,
    Rate,
}

impl CapacityArgs {
    pub(super) fn dimension(&self) -> Option<Dimension> {
        self.find_capacity.map(|dimension| match dimension {
            DimensionArg::Users => Dimension::Users,
            DimensionArg::Rate => Dimension::Rate,
        })
    }

    pub(super) async fn find(
        &self,
        target: &dyn Target,
        settings: &Settings,
        dimension: Dimension,
        signals: &Signals,
        json: bool,
        directory: Option<&Path>,
    ) -> Result<()> {
        let (clock, stop, bar) = (MonotonicClock::default(), Stop::default(), Bar::new());
        let wanted = (dimension, self.slo_share);
        let searching = find_capacity(target, &clock, settings, wanted, &stop, |progress| {
            bar.show(&progress);
        });
        let found = until_interrupt(signals, &stop, searching).await?;
        let mut out = std::io::stdout().lock();
        match json {
            true => writeln!(out, "{}", found.to_json())?,
            false => write!(out, "{found}")?,
        }
        super::warn(&found.warnings);
        if let Some(directory) = directory {
            let file = directory.join("capacity.json");
            let written = fs::create_dir_all(directory)
                .and_then(|()| fs::write(&file, found.to_json() + "\n"));
            written.with_context(|| format!("cannot write {}", file.display()))?;
        }
        ensure!(
            !found.interrupted,
            "interrupted; the report tells what was known until then"
        );
        ensure!(
            found.interval.0.is_some() || found.tried.iter().any(|it| it.is_enough != Some(false)),
            "the SLO is not met even by the least load"
        );
        Ok(())
    }
}
