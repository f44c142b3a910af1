//! What a tool says about one of its runs, beside what the server counted.

use super::counts::Counts;

/// What a tool reports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// Requests that it saw answered.
    pub(super) answered: u64,
    /// Requests that failed for it.
    pub(super) failed: u64,
    pub(super) prompt_tokens: u64,
    pub(super) generated_tokens: u64,
    /// Generated tokens a second, and the median time to the first one in ms; of a tool that measures time.
    pub(super) speed: Option<(f64, f64)>,
}

/// One run of a tool.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    /// How many requests it was asked to send.
    pub(super) asked: u64,
    pub(super) told: Told,
    pub(super) counted: Counts,
}

impl Row {
    /// Where tool and server disagree, or something failed.
    pub(super) fn problems(&self) -> Vec<String> {
        let (told, counted) = (&self.told, &self.counted);
        let pairs = [
            ("answered requests", told.answered, self.asked),
            (
                "requests that the server finished",
                counted.finished,
                self.asked,
            ),
            ("failed requests", told.failed, 0),
            (
                "requests that the server did not finish",
                counted.unfinished,
                0,
            ),
            ("prompt tokens", told.prompt_tokens, counted.prompt_tokens),
            (
                "generated tokens",
                told.generated_tokens,
                counted.generated_tokens,
            ),
        ];
        let wrong = pairs
            .iter()
            .filter(|(_, found, expected)| found != expected);
        wrong
            .map(|(what, found, expected)| format!("{}: {found} {what}, not {expected}", self.name))
            .collect()
    }

    fn cells(&self) -> [String; 7] {
        let (speed, first) = match self.told.speed {
            Some((speed, first)) => (format!("{speed:.0}"), format!("{first:.1}")),
            None => ("-".into(), "-".into()),
        };
        [
            self.name.clone(),
            self.told.answered.to_string(),
            (self.told.failed + self.counted.unfinished).to_string(),
            both(self.told.prompt_tokens, self.counted.prompt_tokens),
            both(self.told.generated_tokens, self.counted.generated_tokens),
            speed,
            first,
        ]
    }
}

/// The tool's count and the server's.
fn both(told: u64, counted: u64) -> String {
    format!("{told} / {counted}")
}

/// The rows as a table; the first column is aligned to the left.
pub(super) fn table(rows: &[Row]) -> String {
    let header = [
        "run",
        "answered",
        "failed",
        "prompt tokens, tool / server",
        "generated, tool / server",
        "tok/s",
        "TTFT p50, ms",
    ];
    let rows = rows.iter().map(|row| row.cells().to_vec());
    aligned(std::iter::once(header.map(str::to_owned).to_vec()).chain(rows))
}

/// Lines of cells, each column as wide as its widest cell.
pub(super) fn aligned(lines: impl Iterator<Item = Vec<String>>) -> String {
    let lines: Vec<Vec<String>> = lines.collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            let width = width(column);
            text += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            name: "a tool".into(),
            asked: 2,
            told: Told {
                answered: 2,
                failed: 0,
                prompt_tokens: 10,
                generated_tokens: 20,
                speed: None,
            },
            counted: Counts {
                finished: 2,
                unfinished: 0,
                prompt_tokens: 10,
                generated_tokens: 20,
            },
        }
    }

    #[test]
    fn every_difference_is_a_problem() {
        assert_eq!(row().problems(), Vec::<String>::new());
        let spoil: [fn(&mut Row); 7] = [
            |it| it.told.answered = 1,
            |it| it.told.failed = 1,
            |it| it.told.prompt_tokens = 9,
            |it| it.told.generated_tokens = 21,
            |it| it.counted.finished = 3,
            |it| it.counted.unfinished = 1,
            |it| it.counted.prompt_tokens = 11,
        ];
        for spoil in spoil {
            let mut row = row();
            spoil(&mut row);
            assert_eq!(row.problems().len(), 1, "{row:?}");
        }
        let mut row = row();
        row.told.prompt_tokens = 9;
        assert_eq!(row.problems(), ["a tool: 9 prompt tokens, not 10"]);
    }

    #[test]
    fn a_table_shows_both_counts() {
        let shown = table(&[row()]);
        assert!(shown.contains("10 / 10"), "{shown}");
        assert!(shown.contains("20 / 20"), "{shown}");
    }
}
