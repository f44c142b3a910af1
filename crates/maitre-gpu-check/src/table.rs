//! The report as text, 100 columns wide.

use std::fmt::{self, Display, Formatter};

use super::Half;
use super::item::{Outcome, Timed};
use super::report::{Report, Row};
use super::site::Facts;

/// Columns of a line.
const WIDTH: usize = 100;

/// Lines of a message.
const MOST_LINES: usize = 4;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.facts {
            Some(facts) => write!(f, "{facts}")?,
            None => writeln!(f, "no device was opened")?,
        }
        if self.half(Half::Checks).next().is_some() {
            writeln!(
                f,
                "\n{:<44} {:>22} {:>24} {:>7}",
                "check", "measured", "limit", "result"
            )?;
            writeln!(f, "{}", "-".repeat(WIDTH))?;
            self.half(Half::Checks).try_for_each(|row| check(f, row))?;
        }
        if self.half(Half::Speeds).next().is_some() {
            writeln!(
                f,
                "\n{:<44} {:>9} {:>9} {:>6} {:>9} {:>9} {:>7}",
                "speed", "predicted", "measured", "ratio", "reference", "goal", "unit"
            )?;
            writeln!(f, "{}", "-".repeat(WIDTH))?;
            self.half(Half::Speeds).try_for_each(|row| speed(f, row))?;
        }
        writeln!(
            f,
            "\n{} rows, {} failed, {:.0} s",
            self.len(),
            self.failures(),
            self.took_s
        )
    }
}

impl Display for Facts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const GIB: f64 = (1u64 << 30) as f64;
        let Self { device, name, .. } = self;
        match &self.gpu {
            None => writeln!(
                f,
                "{device}: the processor against itself, with kernels for {name}"
            )?,
            Some(gpu) => {
                let shared = if gpu.is_unified {
                    ", the host's too"
                } else {
                    ""
                };
                writeln!(
                    f,
                    "{device}: {name}, compute capability {}, {} multiprocessors, driver {}",
                    gpu.compute_capability, gpu.multiprocessors, gpu.driver_version,
                )?;
                writeln!(
                    f,
                    "memory: {:.1} GiB, {:.1} free{shared}; built for architectures {}; cuBLASLt {}",
                    gpu.memory_total_bytes as f64 / GIB,
                    gpu.memory_free_bytes as f64 / GIB,
                    gpu.built_for,
                    gpu.library_version
                        .map_or_else(|| "none".to_owned(), |it| it.to_string()),
                )?;
            }
        }
        writeln!(f, "{} host threads", self.host_threads)
    }
}

fn check(f: &mut Formatter<'_>, row: &Row) -> fmt::Result {
    match &row.outcome {
        Outcome::Checked(checked) => writeln!(
            f,
            "{:<44} {:>22} {:>24} {:>7}",
            cut(&row.title, 44),
            cut(&checked.measured, 22),
            cut(&checked.limit, 24),
            row.result()
        ),
        _ => told(f, row),
    }
}

fn speed(f: &mut Formatter<'_>, row: &Row) -> fmt::Result {
    let Outcome::Timed(timed) = &row.outcome else {
        return told(f, row);
    };
    let Timed { unit, .. } = timed;
    writeln!(
        f,
        "{:<44} {:>9} {:>9} {:>6} {:>9} {:>9} {:>7}",
        cut(&row.title, 44),
        number(timed.predicted),
        number(Some(timed.measured)),
        timed
            .ratio()
            .map_or_else(|| "-".into(), |it| format!("{it:.2}")),
        number(timed.reference),
        number(timed.goal),
        unit.in_table()
    )?;
    match &timed.note {
        None => Ok(()),
        Some(note) => writeln!(f, "    {}", cut(note, WIDTH - 4)),
    }
}

/// A row without figures says why.
fn told(f: &mut Formatter<'_>, row: &Row) -> fmt::Result {
    let why = match &row.outcome {
        Outcome::NotRun { reason: why } | Outcome::Failed { message: why } => why.as_str(),
        Outcome::Checked(_) | Outcome::Timed(_) => "",
    };
    let said = format!("{}: {}", row.result(), why.replace('\n', " "));
    let title = cut(&row.title, 44);
    let capacity = WIDTH - 45;
    if said.chars().count() <= capacity {
        return writeln!(f, "{title:<44} {said}");
    }
    writeln!(f, "{title:<44} {}", row.result())?;
    let said: Vec<char> = why.replace('\n', " ").chars().collect();
    let mut lines = said.chunks(WIDTH - 4).take(MOST_LINES);
    lines.try_for_each(|line| writeln!(f, "    {}", line.iter().collect::<String>()))
}

/// Four digits or more.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    match text.chars().count() <= most {
        true => text.to_owned(),
        false => text.chars().take(most - 1).chain(['…']).collect(),
    }
}
