//! How sure a share of good requests is: by how much requests depend on each other within a run, and by how much runs differ.

/// Two loads are each told wrongly in one case out of forty at most. A run more is looked at only where the last one did
/// not decide, so the limit stands further out than the 1.96 of a single look.
const Z: f64 = 2.3;

/// Runs at loads that had been run before, at least, until it is known by how much runs differ: two loads, each run three times.
const DEGREES: usize = 4;

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) good: f64,
    pub(crate) requests: f64,
    /// How many times as much the share varies as it would if requests did not depend on each other.
    pub(crate) design_effect: f64,
}

/// What is known of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Enough requests are good.
    Meets,
    /// Too few are.
    Misses,
    /// It is too near to tell, or has not been tested often enough.
    Unsure,
}

/// By how much runs of a search differ: a machine is faster in one and slower in the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scatter {
    /// How many times as much their shares vary as those of independent requests would; 1 at least.
    pub(crate) factor: f64,
    /// Runs beyond the first ones by which that was seen.
    pub(crate) degrees: usize,
}

impl Scatter {
    /// Of runs at the same loads (Pearson's statistic over its degrees of freedom). Runs that are all good, or all bad, say that they do not
    /// differ, but not by how much those would that are neither.
    pub(crate) fn between<'a>(loads: impl Iterator<Item = &'a [Evidence]>) -> Self {
        let (mut statistic, mut telling, mut degrees) = (0.0, 0, 0);
        for runs in loads.filter(|runs| runs.len() > 1) {
            let more = runs.len() - 1;
            let (good, requests) = sums(runs);
            if good > 0.0 && good < requests {
                statistic += pearson(runs, good / requests);
                telling += more;
            }
            degrees += more;
        }
        let factor = if telling > 0 {
            statistic / telling as f64
        } else {
            1.0
        };
        Self {
            factor: factor.max(1.0),
            degrees,
        }
    }

    /// Whether enough runs were made to see it.
    pub(crate) fn is_known(self) -> bool {
        self.degrees >= DEGREES
    }

    /// What runs at a load say of it.
    pub(crate) fn verdict(self, runs: &[Evidence], wanted: f64) -> Verdict {
        let (low, high) = self.share_interval(runs);
        match () {
            () if low >= wanted => Verdict::Meets,
            () if high < wanted => Verdict::Misses,
            () => Verdict::Unsure,
        }
    }

    /// The interval of a share (Wilson 1927, "Probable inference, the law of succession, and statistical inference"), for as many
    /// independent requests as these are worth.
    fn share_interval(self, runs: &[Evidence]) -> (f64, f64) {
        let (good, requests) = sums(runs);
        if requests <= 0.0 {
            return (0.0, 1.0);
        }
        let within = runs.iter().map(|run| run.design_effect * run.requests);
        let within = within.sum::<f64>() / requests;
        let effect = within.max(effect_between(runs)).max(self.factor);
        let (share, n) = (good / requests, requests / effect);
        let z2 = Z * Z;
        let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
        (middle - half, middle + half)
    }
}

/// Good requests, and all.
fn sums(runs: &[Evidence]) -> (f64, f64) {
    let good = runs.iter().map(|run| run.good).sum();
    (good, runs.iter().map(|run| run.requests).sum())
}

/// Of runs, all of which ought to have this share.
fn pearson(runs: &[Evidence], share: f64) -> f64 {
    let of = runs.iter().filter(|run| run.requests > 0.0);
    of.map(|run| deviation(run.good / run.requests, share, run.requests))
        .sum()
}

/// The square of how far a run's share is from the one that is foreseen, in units of its variance.
pub(super) fn deviation(share: f64, foreseen: f64, requests: f64) -> f64 {
    // Where nearly all requests are good, or bad, one odd request would count as much as a run elsewhere.
    let variance = (foreseen * (1.0 - foreseen)).max(0.5 / requests);
    requests * (share - foreseen) * (share - foreseen) / variance
}

