//! Recorded requests that fit into the model, and how fast they have to be played for some load.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use maitre_workload::{BadLines, Request, Trace};

/// A trace that is public.
#[derive(Debug)]
pub(super) struct Recording {
    /// What it is called here.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) file: &'static str,
    from: &'static str,
}

pub(super) const AZURE: Recording = Recording {
    name: "azure",
    title: "Azure's conversations",
    file: "AzureLLMInferenceTrace_conv.csv",
    from: "the Azure Public Dataset, https://github.com/Azure/AzurePublicDataset",
};

pub(super) const MOONCAKE: Recording = Recording {
    name: "mooncake",
    title: "Mooncake's conversations",
    file: "conversation_trace.jsonl",
    from: "Mooncake's traces, https://github.com/kvcache-ai/Mooncake",
};

impl Recording {
    /// Where it is: as given, or in the folder of test data.
    pub(super) fn path(&self, given: Option<&Path>, test_data: Option<&Path>) -> Result<PathBuf> {
        let in_test_data = || test_data.map(|folder| folder.join("traces").join(self.file));
        let path = given.map(Path::to_path_buf).or_else(in_test_data);
        let path = path.with_context(|| {
            format!(
                "no trace is given for --{}, and MAITRE_TEST_DATA is not set; {}",
                self.name,
                self.expected()
            )
        })?;
        ensure!(
            path.is_file(),
            "there is no file {}; {}",
            path.display(),
            self.expected()
        );
        Ok(path)
    }

    fn expected(&self) -> String {
        format!(
            "expected {} of {}: give its place with --{} FILE, or leave it out with --traces",
            self.file, self.from, self.name
        )
    }

    pub(super) fn read(path: &Path) -> Result<Trace> {
        let naming = || format!("in {}", path.display());
        let file = File::open(path).with_context(naming)?;
        Trace::read(BufReader::new(file), None, BadLines::Skip).with_context(naming)
    }
}

/// How far the time that rows last may be from what is wanted, as a share of it.
const NEAR: f64 = 0.05;

/// The fewest rows that are played, if there are as many.
const LEAST: usize = 8;

/// Numbers of rows that are tried behind the first one, at most.
const TURNS: usize = 12;

/// The first rows of a trace.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    requests: Vec<Request>,
    /// How many came a second when they were recorded.
    pub(super) recorded_rate: f64,
}

/// The trace without the rows that have more tokens than the context after their lengths are multiplied. The others keep
/// their lengths: who plays them multiplies.
pub(super) fn that_fit(trace: &Trace, scale: f64, context: usize) -> Trace {
    let scaled = trace.clone().scaled(scale).requests;
    let rows = trace.requests.iter().zip(scaled);
    let that_fit = rows.filter(|(_, scaled)| scaled.full_length() <= context);
    Trace {
        requests: that_fit.map(|(row, _)| row.clone()).collect(),
        skipped: Vec::new(),
        out_of_order: 0,
    }
}

/// Chooses how many of `all` rows last for about so many seconds at their capacity, beginning with a guess. The capacity of a number of
/// rows depends on how many and which they are, so numbers are tried until one is near enough. Returns the capacity of the last
/// number that was tried, which is the one that is chosen.
pub(super) fn that_last(
    seconds: f64,
    guess: usize,
    all: usize,
    mut capacity_of: impl FnMut(usize) -> Result<f64>,
) -> Result<f64> {
    // More rows last longer: these last too short, and those too long.
    let (mut short, mut long) = (LEAST.min(all).saturating_sub(1), all + 1);
    let mut rows = guess.clamp(short + 1, all.max(short + 1));
    let mut capacity = capacity_of(rows)?;
    for _ in 0..TURNS {
        let lasts = rows as f64 / capacity;
        if (lasts / seconds - 1.0).abs() <= NEAR {
            break;
        }
        match lasts < seconds {
            true => short = rows,
            false => long = rows,
        }
        let by_capacity = (capacity * seconds).round() as usize;
        let is_between = short < by_capacity && by_capacity < long;
        rows = match is_between {
            true => by_capacity,
            false => short.midpoint(long),
        };
        if rows == short {
            // There is no number between them: the last one that was tried has to do.
            break;
        }
        capacity = capacity_of(rows)?;
    }
    Ok(capacity)
}

