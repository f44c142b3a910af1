//! Models that are split among files: `NAME-00001-of-00003.gguf` has the settings, and all have tensors.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use maitre_gguf::ModelFiles;

use super::{Part, broken};
use crate::error::ModelError;

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The files after the first one of a model, at `path`; none of a model in one file.
pub(super) fn open_rest(path: &Path, first: &Part) -> Result<Vec<Part>, ModelError> {
    let count = first.unsigned(COUNT)?.unwrap_or(0);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let files = name.and_then(ModelFiles::of).map(|model| model.files);
    let Some(files) = files.filter(|files| files.len() as u64 == count) else {
        return Err(unusable(
            path,
            format!(
                "is one of {count} files, and the others are found by their names: give it the one that it was made \
                 with, which ends in -00001-of-{count:05}.gguf"
            ),
        ));
    };
    let number = first.unsigned(NUMBER)?.unwrap_or(0);
    if number != 0 {
        let begin = files.first().map_or("", String::as_str);
        let problem = format!("is part {} of {count}: name the first, {begin}", number + 1);
        return Err(unusable(path, problem));
    }
    let rest = files.iter().enumerate().skip(1);
    let rest: Vec<Part> = rest
        .map(|(number, file)| open_part(&path.with_file_name(file), number as u64, count))
        .collect::<Result<_, _>>()?;
    check_tensors(path, first, &rest)?;
    Ok(rest)
}

/// Refuses a file that is empty, and one that is not there though its name says that it belongs to others.
pub(super) fn refuse_absent(path: &Path) -> Result<(), ModelError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let count = name
        .and_then(ModelFiles::of)
        .map_or(1, |model| model.files.len());
    let problem = match path.metadata() {
        Ok(file) if file.is_file() && file.len() == 0 => {
            "is empty: download it again, or convert the model again".to_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && count > 1 => {
            format!("is not there, and is one of the {count} files of the model: download it too")
        }
        // What else is wrong is told where it is opened.
        _ => return Ok(()),
    };
    Err(unusable(path, problem))
}

fn open_part(path: &Path, number: u64, count: u64) -> Result<Part, ModelError> {
    let part = Part::open(path)?;
    let said = (part.unsigned(NUMBER)?, part.unsigned(COUNT)?);
    if said != (Some(number), Some(count)) {
        let told = |number: Option<u64>| number.map_or("none".to_owned(), |it| it.to_string());
        let problem = format!(
            "says {NUMBER} = {} and {COUNT} = {}; its name says {number} and {count}: it is another model's, or was \
             renamed",
            told(said.0),
            told(said.1)
        );
        return Err(unusable(path, problem));
    }
    Ok(part)
}

/// That no two parts have a tensor of one name, and that they have as many as the first one says.
fn check_tensors(path: &Path, first: &Part, rest: &[Part]) -> Result<(), ModelError> {
    let mut by_name: BTreeMap<&str, &Part> = BTreeMap::new();
    for part in std::iter::once(first).chain(rest) {
        for tensor in part.tensors() {
            if let Some(other) = by_name.insert(&tensor.name, part) {
                return Err(ModelError::DuplicateTensor {
                    name: tensor.name.clone(),
                    first: other.path(),
                    second: part.path(),
                });
            }
        }
    }
    let found = by_name.len() as u64;
    match first.unsigned(TENSORS)? {
        Some(expected) if expected != found => Err(unusable(
            path,
            format!(
                "says that all parts hold {expected} tensors, and they hold {found}: download them again"
            ),
        )),
        _ => Ok(()),
    }
}

impl Part {
    fn unsigned(&self, key: &str) -> Result<Option<u64>, ModelError> {
        let said = self.index.unsigned(key);
        said.map_err(|error| broken(self.file.path(), &error))
    }
}

fn unusable(path: &Path, problem: String) -> ModelError {
    ModelError::UnusableFile {
        file: path.display().to_string(),
        problem,
    }
}
