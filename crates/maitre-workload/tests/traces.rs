//! Traces: what is read, what is refused and with which words.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use maitre_workload::{BadLines, Trace, TraceFormat};

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";
const FIRST: &str = "2023-11-16 18:15:46.6805900,374,44";

fn read(lines: &[&str], bad_lines: BadLines) -> Result<Trace, String> {
    // As the files of the data set are, with a carriage return and without a last line feed.
    let text = lines.join("\r\n");
    Trace::read(text.as_bytes(), None, bad_lines).map_err(|error| error.to_string())
}

#[test]
fn a_csv_file_of_azure_is_read() {
    let lines = [HEADER, FIRST, "", "2023-11-16 18:15:50.9951690,396,109"];
    let trace = read(&lines, BadLines::Refuse).unwrap();
    let told: Vec<_> = trace
        .requests
        .iter()
        .map(|it| (it.arrival, it.prompt_tokens, it.output_tokens))
        .collect();
    let second = Duration::from_nanos(4_314_579_000);
    assert_eq!(told, [(Duration::ZERO, 374, 44), (second, 396, 109)]);
    // Columns are found by their names.
    let swapped = [
        "GeneratedTokens,TIMESTAMP,ContextTokens",
        "44,2023-11-16 18:15:46,374",
    ];
    assert_eq!(
        read(&swapped, BadLines::Refuse).unwrap().requests[0].prompt_tokens,
        374
    );
}

#[test]
fn json_lines_of_mooncake_are_read() {
    let line =
        r#"{"timestamp": 1500, "input_length": 600, "output_length": 5, "hash_ids": [7, 9]}"#;
    let trace = read(&[line, line], BadLines::Refuse).unwrap();
    let prefix = trace.requests[1].prefix.as_ref().unwrap();
    assert_eq!((prefix.block_tokens, &prefix.ids[..]), (512, &[7, 9][..]));
    assert_eq!(
        trace.requests[1].arrival,
        Duration::ZERO,
        "the first one is time zero"
    );
}