impl Rows {
    /// At most so many rows.
    pub(super) fn first_of(trace: &Trace, most: usize) -> Result<Self> {
        let requests: Vec<Request> = trace.requests.iter().take(most).cloned().collect();
        let (Some(first), Some(last)) = (requests.first(), requests.last()) else {
            anyhow::bail!("no row of the trace fits into the context; choose a smaller scale");
        };
        // Up to the row behind them: of rows that come in batches the last batch lasts, too.
        let end = trace
            .requests
            .iter()
            .map(|row| row.arrival)
            .find(|&at| at > last.arrival)
            .unwrap_or(last.arrival);
        let seconds = (end - first.arrival).as_secs_f64();
        ensure!(
            seconds > 0.0,
            "all {} rows of the trace come at once",
            requests.len()
        );
        Ok(Self {
            recorded_rate: requests.len() as f64 / seconds,
            requests,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// How many times as fast as they were recorded so many a second are.
    pub(super) fn speed(&self, requests_per_second: f64) -> f64 {
        requests_per_second / self.recorded_rate
    }

    /// Writes them as Mooncake does.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let written = std::fs::write(file, self.lines()?);
        written.with_context(|| format!("writing {}", file.display()))
    }

    fn lines(&self) -> Result<String> {
        let mut text = String::new();
        for row in &self.requests {
            let ids = row.prefix.as_ref().map_or(&[][..], |prefix| &prefix.ids);
            writeln!(
                text,
                "{{\"timestamp\": {:.3}, \"input_length\": {}, \"output_length\": {}, \"hash_ids\": {ids:?}}}",
                row.arrival.as_secs_f64() * 1e3,
                row.prompt_tokens,
                row.output_tokens,
            )?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows at once, one after 2 s, two more after 4 s; the second is longest.
    const TEXT: &str = r#"
{"timestamp": 0, "input_length": 600, "output_length": 100, "hash_ids": [5, 6]}
{"timestamp": 0, "input_length": 3000, "output_length": 100, "hash_ids": [5, 7, 8, 9, 10, 11]}
{"timestamp": 2000, "input_length": 1000, "output_length": 2, "hash_ids": [5, 7]}
{"timestamp": 4000, "input_length": 10, "output_length": 1, "hash_ids": []}
{"timestamp": 4000, "input_length": 10, "output_length": 1, "hash_ids": []}"#;

    fn trace(text: &str) -> Trace {
        Trace::read(text.as_bytes(), None, BadLines::Refuse).unwrap()
    }

    fn lengths(trace: &Trace) -> Vec<(u32, u32)> {
        let rows = trace.requests.iter();
        rows.map(|row| (row.prompt_tokens, row.output_tokens))
            .collect()
    }

    #[test]
    fn rows_are_chosen_by_the_lengths_that_they_are_played_with() {
        let trace = trace(TEXT);
        let all = that_fit(&trace, 0.1, 310);
        assert_eq!(all.requests.len(), 5, "3000 and 100 tokens are 310");
        let fitting = that_fit(&trace, 0.1, 309);
        assert_eq!(lengths(&fitting), [(600, 100), (1000, 2), (10, 1), (10, 1)]);
        assert!(that_fit(&trace, 1.0, 10).requests.is_empty());
    }

    #[test]
    fn the_speed_that_makes_a_load_counts_the_time_up_to_the_next_row() {
        let trace = trace(TEXT);
        // Three rows in the four seconds up to the fourth.
        let rows = Rows::first_of(&trace, 3).unwrap();
        assert_eq!((rows.len(), rows.recorded_rate), (3, 0.75));
        assert_eq!(rows.speed(1.5), 2.0);
        // The two rows that come at once last until the third.
        assert_eq!(Rows::first_of(&trace, 1).unwrap().recorded_rate, 0.5);
        assert_eq!(Rows::first_of(&trace, 2).unwrap().recorded_rate, 1.0);
        // Behind the last one there is none.
        assert_eq!(Rows::first_of(&trace, 9).unwrap().recorded_rate, 1.25);
    }

    /// How many rows are chosen, and after how many turns, if the first so many have this capacity.
    fn chosen(seconds: f64, all: usize, capacity: impl Fn(usize) -> f64) -> (usize, usize) {
        let (mut last, mut turns) = (0, 0);
        let found = that_last(seconds, 400, all, |rows| {
            (last, turns) = (rows, turns + 1);
            Ok(capacity(rows))
        });
        assert_eq!(found.unwrap(), capacity(last));
        (last, turns)
    }

    #[test]
    fn rows_are_chosen_until_they_last_as_long_as_they_should() {
        // The more rows are there at once, the more are answered in a second: up to 30.
        let slower = |rows: usize| 30.0 * rows as f64 / (rows as f64 + 40.0);
        for seconds in [3.0, 10.0, 60.0] {
            let (rows, turns) = chosen(seconds, 100_000, slower);
            let lasts = rows as f64 / slower(rows);
            assert!((lasts / seconds - 1.0).abs() <= NEAR, "{rows}: {lasts} s");
            assert!(turns <= TURNS + 1, "{turns}");
        }
        // The first 200 rows are short, the ones behind them long, and what the capacity asks for goes to and fro.
        let uneven = |rows: usize| match rows {
            0..200 => 100.0,
            _ => rows as f64 / (2.0 + (rows as f64 - 200.0) / 10.0),
        };
        let (rows, _) = chosen(10.0, 100_000, uneven);
        assert!(
            (rows as f64 / uneven(rows) / 10.0 - 1.0).abs() <= NEAR,
            "{rows}"
        );
    }

    #[test]
    fn there_are_no_more_rows_than_the_trace_has_and_no_fewer_than_a_few() {
        assert_eq!(chosen(1000.0, 50, |_| 10.0).0, 50);
        assert_eq!(chosen(0.01, 50, |_| 10.0).0, LEAST);
        assert_eq!(chosen(0.01, 3, |_| 10.0).0, 3);
        // No number lasts 10 s: 99 rows are too few and 100 too many.
        let jump = |rows: usize| if rows < 100 { 100.0 } else { 1.0 };
        let (rows, turns) = chosen(10.0, 1000, jump);
        assert!((99..=100).contains(&rows) && turns <= TURNS + 1, "{rows}");
    }

    #[test]
    fn rows_of_which_no_load_can_be_made_are_refused() {
        let none = that_fit(&trace(TEXT), 1.0, 10);
        let said = Rows::first_of(&none, 3).unwrap_err().to_string();
        assert!(said.contains("choose a smaller scale"), "{said}");
        let line = TEXT.lines().nth(1).unwrap();
        let said = Rows::first_of(&trace(line), 1).unwrap_err().to_string();
        assert!(said.contains("come at once"), "{said}");
    }

    #[test]
    fn what_is_written_is_read_as_the_same_rows() {
        let trace = trace(TEXT);
        let rows = Rows::first_of(&trace, 3).unwrap();
        let again = Trace::read(rows.lines().unwrap().as_bytes(), None, BadLines::Refuse);
        assert_eq!(again.unwrap().requests, trace.requests[..3]);
    }

    #[test]
    fn a_trace_that_is_not_there_is_named_and_told_where_to_find() {
        let said = AZURE.path(None, None).unwrap_err().to_string();
        let expected = "expected AzureLLMInferenceTrace_conv.csv of the Azure Public Dataset, \
             https://github.com/Azure/AzurePublicDataset: give its place with --azure FILE";
        assert!(
            said.contains("MAITRE_TEST_DATA is not set") && said.contains(expected),
            "{said}"
        );
        let given = Path::new("not/there.jsonl");
        let said = MOONCAKE.path(Some(given), None).unwrap_err().to_string();
        assert!(said.contains("there is no file not/there.jsonl"), "{said}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("traces").join(MOONCAKE.file);
        std::fs::create_dir(folder.path().join("traces")).unwrap();
        std::fs::write(&file, TEXT).unwrap();
        assert_eq!(MOONCAKE.path(None, Some(folder.path())).unwrap(), file);
    }
}
