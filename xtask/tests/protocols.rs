//! The server's service knows no protocol: what it enforces holds for every front that stands before it.
#![allow(clippy::unwrap_used)]

use tree::{files, root};

mod tree;

/// What a protocol's code is made of, and where the fronts and their connections live.
const OF_PROTOCOLS: [&str; 10] = [
    "anthropic",
    "axum",
    "connections",
    "grpc",
    "http",
    "hyper",
    "maitre_proto",
    "openai",
    "prost",
    "tonic",
];

/// The paths in a line of code: `tonic_types::Status` has the parts `tonic_types` and `Status`. A field or a variable is
/// no path.
fn path_parts(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let is_import = code.trim_start().starts_with("use ") || code.contains("pub use ");
    let part = |it: &&str| is_import || it.ends_with("::");
    let cut = |it: char| !(it.is_alphanumeric() || it == '_' || it == ':');
    let paths = code.split(cut).flat_map(|path| path.split_inclusive("::"));
    paths
        .filter(part)
        .map(|part| part.trim_end_matches("::"))
        .collect()
}

fn names_a_protocol(line: &str) -> bool {
    let of_protocol = |part: &&str| {
        let first = part.split('_').next().unwrap_or_default();
        OF_PROTOCOLS.iter().any(|it| it == part || *it == first)
    };
    path_parts(line).iter().any(of_protocol)
}

#[test]
fn the_service_names_no_protocol() {
    let service = root().join("crates/maitre-server/src/service");
    let (mut read, mut wrong) = (0, Vec::new());
    for path in files() {
        if !path.starts_with(&service) && path != service.with_extension("rs") {
            continue;
        }
        read += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().enumerate();
        let found = lines.filter(|(_, line)| names_a_protocol(line));
        wrong.extend(found.map(|(at, line)| format!("{}:{}: {line}", path.display(), at + 1)));
    }
    assert!(read > 20, "{read} files were found");
    assert!(
        wrong.is_empty(),
        "belongs into a front:\n  {}",
        wrong.join("\n  ")
    );
}

#[test]
fn the_reader_of_paths_tells_a_library_from_a_field() {
    for line in [
        "use tonic::Status;",
        "use crate::{Startup, http, metrics};",
        "    let status = tonic_types::ErrorDetails::new();",
        "fn call(request: axum::http::Request) {}",
        "pub(crate) use crate::grpc::status;",
    ] {
        assert!(names_a_protocol(line), "{line}");
    }
    for line in [
        "pub(crate) http: u16,",
        "let code = kind.codes().grpc;",
        "// As tonic::Status has it.",
        "use crate::service::limits::Limits;",
    ] {
        assert!(!names_a_protocol(line), "{line}");
    }
}
