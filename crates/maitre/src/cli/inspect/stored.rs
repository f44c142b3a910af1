//! What the weight files of a model hold: by use and format.

use maitre_model::{StoredTensors, TensorUse};
use serde_json::json;

use super::mib;

/// A line for each use and format, and one for all; nothing of a model without weights.
pub(super) fn table(stored: &[StoredTensors]) -> String {
    if stored.is_empty() {
        return String::new();
    }
    let line = |used_for: &str, format: &str, count: &str, bytes: &str, note: &str| {
        format!("{used_for:<16}{format:<9}{count:>8}{bytes:>14}{note}\n")
    };
    let mut table = line("stored", "format", "tensors", "bytes", "");
    for tensors in stored {
        let note = match (tensors.used_for, tensors.is_supported) {
            (TensorUse::Images, _) => "  not loaded",
            (_, true) => "",
            (_, false) => "  not supported",
        };
        table += &line(
            tensors.used_for.word(),
            &tensors.format,
            &tensors.count.to_string(),
            &mib(tensors.bytes),
            note,
        );
    }
    let count: usize = stored.iter().map(|it| it.count).sum();
    let bytes: u64 = stored.iter().map(|it| it.bytes).sum();
    table + &line("all", "", &count.to_string(), &mib(bytes), "")
}

pub(super) fn as_json(stored: &[StoredTensors]) -> serde_json::Value {
    let each = stored.iter().map(|tensors| {
        json!({
            "used_for": tensors.used_for.word(),
            "format": tensors.format,
            "supported": tensors.is_supported,
            "tensors": tensors.count,
            "bytes": tensors.bytes,
        })
    });
    each.collect::<Vec<_>>().into()
}
