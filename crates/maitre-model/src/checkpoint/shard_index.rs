//! `model.safetensors.index.json`: which of several weight files holds which tensor.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::ModelError;
use crate::json;
use crate::layout::instead_of_weights;
use crate::source::ModelSource;

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The files that an index names; its `metadata` is not needed.
#[derive(Debug)]
pub(crate) struct ShardIndex {
    /// Tensor name to file name.
    pub(crate) weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads a model's index, if it has one.
    pub(crate) fn read(source: &ModelSource) -> Result<Option<Self>, ModelError> {
        let Some(text) = source.read(INDEX_FILE)? else {
            return Ok(None);
        };
        let index = json::parse(INDEX_FILE, &text)?;
        let Some(Value::Object(entries)) = index.get("weight_map") else {
            return Err(malformed(
                "has no object `weight_map`; expected tensor names with their files".to_owned(),
            ));
        };
        if entries.is_empty() {
            return Err(malformed(
                "`weight_map` is empty; expected tensor names with their files".to_owned(),
            ));
        }
        let entries = entries.iter().map(|(tensor, file)| match file {
            Value::String(file) => Ok((tensor.clone(), file.clone())),
            other => Err(malformed(format!(
                "`weight_map` says that tensor {tensor:?} is in {other}; expected a file name"
            ))),
        });
        Ok(Some(Self {
            weight_map: entries.collect::<Result<_, _>>()?,
        }))
    }

    /// The distinct files. A name that leads out of the directory is refused.
    fn shards(&self) -> Result<Vec<String>, ModelError> {
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        for name in &names {
            if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
                return Err(malformed(format!(
                    "shard {name:?} is not a .safetensors file beside the index"
                )));
            }
        }
        Ok(names.into_iter().cloned().collect())
    }
}

/// The weight files to open, and the index unless it is not the one of these files.
///
/// An index counts for more than a single file beside it, which a later save in another size leaves
/// behind; but an index of which no shard is there is itself what was left behind.
pub(crate) fn weight_files(
    source: &ModelSource,
) -> Result<(Vec<String>, Option<ShardIndex>), ModelError> {
    let single = || vec![SINGLE_FILE.to_owned()];
    let has_single = source.has(SINGLE_FILE)?;
    let Some(index) = ShardIndex::read(source)? else {
        if has_single {
            return Ok((single(), None));
        }
        let expected = "expected model.safetensors, or model.safetensors.index.json and its shards";
        let expected = expected.to_owned() + &instead_of_weights(&source.file_names());
        return Err(source.missing(SINGLE_FILE, expected));
    };
    let shards = index.shards()?;
    let mut absent = Vec::new();
    for shard in &shards {
        if !source.has(shard)? {
            absent.push(shard);
        }
    }
    let is_one_of_them = shards.iter().any(|shard| shard == SINGLE_FILE);
    if has_single && !is_one_of_them {
        if absent.len() == shards.len() {
            tracing::warn!(
                "{source} has none of the shards of {INDEX_FILE}; {SINGLE_FILE} is used: delete the index"
            );
            return Ok((single(), None));
        }
        tracing::warn!(
            "{source} has both {INDEX_FILE} and {SINGLE_FILE}: the index is used, {SINGLE_FILE} is ignored; \
             delete the one that is out of date"
        );
    }
    match absent.first() {
        None => Ok((shards, Some(index))),
        Some(first) => {
            let (absent, all) = (absent.len(), shards.len());
            let mut expected = format!(
                "{INDEX_FILE} lists it as a shard ({absent} of {all} are missing); download it again"
            );
            if has_single && !is_one_of_them {
                expected += ", or delete the index to use model.safetensors";
            }
            Err(source.missing(first, expected))
        }
    }
}

fn malformed(problem: String) -> ModelError {
    ModelError::ShardIndex {
        file: INDEX_FILE,
        problem,
    }
}
