//! The engine while kernels fail: only the step that a failure strikes, and only the request that is alone in one.
//!
//! Kernels can be made to fail in builds with the feature `fault-injection` alone; in others the row says so.

#[cfg(feature = "fault-injection")]
mod injected;

use anyhow::Result;

use crate::item::{Item, Outcome};
use crate::site::Site;

pub(super) fn list(items: &mut Vec<Item>) {
    items.push(Item::check(
        "injected_failure",
        "failing kernels fail nothing but their steps",
        failing,
    ));
}

/// Whether failing kernels fail nothing but their steps.
fn failing(site: &mut Site) -> Result<Outcome> {
    if !site.is_on_gpu() {
        return Ok(not_run("the processor launches nothing that could fail"));
    }
    #[cfg(feature = "fault-injection")]
    return injected::failing(site);
    #[cfg(not(feature = "fault-injection"))]
    Ok(not_run(
        "not in this build; build with --features fault-injection",
    ))
}

fn not_run(reason: &str) -> Outcome {
    Outcome::NotRun {
        reason: reason.to_owned(),
    }
}
