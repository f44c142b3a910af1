//! The file of stored ratios: by kind of processor, and by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Part;
use super::ratio::Ratio;

/// Ratios by name.
pub(super) type Ratios = BTreeMap<String, Ratio>;

/// What is stored, for this kind of processor and for others.
pub(super) struct Stored {
    file: PathBuf,
    kind: String,
    all: Value,
}

impl Stored {
    /// What the file holds; nothing if there is none.
    pub(super) fn read(file: PathBuf, kind: String) -> Result<Self> {
        let all = match file.exists() {
            true => serde_json::from_str(&fs::read_to_string(&file)?)
                .with_context(|| format!("{} is no JSON", file.display()))?,
            false => json!({}),
        };
        Ok(Self { file, kind, all })
    }

    /// The ratios of these parts, for this kind of processor.
    pub(super) fn of(&self, parts: &[Part]) -> Ratios {
        let all = self.all[&self.kind].as_object().into_iter().flatten();
        let all = all.filter(|(name, _)| parts.contains(&Part::of(name)));
        all.filter_map(|(name, it)| Some((name.clone(), Ratio::of_json(it)?)))
            .collect()
    }

    /// A warning, if there are parts of which nothing is stored.
    ///
    /// # Errors
    ///
    /// The same as an error, if nothing is stored of any of them: no measurement could fail then.
    pub(super) fn check(&self, parts: &[Part]) -> Result<Option<String>> {
        let stored = self.of(parts);
        let is_stored = |part: Part| stored.keys().any(|name| Part::of(name) == part);
        let gaps = parts.iter().copied().filter(|&part| !is_stored(part));
        let gaps: Vec<&str> = gaps.map(Part::name).collect();
        if gaps.is_empty() {
            return Ok(None);
        }
        let warning = format!(
            "no ratio of {} is stored for {}, so nothing of that is compared and no regression of it is found; `cargo xtask bench \
             regression --write`, with --only PART for one part, stores the ratios of a version that is as fast as it should be, on a \
             quiet machine",
            gaps.join(" and "),
            self.kind
        );
        ensure!(!stored.is_empty(), "{warning}");
        Ok(Some(warning))
    }

    /// Stores what was found of these parts, but for ratios that are too uncertain.
    pub(super) fn write(&mut self, parts: &[Part], found: &Ratios) -> Result<()> {
        self.all[&self.kind] = merged(&self.all[&self.kind], parts, found);
        let text = serde_json::to_string_pretty(&self.all)? + "\n";
        fs::write(&self.file, text).with_context(|| format!("writing {}", self.file.display()))
    }
}

/// What is stored of a kind of processor once these parts have been measured anew. A ratio that is too uncertain takes the place of none.
fn merged(stored: &Value, parts: &[Part], found: &Ratios) -> Value {
    let is_unsure = |name: &str| found.get(name).is_some_and(|it| !it.is_sure());
    let kept = stored.as_object().into_iter().flatten();
    let kept = kept.filter(|(name, _)| !parts.contains(&Part::of(name)) || is_unsure(name));
    let kept = kept.map(|(name, it)| (name.clone(), it.clone()));
    let new = found.iter().filter(|(_, it)| it.is_sure());
    let new = new.map(|(name, it)| (name.clone(), it.to_json()));
    kept.chain(new)
        .collect::<BTreeMap<_, _>>()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(of_kind: Value) -> Stored {
        Stored {
            file: PathBuf::new(),
            kind: "here".to_owned(),
            all: json!({"here": of_kind, "elsewhere": {"kernel: a": [1, 1, 1]}}),
        }
    }

    #[test]
    fn what_is_stored_of_other_parts_stays() {
        let stored = json!({"kernel: a": [1, 1, 1], "kernel: b": [1, 1, 1], "0.6B bf16: 1 x 1 -> 1": [2, 2, 2]});
        let found = [("kernel: a".to_owned(), Ratio::around(0.5, 0.0))].into();
        assert_eq!(
            merged(&stored, &[Part::Kernels], &found),
            json!({"kernel: a": [0.5, 0.5, 0.5], "0.6B bf16: 1 x 1 -> 1": [2, 2, 2]})
        );
        assert_eq!(
            merged(&Value::Null, &Part::ALL, &found),
            json!({"kernel: a": [0.5, 0.5, 0.5]})
        );
    }

    #[test]
    fn a_ratio_that_is_too_uncertain_is_not_stored() {
        let stored = json!({"kernel: a": [1, 1, 1], "kernel: b": [1, 1, 1]});
        let found = [
            ("kernel: a".to_owned(), Ratio::around(0.6, 0.2)),
            ("kernel: b".to_owned(), Ratio::around(0.5, 0.0)),
            ("kernel: c".to_owned(), Ratio::around(0.6, 0.2)),
        ];
        assert_eq!(
            merged(&stored, &Part::ALL, &found.into()),
            json!({"kernel: a": [1, 1, 1], "kernel: b": [0.5, 0.5, 0.5]})
        );
    }

    #[test]
    fn parts_of_which_nothing_is_stored_are_named() {
        let all = stored(
            json!({"kernel: a": [1, 1, 1], "scheduler: b": [1, 1, 1], "0.6B bf16: c": [1, 1, 1]}),
        );
        assert_eq!(all.check(&Part::ALL).unwrap(), None);
        assert_eq!(all.of(&[Part::Scheduler]).len(), 1);

        let without = stored(json!({"scheduler: b": [1, 1, 1], "0.6B bf16: c": [1, 1, 1]}));
        let warning = without.check(&Part::ALL).unwrap().unwrap();
        assert!(
            warning.contains("no ratio of kernels is stored for here"),
            "{warning}"
        );
        let error = without.check(&[Part::Kernels]).unwrap_err().to_string();
        assert!(
            error.contains("no ratio of kernels is stored for here"),
            "{error}"
        );
        let error = stored(Value::Null).check(&Part::ALL).unwrap_err();
        let expected = "no ratio of serving and scheduler and kernels is stored for here";
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ratios.json");
        let read = || Stored::read(file.clone(), "here".to_owned()).unwrap();
        let found: Ratios = [("kernel: a".to_owned(), Ratio::around(0.5, 0.0))].into();
        read().write(&Part::ALL, &found).unwrap();
        assert_eq!(read().of(&Part::ALL), found);
    }
}
