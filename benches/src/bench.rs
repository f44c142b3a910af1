//! [`Bench`]: criterion measures, and at the end one table says how far from the limit each kernel
//! is.
//!
//! The limits are measured again before each group, and the best of all counts: on a machine shared
//! with others a single measurement may be an unlucky one. For the same reason the table has two
//! shares: that of the median call, and that of the fastest, which compares like with like.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use maitre_tensor::{Backend, Limits};

use crate::Work;

/// Time to measure the limits before a group.
const LIMITS_BUDGET: Duration = Duration::from_millis(400);

/// The least that a sample of a comparison takes.
const SAMPLE: Duration = Duration::from_millis(2);

/// Measures kernels on a backend.
pub struct Bench {
    criterion: Criterion,
    backend: Backend,
    limits: Limits,
    full: bool,
    filter: Option<String>,
    lines: Vec<Line>,
}

/// A measured kernel.
#[derive(Debug)]
struct Line {
    operator: String,
    shape: String,
    work: Work,
    /// Seconds per call of each sample, ascending.
    samples: Vec<f64>,
    /// Times as long as the case it was compared with, at the median and at the fastest.
    ratio: Option<(f64, f64)>,
}

impl Bench {
    /// Takes criterion's arguments from the command line, and as many threads as there are cores.
    /// With `MAITRE_BENCH=full` in the environment there are more shapes and more samples.
    ///
    /// # Errors
    /// If the threads or the memory to measure the limits on cannot be had.
    pub fn from_args() -> Result<Self> {
        let full = std::env::var_os("MAITRE_BENCH").is_some_and(|value| value == "full");
        let (samples, warm_up, measurement) = if full { (20, 300, 1000) } else { (10, 30, 150) };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            criterion: Criterion::default()
                .sample_size(samples)
                .nresamples(1000)
                .warm_up_time(Duration::from_millis(warm_up))
                .measurement_time(Duration::from_millis(measurement))
                .configure_from_args(),
            backend: Backend::cpu(threads)?,
            limits: Limits::measure(threads, LIMITS_BUDGET)?,
            full,
            filter: std::env::args().skip(1).find(|word| !word.starts_with('-')),
            lines: Vec::new(),
        })
    }

    /// What the kernels run on.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend.clone()
    }

    /// Whether all shapes are wanted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the command line's filter may let kernels of this name through: if not, what they need
    /// need not be made. Criterion, whose filter is a regular expression, decides case by case.
    #[must_use]
    pub fn wants(&self, operator: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| {
            let is_plain = |c: char| c.is_alphanumeric() || "/_ ,".contains(c);
            !filter.chars().all(is_plain) || filter.contains(operator) || operator.contains(filter)
        })
    }

    /// Measures the limits once more, before a group of kernels.
    ///
    /// # Errors
    /// As [`Bench::from_args`].
    pub fn refresh_limits(&mut self) -> Result<()> {
        let limits = Limits::measure(self.backend.threads(), LIMITS_BUDGET)?;
        self.limits = self.limits.max(limits);
        Ok(())
    }

    /// Measures `call` with the team awake, unless the command line filters it out.
    ///
    /// # Errors
    /// The first of `call`.
    pub fn measure(
        &mut self,
        operator: &str,
        shape: &str,
        work: Work,
        mut call: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut samples = Vec::new();
        let mut outcome = Ok(());
        let backend = &self.backend;
        // Criterion can't be told of an error, and would repeat what fails at once for ever.
        backend.step(&mut call)?;
        let mut sample = |calls: u64| {
            let started = Instant::now();
            let done = backend.step(|| (0..calls).try_for_each(|_| call()));
            let elapsed = started.elapsed();
            samples.push(elapsed.as_secs_f64() / calls as f64);
            if outcome.is_ok() {
                outcome = done;
            }
            elapsed
        };
        let mut group = self.criterion.benchmark_group(operator);
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(if work.bound(&self.limits).unit == "GB/s" {
            Throughput::Bytes(work.bytes as u64)
        } else {
            Throughput::Elements(work.ops as u64)
        });
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            bencher.iter_custom(&mut sample);
        });
        group.finish();
        outcome?;
        if !samples.is_empty() {
            samples.sort_by(f64::total_cmp);
            self.lines.push(Line {
                operator: operator.to_string(),
                shape: shape.to_string(),
                work,
                samples,
                ratio: None,
            });
        }
        Ok(())
    }

    /// Measures calls of `call` with the numbers of `cases` in turn, over and over, so that whatever
    /// else the machine does meets all of them alike. In the table each says how many times as long
    /// as the first it took. The team is awake as far as `call` sees to it.
    ///
    /// # Errors
    /// The first of `call`.
    pub fn compare(
        &mut self,
        operator: &str,
        cases: &[(String, Work)],
        mut call: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        if !self.wants(operator) {
            return Ok(());
        }
        let (budget, least) = if self.full { (12, 9) } else { (2, 3) };
        let started = Instant::now();
        let mut calls = Vec::new();
        for case in 0..cases.len() {
            call(case)?;
            let once = seconds(1, || call(case))?;
            calls.push((SAMPLE.as_secs_f64() / once).ceil() as u32);
        }
        let mut samples = vec![Vec::new(); cases.len()];
        while samples[0].len() < least || started.elapsed() < Duration::from_secs(budget) {
            for (case, samples) in samples.iter_mut().enumerate() {
                samples.push(seconds(calls[case], || call(case))?);
            }
        }
        for samples in &mut samples {
            samples.sort_by(f64::total_cmp);
        }
        let middle = samples[0].len() / 2;
        let first = (samples[0][middle], samples[0][0]);
        self.lines.extend(
            cases
                .iter()
                .zip(samples)
                .map(|((shape, work), samples)| Line {
                    operator: operator.to_string(),
                    shape: shape.clone(),
                    work: *work,
                    ratio: Some((samples[middle] / first.0, samples[0] / first.1)),
                    samples,
                }),
        );
        Ok(())
    }

    /// The table of everything that was measured.
    #[must_use]
    pub fn table(&self) -> String {
        let (threads, name) = (self.backend.threads(), self.backend.name());
        let mut table = format!(
            "{threads} threads, {name} kernels; limit: {}\n{:<14} {:<22} {:>10} {:>10} {:<8} {:>7} {:>7}\n",
            self.limits, "operator", "shape", "measured", "limit", "", "share", "best"
        );
        for line in &self.lines {
            // Writing into a string does not fail.
            let _ = writeln!(table, "{}", line.text(&self.limits));
        }
        table
            + "share: of the limit, at the median; best: at the fastest sample. Above 100 %: the \
                 data did not have to come from memory. x: times as long as the first of the cases \
                 compared, at the median (at the fastest).\n"
    }

    /// Ends criterion's own report.
    pub fn finish(&mut self) {
        self.criterion.final_summary();
    }
}

