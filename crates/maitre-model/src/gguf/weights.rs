//! The weights of a file, by name, and where their bytes are.

use std::collections::BTreeMap;
use std::ops::Range;

use maitre_gguf::TensorEntry;

use super::GgufFile;
use super::names::{FUSED_QKV, QKV};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::names::Stacked;

/// A tensor, and which of the files holds it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) entry: TensorEntry,
    part: usize,
}

impl GgufFile {
    /// The tensors that hold weights, by name; projections are apart where the family has them so.
    ///
    /// # Errors
    /// A tensor that is there twice.
    pub(crate) fn weights(
        &self,
        config: &ModelConfig,
    ) -> Result<BTreeMap<String, Held>, ModelError> {
        let (query, kv) = (config.query_size(), config.kv_size());
        let settings = self.family()?.factors;
        let names = &config.architecture.family().names;
        let comes_apart = matches!(names.qkv, Stacked::Apart(_));
        let mut by_name = BTreeMap::new();
        for (part, entry) in self.tensors() {
            if settings.contains(&entry.name.as_str()) {
                continue;
            }
            let parts = match comes_apart {
                true => without_fusion(entry, [query, kv, kv]),
                false => None,
            };
            for entry in parts.map_or_else(|| vec![entry.clone()], Vec::from) {
                let name = entry.name.clone();
                if by_name.insert(name.clone(), Held { entry, part }).is_some() {
                    return Err(self.unsupported(&format!("the tensor {name} twice")));
                }
            }
        }
        Ok(by_name)
    }

    /// The bytes of a tensor.
    pub(crate) fn bytes_of(&self, held: &Held) -> &[u8] {
        let part = self.part(held.part);
        part.file
            .bytes()
            .get(held.entry.place.clone())
            .unwrap_or_default()
    }

    /// The path of the file that holds a tensor.
    pub(crate) fn path_of(&self, held: &Held) -> String {
        self.part(held.part).path()
    }

    /// Gives back the memory of a tensor that will not be read again.
    pub(crate) fn release(&self, held: &Held) {
        self.part(held.part).file.release(held.entry.place.clone());
    }
}

/// A tensor that holds queries, keys and values below each other, as three that do not: a converter may be told to
/// write it for families that have them apart. `rows`: of each. `None` if it is another tensor, or of another size.
fn without_fusion(entry: &TensorEntry, rows: [usize; 3]) -> Option<[TensorEntry; 3]> {
    let (layer, kind) = entry.name.split_once(FUSED_QKV)?;
    let total = entry.shape.first().copied().filter(|total| *total > 0)?;
    if total != rows.iter().sum::<usize>() {
        return None;
    }
    let row_bytes = entry.place.len() / total;
    let mut start = entry.place.start;
    let mut next = |name: &str, rows: usize| {
        let place: Range<usize> = start..start + rows * row_bytes;
        start = place.end;
        let mut shape = entry.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = rows;
        }
        TensorEntry {
            name: format!("{layer}{name}{kind}"),
            shape,
            kind: entry.kind,
            place,
        }
    };
    let [q, k, v] = rows;
    let [q_name, k_name, v_name] = QKV;
    Some([next(q_name, q), next(k_name, k), next(v_name, v)])
}

#[cfg(test)]
mod tests {
    use maitre_gguf::TensorKind;

    use super::*;

    #[test]
    fn a_fused_tensor_comes_apart_by_rows() {
        let fused = TensorEntry {
            name: "blk.7.attn_qkv.weight".to_owned(),
            shape: vec![8, 3],
            kind: TensorKind::F16,
            place: 100..148,
        };
        let parts = without_fusion(&fused, [4, 2, 2]).unwrap();
        let told: Vec<_> = parts
            .iter()
            .map(|it| (it.name.as_str(), it.shape[0], it.place.clone()))
            .collect();
        assert_eq!(
            told,
            [
                ("blk.7.attn_q.weight", 4, 100..124),
                ("blk.7.attn_k.weight", 2, 124..136),
                ("blk.7.attn_v.weight", 2, 136..148),
            ]
        );
        assert_eq!(without_fusion(&fused, [4, 2, 1]), None);
    }
}
