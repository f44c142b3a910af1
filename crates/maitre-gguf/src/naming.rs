//! What the names of files say: which of them are one model, and in which format its numbers are.
//!
//! ```text
//! FOLDER/NAME-Q4_K_M.gguf                   a model in one file
//! FOLDER/NAME-Q8_0-00002-of-00003.gguf      the second of three files of a model
//! ```

/// What all files end in.
const ENDING: &str = ".gguf";
/// Digits of a part's number and of the count.
const DIGITS: usize = 5;
/// Files that go with a model and are none: the encoder of its images, statistics for quantizing it.
const COMPANIONS: [&str; 2] = ["mmproj", "imatrix"];
/// What stands before a format in which matrices are mixed in another way.
const MIXTURE: &str = "UD";

/// The files of one model, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// Their name without ending and number, with the folder.
    pub stem: String,
    /// All there must be, in order: one, or each part.
    pub files: Vec<String>,
}

impl ModelFiles {
    /// The model that has this file: the file alone, or all parts if it is one. `None` if it is no GGUF file.
    ///
    /// ```
    /// use maitre_gguf::ModelFiles;
    ///
    /// let model = ModelFiles::of("tea-Q8_0-00002-of-00002.gguf");
    /// let model = model.ok_or("no GGUF file")?;
    /// assert_eq!(model.files[0], "tea-Q8_0-00001-of-00002.gguf");
    /// assert_eq!(model.tag(), "Q8_0");
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn of(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(ENDING)?;
        let Some((stem, count)) = split(stem) else {
            return Some(Self {
                stem: stem.to_owned(),
                files: vec![file.to_owned()],
            });
        };
        let part = |number: u32| format!("{stem}-{number:05}-of-{count:05}{ENDING}");
        Some(Self {
            stem: stem.to_owned(),
            files: (1..=count).map(part).collect(),
        })
    }

    /// The models among these files, each once, in the order of their names. Files that go with models are left out, and
    /// a part stands for its whole model, whether or not the others are there.
    pub fn among<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let is_companion = |name: &str| {
            let name = name.to_ascii_lowercase();
            COMPANIONS.iter().any(|part| name.contains(part))
        };
        let names = names.into_iter().filter(|name| !is_companion(name));
        let mut models: Vec<Self> = names.filter_map(Self::of).collect();
        models.sort_unstable_by(|one, other| {
            (&one.stem, one.files.len()).cmp(&(&other.stem, other.files.len()))
        });
        models.dedup();
        models
    }

    /// How its name says that its numbers are kept, such as `Q4_K_M`: what stands last in it.
    #[must_use]
    pub fn tag(&self) -> &str {
        let name = self.stem.rsplit('/').next().unwrap_or_default();
        let begin = |end: usize| {
            let before = name.get(..end).unwrap_or_default();
            before.rfind(['-', '.']).map_or(0, |at| at + 1)
        };
        let last = begin(name.len());
        let previous = begin(last.saturating_sub(1));
        let is_mixture = name
            .get(previous..last.saturating_sub(1))
            .is_some_and(|word| word.eq_ignore_ascii_case(MIXTURE));
        let begin = if is_mixture { previous } else { last };
        name.get(begin..).unwrap_or_default()
    }

    /// Those of `models` that `tag` means, in any case of its letters: a format, or a file's whole name. One is an answer;
    /// none and several are not.
    pub fn meant<'a>(models: &'a [Self], tag: &str) -> Vec<&'a Self> {
        let exact = |model: &&Self| {
            model.tag().eq_ignore_ascii_case(tag) || model.files.iter().any(|file| file == tag)
        };
        let ends = |model: &&Self| {
            let rest = model.stem.len().checked_sub(tag.len());
            let parts = rest.and_then(|rest| model.stem.split_at_checked(rest));
            parts.is_some_and(|(before, end)| {
                end.eq_ignore_ascii_case(tag) && before.ends_with(['-', '.'])
            })
        };
        let found: Vec<&Self> = models.iter().filter(exact).collect();
        match found.is_empty() {
            false => found,
            true => models.iter().filter(ends).collect(),
        }
    }
}

