//! Names of tensors in files that have other ones than most families.

/// How names in a file lead to those that are used here, which are Llama's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileNames {
    /// A name that begins with the first of a pair in a file begins with the second here. The first pair that fits counts.
    pub(crate) prefixes: &'static [(&'static str, &'static str)],
    /// How names of tensors begin that are not loaded.
    pub(crate) beside: &'static [&'static str],
    /// How names of matrices end that have their inputs as rows there.
    pub(crate) transposed: &'static [&'static str],
}

impl FileNames {
    /// Of files whose names are used as they are.
    pub(crate) const AS_IS: Self = Self {
        prefixes: &[],
        beside: &[],
        transposed: &[],
    };

    /// Whether a tensor of a file is not loaded.
    pub(crate) fn is_beside(&self, stored: &str) -> bool {
        self.beside.iter().any(|prefix| stored.starts_with(prefix))
    }

    /// Whether rows and columns of a tensor change places on the way here.
    pub(crate) fn is_transposed(&self, name: &str) -> bool {
        self.transposed.iter().any(|end| name.ends_with(end))
    }

    /// What a tensor of a file is called here.
    pub(crate) fn name_of(&self, stored: &str) -> String {
        let mut names = self.prefixes.iter().filter_map(|(there, here)| {
            let rest = stored.strip_prefix(there)?;
            Some(format!("{here}{rest}"))
        });
        names.next().unwrap_or_else(|| stored.to_owned())
    }

    /// What a tensor may be called in a file.
    pub(crate) fn in_file(&self, name: &str) -> Vec<String> {
        let names = self.prefixes.iter().filter_map(|(there, here)| {
            let rest = name.strip_prefix(here)?;
            Some(format!("{there}{rest}"))
        });
        let mut names: Vec<String> = names.collect();
        if names.is_empty() {
            names.push(name.to_owned());
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_exchanged() {
        let names = FileNames {
            prefixes: &[("inner.model.", "model."), ("model.inner.", "model.")],
            beside: &["tower."],
            transposed: &[".fc.weight"],
        };
        assert_eq!(
            names.name_of("inner.model.norm.weight"),
            "model.norm.weight"
        );
        assert_eq!(
            names.name_of("model.inner.norm.weight"),
            "model.norm.weight"
        );
        assert_eq!(names.name_of("other.weight"), "other.weight");
        assert_eq!(
            names.in_file("model.norm.weight"),
            ["inner.model.norm.weight", "model.inner.norm.weight"]
        );
        assert_eq!(names.in_file("other.weight"), ["other.weight"]);
        assert!(
            names.is_transposed("model.0.fc.weight") && !names.is_transposed("model.0.fc.bias")
        );
        assert!(names.is_beside("tower.norm.weight") && !names.is_beside("model.tower.weight"));
        assert_eq!(
            FileNames::AS_IS.in_file("model.norm.weight"),
            ["model.norm.weight"]
        );
    }
}
