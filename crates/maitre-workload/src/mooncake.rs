//! The JSON lines of Mooncake's traces: `{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, …]}`.

use serde::Deserialize;

use crate::SharedPrefix;
use crate::trace::Row;

/// Tokens that one of the `hash_ids` stands for. An id is the hash of its block and of all blocks before it.
const BLOCK_TOKENS: u32 = 512;

#[derive(Deserialize)]
struct Line {
    timestamp: f64,
    input_length: u32,
    output_length: u32,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

/// What a line says.
pub(crate) fn row(text: &str) -> Result<Row, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| {
        let expected =
            "expected an object with timestamp, input_length, output_length and hash_ids";
        // The text is one line, and the number of that line in the trace is told beside it.
        let error = error.to_string().replace(" at line 1 column", " at column");
        format!("{error}; {expected}")
    })?;
    if !(line.timestamp.is_finite() && line.timestamp >= 0.0) {
        return Err(format!(
            "timestamp is {}; expected milliseconds from 0 on",
            line.timestamp
        ));
    }
    let most = line.input_length.div_ceil(BLOCK_TOKENS) as usize;
    if line.hash_ids.len() > most {
        return Err(format!(
            "there are {} hash_ids for {} input tokens; expected {most} blocks of {BLOCK_TOKENS} at most",
            line.hash_ids.len(),
            line.input_length
        ));
    }
    Ok(Row {
        at_ns: (line.timestamp * 1e6) as i128,
        prompt_tokens: line.input_length,
        output_tokens: line.output_length,
        prefix: (!line.hash_ids.is_empty()).then(|| SharedPrefix {
            block_tokens: BLOCK_TOKENS,
            ids: line.hash_ids.into(),
        }),
    })
}