/// Seconds that each of some calls takes.
fn seconds(calls: u32, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    (0..calls).try_for_each(|_| call())?;
    Ok(started.elapsed().as_secs_f64() / f64::from(calls))
}

impl Line {
    fn text(&self, limits: &Limits) -> String {
        let bound = self.work.bound(limits);
        let (median, best) = (self.samples[self.samples.len() / 2], self.samples[0]);
        let share = |seconds: f64| 100.0 * bound.seconds() / seconds;
        let ratio = self.ratio.map_or_else(String::new, |(typical, fastest)| {
            format!(" {:>9.3} ms, x {typical:.2} ({fastest:.2})", median * 1e3)
        });
        format!(
            "{:<14} {:<22} {:>10.1} {:>10.1} {:<8} {:>5.1} % {:>5.1} %{ratio}",
            self.operator,
            self.shape,
            bound.amount / median / 1e9,
            bound.per_s / 1e9,
            bound.unit,
            share(median),
            share(best)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Peak;

    #[test]
    fn a_line_shows_the_bound_resource_and_both_shares() {
        let limits = Limits {
            read_bytes_per_s: 40e9,
            f32_flops: 1.0,
            bf16_flops: 500e9,
            int8_ops: 1.0,
        };
        let line = Line {
            operator: "linear/bf16".to_string(),
            shape: "1024 to 4096, m 1".to_string(),
            work: Work {
                bytes: 8_000_000,
                ops: 8_000_000,
                peak: Peak::Bf16,
            },
            samples: vec![0.000_25, 0.000_4, 0.000_9],
            ratio: None,
        };
        assert_eq!(
            line.text(&limits),
            "linear/bf16    1024 to 4096, m 1            20.0       40.0 GB/s      50.0 %  80.0 %"
        );
    }
}
