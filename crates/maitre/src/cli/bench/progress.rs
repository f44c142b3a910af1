//! What a person sees while it is measured: a bar on a terminal, and a line for each run in the log.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use maitre::bench::Progress;

/// Requests may end thousands of times a second.
const REDRAW: Duration = Duration::from_millis(100);

pub(super) struct Bar {
    bar: ProgressBar,
    drawn: Cell<Instant>,
}

impl Bar {
    /// On stderr that is no terminal nothing is drawn.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let template = "{msg}{pos}/{len} requests [{bar:32}] {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            drawn: Cell::new(Instant::now()),
        }
    }

    pub(super) fn show(&self, progress: &Progress<'_>) {
        match progress {
            Progress::Ended { done, of } => {
                if self.drawn.get().elapsed() >= REDRAW {
                    self.drawn.set(Instant::now());
                    if self.bar.is_finished() {
                        self.bar.reset();
                    }
                    self.bar.set_length(of.unwrap_or(*done) as u64);
                    self.bar.set_position(*done as u64);
                }
            }
            Progress::Finished(run) => {
                self.bar.finish_and_clear();
                tracing::info!(
                    "{}: {:.1} output tokens/s",
                    run.load,
                    run.output_tokens_per_second
                );
            }
        }
    }
}