/// A name that ends in a part's number and the count of parts: what is before them, and the count.
fn split(stem: &str) -> Option<(&str, u32)> {
    let number = |text: &str| {
        let digits = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok())?
    };
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (rest, part) = rest.rsplit_once('-')?;
    let (part, count) = (number(part)?, number(count)?);
    (1..=count).contains(&part).then_some((rest, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stands_for_its_model() {
        for name in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
            let model = ModelFiles::of(name).unwrap();
            assert_eq!(model.stem, "m");
            let all = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
            assert_eq!(model.files, all);
        }
        // What only looks like one is a file of its own.
        for name in [
            "m.gguf",
            "m-00003-of-00002.gguf",
            "m-00000-of-00002.gguf",
            "m-1-of-2.gguf",
            "m-of-00002.gguf",
            "00001-of-00002.gguf",
            "m-0000x-of-00002.gguf",
        ] {
            assert_eq!(ModelFiles::of(name).unwrap().files, [name]);
        }
        assert_eq!(ModelFiles::of("m.safetensors"), None);
    }

    #[test]
    fn models_are_told_from_what_goes_with_them() {
        let found = ModelFiles::among([
            "README.md",
            "Q8_0/m-Q8_0-00002-of-00002.gguf",
            "mmproj-m-f16.gguf",
            "m.imatrix.gguf",
            "m-Q4_0.gguf",
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
            "m.Q4_0.gguf.part",
        ]);
        let stems: Vec<&str> = found.iter().map(|it| it.stem.as_str()).collect();
        assert_eq!(stems, ["Q8_0/m-Q8_0", "m-Q4_0"]);
    }

    #[test]
    fn a_tag_is_what_stands_last() {
        for (name, tag) in [
            ("SmolLM2-135M-Instruct-Q4_K_M.gguf", "Q4_K_M"),
            ("tinyllama-1.1b-chat-v1.0.Q5_0.gguf", "Q5_0"),
            ("gemma-3-270m-it-qat-q4_0.gguf", "q4_0"),
            ("m-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
            ("m.i1-IQ4_XS.gguf", "IQ4_XS"),
            ("BF16/m-BF16-00001-of-00002.gguf", "BF16"),
            ("f16.gguf", "f16"),
            (".gguf", ""),
        ] {
            assert_eq!(ModelFiles::of(name).unwrap().tag(), tag, "{name}");
        }
    }

    #[test]
    fn a_tag_means_a_file_in_any_case_of_letters() {
        let models = ModelFiles::among([
            "m-Q4_K_M.gguf",
            "m-UD-Q4_K_M.gguf",
            "m-UD-Q2_K_XL.gguf",
            "m_q8_0.gguf",
            "a/m-F16.gguf",
            "b/m-F16.gguf",
        ]);
        let meant = |tag: &str| -> Vec<String> {
            let found = ModelFiles::meant(&models, tag).into_iter();
            found.map(|it| it.stem.clone()).collect()
        };
        assert_eq!(meant("q4_k_m"), ["m-Q4_K_M"]);
        assert_eq!(meant("ud-Q4_K_M"), ["m-UD-Q4_K_M"]);
        assert_eq!(meant("Q2_K_XL"), ["m-UD-Q2_K_XL"]);
        assert_eq!(meant("m_q8_0.gguf"), ["m_q8_0"]);
        assert_eq!(meant("a/m-F16.gguf"), ["a/m-F16"]);
        assert_eq!(meant("f16"), ["a/m-F16", "b/m-F16"]);
        // A part of a format's name is none.
        for tag in ["Q4_K", "K_M", "_M", "q8_0", ""] {
            assert!(meant(tag).is_empty(), "{tag}");
        }
    }
}
