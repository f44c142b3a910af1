//! Where the share of good requests crosses the wanted one, from all runs together.
//!
//! The share falls with the load as a logistic curve over the load's logarithm, which is fitted by maximum likelihood. Runs at the same
//! load differ by more than chance lets them, since requests depend on each other and a machine is not always equally fast; by how much
//! is seen in the residuals (Pearson's statistic), and widens the interval, which is that of Fieller (1954, "Some problems in interval
//! estimation") for the load at which a line has a given height.

use super::evidence::{Evidence, Scatter, deviation};

/// Runs whose load is further from the crossing than by this factor say little of the curve there, and it may have another form.
const NEAR: f64 = 1.6;

/// Runs that are needed, at least.
const RUNS: usize = 8;

/// Requests that are added to each run, half of them good: so a curve that is as steep as a step has a finite slope.
const ADDED: f64 = 0.2;

/// The search ends when the interval is narrow, and looks again and again whether it is: so its ends stand further out than the 1.96
/// of a single look.
const Z: f64 = 2.3;

/// Steps of the search for the likeliest curve.
const STEPS: usize = 60;

/// Where the curve has the wanted share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Crossing {
    pub(crate) load: f64,
    /// The interval of 95 % confidence.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// By how much runs differ from the curve.
    pub(crate) scatter: Scatter,
}

/// `share = 1 / (1 + e^-(height + slope (x - middle)))` of the load's logarithm x.
#[derive(Debug, Clone, Copy)]
struct Curve {
    middle: f64,
    height: f64,
    slope: f64,
    /// Variances of height and slope, and their covariance.
    variances: [f64; 3],
    scatter: Scatter,
}

/// `None` where there are too few runs, or no load is surely better than another.
pub(crate) fn crossing(runs: &[(f64, Evidence)], wanted: f64) -> Option<Crossing> {
    let logit = (wanted / (1.0 - wanted)).ln();
    let mut near = runs.to_vec();
    let mut found = None;
    // The runs that count depend on where the crossing is, and that on them.
    for _ in 0..3 {
        let curve = Curve::fit(&near)?;
        let crossing = curve.crossing(logit)?;
        let is_near = |load: f64| load <= crossing.load * NEAR && load >= crossing.load / NEAR;
        found = Some(crossing);
        near = runs.iter().copied().filter(|run| is_near(run.0)).collect();
    }
    found.filter(|_| near.len() >= RUNS)
}

impl Curve {
    fn fit(runs: &[(f64, Evidence)]) -> Option<Self> {
        if runs.len() < 4 {
            return None;
        }
        let middle = runs.iter().map(|run| run.0.ln()).sum::<f64>() / runs.len() as f64;
        let points: Vec<(f64, f64, f64)> = runs
            .iter()
            .map(|(load, run)| {
                // Each request counts the same: how much those of a run depend on each other is best seen where some are bad, and runs
                // without a bad one must not outvote those.
                let requests = run.requests + ADDED;
                (
                    load.ln() - middle,
                    (run.good + ADDED / 2.0) / requests,
                    requests,
                )
            })
            .collect();
        let (mut height, mut slope) = (0.0, -1.0);
        let mut information = [0.0; 3];
        for _ in 0..STEPS {
            let (mut gradient, mut sums) = ([0.0; 2], [0.0; 3]);
            for (x, share, requests) in &points {
                let foreseen = 1.0 / (1.0 + (-(height + slope * x)).exp());
                let weight = requests * (foreseen * (1.0 - foreseen)).max(1e-6);
                let residual = requests * (share - foreseen);
                gradient = [gradient[0] + residual, gradient[1] + residual * x];
                sums = [
                    sums[0] + weight,
                    sums[1] + weight * x,
                    sums[2] + weight * x * x,
                ];
            }
            information = sums;
            let determinant = sums[0] * sums[2] - sums[1] * sums[1];
            if determinant <= 1e-9 * sums[0] * sums[0] {
                return None;
            }
            let by_height = (sums[2] * gradient[0] - sums[1] * gradient[1]) / determinant;
            let by_slope = (sums[0] * gradient[1] - sums[1] * gradient[0]) / determinant;
            // Far from the end a whole step may lead away from it.
            let length = (by_height.abs() / 2.0).max(by_slope.abs() / 20.0).max(1.0);
            height += by_height / length;
            slope += by_slope / length;
        }
        let mut curve = Self {
            middle,
            height,
            slope,
            variances: [0.0; 3],
            scatter: Scatter {
                factor: 1.0,
                degrees: points.len() - 2,
            },
        };
        let determinant = information[0] * information[2] - information[1] * information[1];
        let scatter = curve.factor(&points);
        curve.scatter.factor = scatter;
        curve.variances = [
            scatter * information[2] / determinant,
            scatter * information[0] / determinant,
            -scatter * information[1] / determinant,
        ];
        (height.is_finite() && slope.is_finite()).then_some(curve)
    }

    /// How many times as much shares differ from the curve as those of independent requests would.
    fn factor(&self, points: &[(f64, f64, f64)]) -> f64 {
        let residuals = points.iter().map(|(x, share, requests)| {
            let foreseen = 1.0 / (1.0 + (-(self.height + self.slope * x)).exp());
            deviation(*share, foreseen, *requests)
        });
        (residuals.sum::<f64>() / self.scatter.degrees as f64).max(1.0)
    }

