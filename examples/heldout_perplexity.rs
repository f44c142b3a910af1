//! How well the bundled model predicts the held-out text, computed in this process without an engine.
//!
//! `cargo run --release --example heldout_perplexity` prints a table, with `--json` the same numbers for a program:
//! what an evaluation harness measures over HTTP is held against them (`cargo xtask tools`). The page is
//! `docs/src/guide/measuring-tools.md`.

use anyhow::{Result, ensure};
use maitre_examples::heldout::{self, WINDOW};
use maitre_examples::reader::{self, Reader};
use maitre_examples::{quick, table};
use maitre_tensor::Backend;
use serde_json::json;

/// Tokens that the longest document, and what stands before it, may have.
const LONGEST: usize = 2048;

/// A part of the held-out text, and the model's surprise at it.
#[derive(Clone, Copy, Default)]
struct Measured {
    bytes: usize,
    tokens: usize,
    nats: f64,
}

impl Measured {
    /// The exponential of the mean surprise at a token.
    fn perplexity(self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }

    fn per_byte(self) -> f64 {
        (self.nats / self.bytes as f64).exp()
    }

    fn row(self, name: &str) -> Vec<String> {
        let counts = [self.tokens.to_string(), format!("{:.3}", self.nats)];
        let perplexities = [self.perplexity(), self.per_byte()].map(|it| format!("{it:.6}"));
        let name = std::iter::once(name.to_owned());
        name.chain(counts).chain(perplexities).collect()
    }
}

fn main() -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let backend = Backend::cpu(threads)?;
    let model = reader::load(&maitre_bundled::TARGET, None, &backend)?;
    let mut reader = Reader::new(model, &backend, LONGEST)?;
    let (separator, mut documents) = (heldout::separator()?, heldout::documents()?);
    if quick() {
        documents.truncate(2);
    }
    let mut each = Vec::new();
    for ids in &documents {
        ensure!(ids.len() < LONGEST, "a document of {} tokens", ids.len());
        each.push(Measured {
            bytes: reader::tokenizer()?.decode(ids, false)?.len(),
            tokens: ids.len(),
            nats: heldout::rolling_nats(&mut reader, separator, ids, LONGEST)?,
        });
    }
    let sum = each.iter().fold(Measured::default(), |sum, it| Measured {
        bytes: sum.bytes + it.bytes,
        tokens: sum.tokens + it.tokens,
        nats: sum.nats + it.nats,
    });
    let whole = documents.join(&separator);
    let whole = Measured {
        bytes: reader::tokenizer()?.decode(&whole, false)?.len(),
        tokens: whole.len(),
        nats: heldout::rolling_nats(&mut reader, separator, &whole, WINDOW)?,
    };
    if std::env::args().any(|it| it == "--json") {
        let nats: Vec<f64> = each.iter().map(|it| it.nats).collect();
        let numbers =
            |of: Measured| json!({"bytes": of.bytes, "tokens": of.tokens, "nats": of.nats});
        let (documents, whole) = (numbers(sum), numbers(whole));
        println!(
            "{}",
            json!({"documents": documents, "nats": nats, "whole": whole, "window": WINDOW})
        );
        return Ok(());
    }
    let names = [
        format!("{} documents, each on its own", documents.len()),
        format!("one text in windows of {WINDOW} tokens"),
    ];
    let rows = [sum.row(&names[0]), whole.row(&names[1])];
    let header = ["held-out text", "tokens", "nats", "perplexity", "per byte"];
    println!();
    table::print(&header, &rows);
    Ok(())
}