/// How many times as much the shares of runs vary as those of independent requests would.
fn effect_between(runs: &[Evidence]) -> f64 {
    let runs = runs.iter().filter(|run| run.requests > 0.0);
    let shares: Vec<(f64, f64)> = runs
        .map(|run| (run.good / run.requests, run.requests))
        .collect();
    design_effect(&shares)
}

/// The variance of shares over that of independent requests, from parts with their numbers of requests; 1 at least.
pub(super) fn design_effect(parts: &[(f64, f64)]) -> f64 {
    if parts.len() < 3 {
        return 1.0;
    }
    let requests: f64 = parts.iter().map(|part| part.1).sum();
    let mean = parts.iter().map(|part| part.0 * part.1).sum::<f64>() / requests;
    let expected = mean * (1.0 - mean);
    if expected <= 0.0 {
        return 1.0;
    }
    let found = parts
        .iter()
        .map(|part| part.1 * (part.0 - mean) * (part.0 - mean))
        .sum::<f64>();
    (found / (parts.len() - 1) as f64 / expected).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Scatter = Scatter {
        factor: 1.0,
        degrees: 0,
    };

    fn run(good: f64, design_effect: f64) -> Evidence {
        Evidence {
            good,
            requests: 100.0,
            design_effect,
        }
    }

    fn width(runs: &[Evidence], scatter: Scatter) -> f64 {
        let (low, high) = scatter.share_interval(runs);
        high - low
    }

    #[test]
    fn requests_that_depend_on_each_other_count_less() {
        assert!(width(&[run(90.0, 8.0)], NONE) > 2.0 * width(&[run(90.0, 1.0)], NONE));
        // Shares that vary between runs more than chance lets them.
        let steady = [run(90.0, 1.0); 4];
        let unsteady = [
            run(100.0, 1.0),
            run(80.0, 1.0),
            run(99.0, 1.0),
            run(81.0, 1.0),
        ];
        assert!(width(&unsteady, NONE) > 1.5 * width(&steady, NONE));
        assert_eq!(NONE.share_interval(&[]), (0.0, 1.0));
    }

    #[test]
    fn runs_that_differ_at_one_load_make_those_at_others_count_less() {
        let differ = [run(99.0, 1.0), run(81.0, 1.0)];
        let alike = [run(97.0, 1.0), run(97.0, 1.0)];
        let twice = [&differ[..], &alike];
        let scatter = Scatter::between(twice.into_iter());
        // The variance of 100 requests of which 90 are good is 9: a statistic of 2 x 81 / 9, of one degree of freedom, and 0 of the other.
        assert!((scatter.factor - 9.0).abs() < 1e-9, "{scatter:?}");
        assert_eq!((scatter.degrees, scatter.is_known()), (2, false));
        assert!(width(&alike, scatter) > 2.0 * width(&alike, NONE));
        // One run says nothing of it, and one that was lucky is not sure any more.
        let once = Scatter::between([&alike[..1]].into_iter());
        assert_eq!(once, NONE);
        let lucky = [run(100.0, 1.0); 2];
        assert_eq!(NONE.verdict(&lucky, 0.95), Verdict::Meets);
        assert_eq!(scatter.verdict(&lucky, 0.95), Verdict::Unsure);
    }

    #[test]
    fn runs_that_are_all_good_do_not_differ() {
        let (good, bad) = ([run(100.0, 1.0); 3], [run(0.0, 1.0); 3]);
        let scatter = Scatter::between([&good[..], &bad].into_iter());
        assert_eq!((scatter.factor, scatter.is_known()), (1.0, true));
        // They do not hide what others say, either.
        let differ = [run(99.0, 1.0), run(81.0, 1.0)];
        let scatter = Scatter::between([&good[..], &differ, &bad].into_iter());
        assert!((scatter.factor - 18.0).abs() < 1e-9, "{scatter:?}");
    }
}