    /// All loads at which the curve may have this height.
    fn crossing(&self, logit: f64) -> Option<Crossing> {
        let t = t_quantile(Z, self.scatter.degrees as f64);
        let [of_height, of_slope, of_both] = self.variances;
        let below = self.height - logit;
        // (below + slope x)^2 = t^2 (variance of below + slope x), a square equation in x.
        let a = self.slope * self.slope - t * t * of_slope;
        let b = 2.0 * (self.slope * below - t * t * of_both);
        let c = below * below - t * t * of_height;
        let root = b * b - 4.0 * a * c;
        if a <= 0.0 || root < 0.0 || self.slope >= 0.0 {
            return None;
        }
        let ends = [-b - root.sqrt(), -b + root.sqrt()].map(|end| end / (2.0 * a));
        let load = |x: f64| (x + self.middle).exp();
        Some(Crossing {
            load: load(-below / self.slope),
            low: load(ends[0]),
            high: load(ends[1]),
            scatter: self.scatter,
        })
    }
}

/// The quantile of Student's distribution that is `z` of the normal one, by the expansion of Fisher and Cornish (1960).
fn t_quantile(z: f64, degrees: f64) -> f64 {
    let d = degrees.max(1.0);
    let terms = [
        (z.powi(3) + z) / (4.0 * d),
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * d * d),
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * d * d * d),
    ];
    z + terms.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use maitre_workload::Random;

    use super::super::evidence::design_effect;
    use super::super::simulated::{share, truth};
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (degrees, expected) in [(4.0, 2.776), (10.0, 2.228), (30.0, 2.042), (1e6, 1.960)] {
            let found = t_quantile(1.959_964, degrees);
            assert!((found - expected).abs() < 0.02, "{degrees}: {found}");
        }
    }

    /// Runs of 100 requests around the capacity, whose shares scatter more than chance lets them.
    fn runs(capacity: f64, steepness: f64, scatter: f64, seed: u64) -> Vec<(f64, Evidence)> {
        let mut random = Random::new(seed, 3);
        let loads = [0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2];
        let runs = (0..28).map(|run| {
            let load = capacity * loads[run % loads.len()];
            // A machine that is a little slower or faster in each run.
            let speed = (scatter * random.normal()).exp();
            let share = share(load * speed, capacity, steepness);
            let good = (0..100).filter(|_| random.unit() <= share).count() as f64;
            let evidence = Evidence {
                good,
                requests: 100.0,
                design_effect: 1.0,
            };
            (load, evidence)
        });
        runs.collect()
    }

    #[test]
    fn the_interval_holds_the_crossing_in_nineteen_of_twenty_cases() {
        for (steepness, scatter) in [(20.0, 0.0), (20.0, 0.04), (10.0, 0.08), (40.0, 0.03)] {
            let (mut inside, crossed) = (0, truth(37.0, steepness, scatter));
            for seed in 0..400 {
                let found = crossing(&runs(37.0, steepness, scatter, seed), 0.95);
                let holds = found.is_none_or(|it| it.low <= crossed && crossed <= it.high);
                inside += usize::from(holds);
            }
            assert!(inside >= 370, "{steepness} {scatter}: {inside} of 400");
        }
    }

    /// Runs in which bad requests come together: batches of eight are good or bad as a whole.
    fn clustered(seed: u64) -> Vec<(f64, Evidence)> {
        let mut random = Random::new(seed, 4);
        let loads = [0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2];
        let runs = (0..35).map(|run| {
            let load: f64 = 47.0 * loads[run % loads.len()];
            let share = share(load, 47.0, 12.0);
            let batches: Vec<(f64, f64)> = (0..25)
                .map(|_| (if random.unit() <= share { 1.0 } else { 0.0 }, 8.0))
                .collect();
            let evidence = Evidence {
                good: batches.iter().map(|batch| 8.0 * batch.0).sum(),
                requests: 200.0,
                design_effect: design_effect(&batches),
            };
            (load, evidence)
        });
        runs.collect()
    }

    #[test]
    fn bad_requests_that_come_together_neither_move_the_crossing_nor_leave_its_interval() {
        let (mut inside, mut sum, mut found) = (0, 0.0, 0);
        for seed in 0..400 {
            if let Some(crossing) = crossing(&clustered(seed), 0.95) {
                inside += usize::from(crossing.low <= 47.0 && 47.0 <= crossing.high);
                sum += crossing.load;
                found += 1;
            }
        }
        assert!(
            found >= 380 && inside * 20 >= found * 19,
            "{inside} of {found}"
        );
        let mean = sum / found as f64;
        assert!((mean / 47.0 - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn few_runs_and_runs_of_one_load_have_no_crossing() {
        let all = runs(37.0, 20.0, 0.0, 1);
        assert_eq!(crossing(&all[..3], 0.95), None);
        let one_load: Vec<_> = all.iter().map(|run| (37.0, run.1)).collect();
        assert_eq!(crossing(&one_load, 0.95), None);
    }
}
