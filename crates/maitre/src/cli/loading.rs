//! What a person and a probe see while weights are loaded: a bar on a terminal, and a text.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use maitre::LoadProgress;

/// A load that is over sooner shows no bar: it would only flash.
const SHOWN_AFTER: Duration = Duration::from_millis(300);

/// A load of weights, as it is shown. Clones show the same one.
#[derive(Debug, Clone)]
pub(crate) struct Loading {
    bar: ProgressBar,
    begun: Instant,
}

impl Loading {
    /// A load of `model`, of which nothing is known yet.
    pub(crate) fn new(model: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let template = "loading {msg} [{bar:32}] {bytes}/{total_bytes} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(model.to_owned());
        Self {
            bar,
            begun: Instant::now(),
        }
    }

    /// Shows how far the weights of `model` are loaded. On stderr that is no terminal nothing is drawn.
    pub(crate) fn show(&self, model: &str, progress: LoadProgress) {
        if progress.done_bytes == 0 {
            self.bar.reset();
            self.bar.set_message(model.to_owned());
            self.bar.set_length(progress.total_bytes);
        }
        if self.bar.is_hidden() && self.begun.elapsed() > SHOWN_AFTER {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(progress.done_bytes);
        if progress.done_bytes == progress.total_bytes {
            self.bar.finish_and_clear();
        }
    }

    /// What is being done, such as `loading bundled: 40 %`.
    pub(crate) fn text(&self) -> String {
        let (done, model) = (self.bar.position(), self.bar.message());
        match self.bar.length() {
            None | Some(0) => format!("loading {model}"),
            Some(total) => format!("loading {model}: {} %", done.saturating_mul(100) / total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_reads_the_model_and_how_far_it_is() {
        let loading = Loading::new("ORG/NAME");
        assert_eq!(loading.text(), "loading ORG/NAME");
        for (model, done_bytes, text) in [
            ("target", 0, "loading target: 0 %"),
            ("target", 199, "loading target: 99 %"),
            ("target", 200, "loading target: 100 %"),
            ("draft", 0, "loading draft: 0 %"),
            ("draft", 50, "loading draft: 25 %"),
        ] {
            let progress = LoadProgress {
                done_bytes,
                total_bytes: 200,
            };
            loading.show(model, progress);
            assert_eq!(loading.text(), text);
        }
    }
}