#[test]
fn bad_lines_are_named_by_their_numbers_and_skipped_only_when_asked() {
    let json = r#"{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [7]}"#;
    for (first, bad, expected) in [
        (
            HEADER,
            "2023-11-16 18:15:46.68",
            "ContextTokens is missing; found 1 columns",
        ),
        (
            HEADER,
            "2023-11-16 18:15:46.68,x,4",
            "ContextTokens is `x`; expected a number of tokens",
        ),
        (
            HEADER,
            "2023-11-16 18:15:46.68,5,-4",
            "GeneratedTokens is `-4`; expected a number",
        ),
        (
            HEADER,
            "2023-11-16 18:15:46.68,0,4",
            "the prompt has 0 tokens; expected at least 1",
        ),
        (
            HEADER,
            "2023-11-16 18:15:46.68,4,0",
            "the answer has 0 tokens; expected at least 1",
        ),
        (
            HEADER,
            "16.11.2023 18:15,5,4",
            "TIMESTAMP is `16.11.2023 18:15`; expected a time such as",
        ),
        (
            HEADER,
            "2023-02-30T25:00:00,5,4",
            "TIMESTAMP is `2023-02-30T25:00:00`",
        ),
        (
            json,
            "not json",
            "at column 2; expected an object with timestamp",
        ),
        (json, r#"{"timestamp": 1}"#, "missing field `input_length`"),
        (
            json,
            r#"{"timestamp": -1, "input_length": 6, "output_length": 5}"#,
            "timestamp is -1",
        ),
        (
            json,
            r#"{"timestamp": 1, "input_length": 6, "output_length": 0}"#,
            "the answer has 0 tokens",
        ),
        (
            json,
            r#"{"timestamp": 1, "input_length": 600, "output_length": 5, "hash_ids": [1, 2, 3]}"#,
            "there are 3 hash_ids for 600 input tokens; expected 2 blocks of 512 at most",
        ),
    ] {
        let good = if first == HEADER { FIRST } else { json };
        let lines = [first, good, bad, good];
        let said = read(&lines, BadLines::Refuse).unwrap_err();
        assert!(
            said.starts_with("line 3: ") && said.contains(expected),
            "{bad}: {said}"
        );
        let skipped = read(&lines, BadLines::Skip).unwrap();
        let bad_lines: Vec<usize> = skipped.skipped.iter().map(|it| it.line).collect();
        assert_eq!(bad_lines, [3], "{bad}");
        assert_eq!(skipped.requests.len(), if first == HEADER { 2 } else { 3 });
    }
}

#[test]
fn a_line_out_of_order_is_bad() {
    let lines = [
        HEADER,
        FIRST,
        "2023-11-16 18:15:46.18,5,4",
        "2023-11-16 18:15:47,5,4",
    ];
    let said = read(&lines, BadLines::Refuse).unwrap_err();
    assert!(
        said.contains("line 3: it comes 0.50059 s before line 2, which is above it"),
        "{said}"
    );
    let read = read(&lines, BadLines::Skip).unwrap();
    assert_eq!((read.requests.len(), read.out_of_order), (2, 1));
}

#[test]
fn a_time_that_is_too_late_is_left_out_by_itself() {
    let late = "2033-11-16 18:15:47,5,4";
    let good = [FIRST, "2023-11-16 18:15:47,7,4", "2023-11-16 18:15:48,8,4"];
    for place in 0..good.len() {
        let mut lines = [HEADER, good[0], good[1], good[2]].to_vec();
        lines.insert(1 + place, late);
        let said = read(&lines, BadLines::Refuse).unwrap_err();
        let (line, below) = (2 + place, 3 + place);
        assert!(
            said.starts_with(&format!("line {line}: it comes 3"))
                && said.contains(&format!(" s after line {below}, which is below it")),
            "{said}"
        );
        let read = read(&lines, BadLines::Skip).unwrap();
        let prompts: Vec<u32> = read.requests.iter().map(|it| it.prompt_tokens).collect();
        assert_eq!(prompts, [374, 7, 8]);
        let numbers: Vec<u64> = read.requests.iter().map(|it| it.number).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(read.requests[0].arrival, Duration::ZERO);
        let skipped: Vec<usize> = read.skipped.iter().map(|it| it.line).collect();
        assert_eq!((skipped, read.out_of_order), (vec![line], 1));
    }
}

#[test]
fn bad_lines_of_all_kinds_are_told_in_the_order_of_the_file() {
    let lines = [
        HEADER,
        "2023-11-16 18:15:46.1,5,4",
        "2023-11-16 18:15:59,5,4",
        "nothing",
        "2023-11-16 18:15:47,5,4",
        "2023-11-16 18:15:48,5,4",
        "2993-11-16 18:15:48,5,4",
    ];
    let read = read(&lines, BadLines::Skip).unwrap();
    let skipped: Vec<usize> = read.skipped.iter().map(|it| it.line).collect();
    assert_eq!((skipped, read.out_of_order), (vec![3, 4, 7], 1));
    assert!(
        read.skipped[2].reason.contains("centuries after line 2"),
        "{:?}",
        read.skipped
    );
}

#[test]
fn many_bad_lines_are_counted() {
    let mut lines = vec![HEADER];
    lines.extend(["bad"; 9]);
    let said = read(&lines, BadLines::Refuse).unwrap_err();
    assert!(
        said.contains("line 6: ") && !said.contains("line 7: "),
        "{said}"
    );
    assert!(
        said.contains("and 4 lines more; correct them or skip them"),
        "{said}"
    );
    let said = read(&lines, BadLines::Skip).unwrap_err();
    assert!(said.contains("there is no request in it"), "{said}");
}

#[test]
fn files_that_are_no_traces_are_refused() {
    for (lines, expected) in [
        (&[][..], "there is no request in it"),
        (&[HEADER][..], "there is no request in it"),
        (&[FIRST][..], "does not name the column TIMESTAMP"),
        (
            &["TIMESTAMP,ContextTokens", FIRST][..],
            "does not name the column GeneratedTokens",
        ),
    ] {
        let said = read(lines, BadLines::Skip).unwrap_err();
        assert!(said.contains(expected), "{lines:?}: {said}");
    }
}

/// The published traces, if they are here.
#[test]
fn the_published_traces_are_read_whole() {
    let Some(data) = std::env::var_os("MAITRE_TEST_DATA") else {
        return;
    };
    let folder = std::path::Path::new(&data).join("traces");
    for (name, format, rows, last) in [
        (
            "AzureLLMInferenceTrace_conv.csv",
            TraceFormat::AzureCsv,
            19_366,
            3501.722,
        ),
        (
            "conversation_trace.jsonl",
            TraceFormat::MooncakeJsonl,
            12_031,
            3536.999,
        ),
    ] {
        let file = BufReader::new(File::open(folder.join(name)).unwrap());
        let trace = Trace::read(file, Some(format), BadLines::Refuse).unwrap();
        assert_eq!(
            (trace.requests.len(), trace.skipped.len()),
            (rows, 0),
            "{name}"
        );
        let end = trace.requests[rows - 1].arrival.as_secs_f64();
        assert!((end - last).abs() < 0.001, "{name}: {end}");
    }
}

#[test]
fn a_line_that_is_no_text_is_a_bad_line_with_its_number() {
    let mut bytes =
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.1,10,5\n".to_vec();
    bytes.extend(b"2023-11-16 18:15:\xff.2,10,5\n2023-11-16 18:15:47.3,20,6\n");
    let said = Trace::read(&bytes[..], None, BadLines::Refuse)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("line 3") && said.contains("no UTF-8"),
        "{said}"
    );
    let trace = Trace::read(&bytes[..], None, BadLines::Skip).unwrap();
    assert_eq!((trace.requests.len(), trace.skipped[0].line), (2, 3));
}
