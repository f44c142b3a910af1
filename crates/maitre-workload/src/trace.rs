//! Traces: requests that were recorded elsewhere, one a line.

use std::io::BufRead;

use crate::order::{Numbered, in_order};
use crate::{Request, SharedPrefix, Time, azure, mooncake};

/// Bad lines that an error names.
const NAMED: usize = 5;

/// The forms of traces that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// CSV with the columns `TIMESTAMP`, `ContextTokens` and `GeneratedTokens` (Azure Public Dataset, LLM inference).
    AzureCsv,
    /// JSON objects with `timestamp` in milliseconds, `input_length`, `output_length` and `hash_ids` of blocks of 512
    /// tokens (Mooncake: Qin et al. 2025).
    MooncakeJsonl,
}

impl TraceFormat {
    /// The form of a trace that begins with this line.
    fn of(line: &str) -> Self {
        match line.trim_start().starts_with('{') {
            true => Self::MooncakeJsonl,
            false => Self::AzureCsv,
        }
    }
}

/// What to do about lines that are no requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLines {
    /// Read nothing.
    Refuse,
    /// Leave them out and say which they were.
    Skip,
}

/// A line that is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1 on.
    pub line: usize,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Why a trace is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Some lines are no requests.
    #[error("{}; correct them or skip them", list(.bad))]
    BadLines {
        /// All of them, in order.
        bad: Vec<BadLine>,
    },
    /// The first line does not name the columns.
    #[error(
        "line 1: `{found}` does not name the column {column}; expected TIMESTAMP,ContextTokens,GeneratedTokens, or JSON lines"
    )]
    Header {
        /// The line.
        found: String,
        /// The column that is missing.
        column: &'static str,
    },
    /// No line is a request.
    #[error("there is no request in it; expected a CSV file with a header or JSON lines")]
    Empty,
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[from] std::io::Error),
}

/// Lines with their numbers; one that is no UTF-8 is a bad line, and ends nothing.
pub(crate) fn lines(
    text: impl BufRead,
) -> impl Iterator<Item = (usize, std::io::Result<Result<String, BadLine>>)> {
    let lines = text.split(b'\n').enumerate();
    lines.map(|(index, line)| {
        let number = index + 1;
        let read = line.map(|bytes| {
            String::from_utf8(bytes).map_err(|error| BadLine {
                line: number,
                reason: format!("it is no UTF-8 ({})", error.utf8_error()),
            })
        });
        (number, read)
    })
}

/// The first bad lines and how many there are.
fn list(bad: &[BadLine]) -> String {
    let named: Vec<String> = bad.iter().take(NAMED).map(ToString::to_string).collect();
    match bad.len().saturating_sub(NAMED) {
        0 => named.join("; "),
        more => format!("{}; and {more} lines more", named.join("; ")),
    }
}

/// Recorded requests, in the order of their arrival. The first comes at time zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The requests.
    pub requests: Vec<Request>,
    /// Lines that were left out.
    pub skipped: Vec<BadLine>,
    /// How many of them are requests that were out of the order of time.
    pub out_of_order: usize,
}

/// What a line says: the arrival by the trace's own clock, in nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) at_ns: i128,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) prefix: Option<SharedPrefix>,
}

impl Row {
    /// With the number of its line, if it has any tokens.
    fn checked(self, line: usize) -> Result<Numbered, String> {
        for (name, tokens) in [
            ("prompt", self.prompt_tokens),
            ("answer", self.output_tokens),
        ] {
            if tokens == 0 {
                return Err(format!("the {name} has 0 tokens; expected at least 1"));
            }
        }
        Ok((line, self))
    }
}

impl Trace {
    /// Reads a trace, in the form that its first line has if none is given. Of lines that are out of the order of time as few as possible
    /// are bad: one time that is mistyped is a bad line, whatever the lines behind it say.
    ///
    /// # Errors
    ///
    /// [`TraceError`], with the numbers of the lines.
    pub fn read(
        text: impl BufRead,
        format: Option<TraceFormat>,
        bad_lines: BadLines,
    ) -> Result<Self, TraceError> {
        let mut reader = Reader::new(format);
        for (number, line) in lines(text) {
            match line? {
                Ok(line) => reader.line(number, line.trim())?,
                Err(bad) => reader.bad.push(bad),
            }
        }
        let Reader { rows, mut bad, .. } = reader;
        let (rows, unordered) = in_order(rows);
        let out_of_order = unordered.len();
        bad.extend(unordered);
        let requests = requests(rows, &mut bad);
        bad.sort_by_key(|bad| bad.line);
        if bad_lines == BadLines::Refuse && !bad.is_empty() {
            return Err(TraceError::BadLines { bad });
        }
        if requests.is_empty() {
            return Err(TraceError::Empty);
        }
        Ok(Self {
            requests,
            skipped: bad,
            out_of_order,
        })
    }
}

/// The requests of rows that are in order. What comes too long after the first one is bad.
fn requests(rows: Vec<Numbered>, bad: &mut Vec<BadLine>) -> Vec<Request> {
    let (first_line, first) = rows
        .first()
        .map_or((0, 0), |(line, row)| (*line, row.at_ns));
    let mut requests = Vec::with_capacity(rows.len());
    for (line, row) in rows {
        let Ok(since) = u64::try_from(row.at_ns - first) else {
            let reason =
                format!("it comes centuries after line {first_line}; expected the time of a trace");
            bad.push(BadLine { line, reason });
            continue;
        };
        requests.push(Request {
            number: requests.len() as u64,
            arrival: Time::from_nanos(since),
            prompt_tokens: row.prompt_tokens,
            output_tokens: row.output_tokens,
            prefix: row.prefix,
            session: None,
            user: None,
        });
    }
    requests
}

impl Trace {
    /// Without the requests that have more tokens together with their answers, and how many were left out.
    #[must_use]
    pub fn up_to(mut self, most_tokens: usize) -> (Self, usize) {
        let before = self.requests.len();
        self.requests
            .retain(|request| request.full_length() <= most_tokens);
        let left_out = before - self.requests.len();
        (self, left_out)
    }

    /// The same with lengths times a factor, of prompts, of answers and of the blocks that prompts share, each at least 1.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        let scale = |tokens: u32| ((f64::from(tokens) * factor).round() as u32).max(1);
        for request in &mut self.requests {
            request.prompt_tokens = scale(request.prompt_tokens);
            request.output_tokens = scale(request.output_tokens);
            if let Some(prefix) = &mut request.prefix {
                prefix.block_tokens = scale(prefix.block_tokens);
            }
        }
        self
    }
}

/// A trace that is read to some line.
struct Reader {
    format: Option<TraceFormat>,
    columns: Option<azure::Columns>,
    rows: Vec<Numbered>,
    bad: Vec<BadLine>,
}

impl Reader {
    fn new(format: Option<TraceFormat>) -> Self {
        Self {
            format,
            columns: None,
            rows: Vec::new(),
            bad: Vec::new(),
        }
    }

    /// Takes a line. Empty ones are no mistake.
    fn line(&mut self, line: usize, text: &str) -> Result<(), TraceError> {
        if text.is_empty() {
            return Ok(());
        }
        let format = *self.format.get_or_insert_with(|| TraceFormat::of(text));
        let row = match (format, &self.columns) {
            (TraceFormat::MooncakeJsonl, _) => mooncake::row(text),
            (TraceFormat::AzureCsv, Some(columns)) => columns.row(text),
            (TraceFormat::AzureCsv, None) => {
                self.columns = Some(azure::Columns::named_by(text)?);
                return Ok(());
            }
        };
        match row.and_then(|row| row.checked(line)) {
            Ok(row) => self.rows.push(row),
            Err(reason) => self.bad.push(BadLine { line, reason }),
        }
        Ok(())
    }
}

/// A number of tokens in a column.
pub(crate) fn tokens(name: &str, text: &str) -> Result<u32, String> {
    let text = text.trim();
    text.parse()
        .map_err(|_| format!("{name} is `{text}`; expected a number of tokens"))
}
