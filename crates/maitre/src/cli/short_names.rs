//! Short names for small models of the Hub: one table, and what is near a name that is not in it.

/// A model by its short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortName {
    /// As it is typed: family and size.
    pub(crate) name: &'static str,
    /// `ORG/NAME` on the Hub.
    pub(crate) repository: &'static str,
    /// Its GGUF file there.
    pub(crate) file: &'static str,
    /// Under which terms its authors give it.
    pub(crate) licence: &'static str,
}

/// The branch that is meant.
pub(crate) const REVISION: &str = "main";

const APACHE: &str = "Apache-2.0";
const MIT: &str = "MIT";
const GEMMA: &str = "Gemma Terms of Use";
const LLAMA_3_2: &str = "Llama 3.2 Community License";

macro_rules! short_names {
    ($(($name:literal, $repository:literal, $file:literal, $licence:expr),)*) => {
        &[$(ShortName { name: $name, repository: $repository, file: $file, licence: $licence },)*]
    };
}

/// All of them, by family.
pub(crate) const SHORT_NAMES: &[ShortName] = short_names![
    (
        "gemma3:270m",
        "ggml-org/gemma-3-270m-it-GGUF",
        "gemma-3-270m-it-Q8_0.gguf",
        GEMMA
    ),
    (
        "gemma3:1b",
        "ggml-org/gemma-3-1b-it-GGUF",
        "gemma-3-1b-it-Q4_K_M.gguf",
        GEMMA
    ),
    (
        "llama3.2:1b",
        "bartowski/Llama-3.2-1B-Instruct-GGUF",
        "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        LLAMA_3_2
    ),
    (
        "olmo2:1b",
        "allenai/OLMo-2-0425-1B-Instruct-GGUF",
        "OLMo-2-0425-1B-Instruct-Q4_K_M.gguf",
        APACHE
    ),
    (
        "phi3:mini",
        "microsoft/Phi-3-mini-4k-instruct-gguf",
        "Phi-3-mini-4k-instruct-q4.gguf",
        MIT
    ),
    (
        "phi4:mini",
        "unsloth/Phi-4-mini-instruct-GGUF",
        "Phi-4-mini-instruct-Q4_K_M.gguf",
        MIT
    ),
    (
        "qwen2.5:0.5b",
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        "qwen2.5-0.5b-instruct-q4_k_m.gguf",
        APACHE
    ),
    (
        "qwen2.5:1.5b",
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
        "qwen2.5-1.5b-instruct-q4_k_m.gguf",
        APACHE
    ),
    (
        "qwen3:0.6b",
        "Qwen/Qwen3-0.6B-GGUF",
        "Qwen3-0.6B-Q8_0.gguf",
        APACHE
    ),
    (
        "qwen3:1.7b",
        "Qwen/Qwen3-1.7B-GGUF",
        "Qwen3-1.7B-Q8_0.gguf",
        APACHE
    ),
    (
        "qwen3:4b",
        "Qwen/Qwen3-4B-GGUF",
        "Qwen3-4B-Q4_K_M.gguf",
        APACHE
    ),
    (
        "smollm2:135m",
        "bartowski/SmolLM2-135M-Instruct-GGUF",
        "SmolLM2-135M-Instruct-Q4_K_M.gguf",
        APACHE
    ),
    (
        "smollm2:360m",
        "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF",
        "smollm2-360m-instruct-q8_0.gguf",
        APACHE
    ),
    (
        "smollm2:1.7b",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
        "smollm2-1.7b-instruct-q4_k_m.gguf",
        APACHE
    ),
];

/// The model of this short name, in any case of letters.
pub(crate) fn find(name: &str) -> Option<&'static ShortName> {
    let mut all = SHORT_NAMES.iter();
    all.find(|short| short.name.eq_ignore_ascii_case(name))
}

/// Letters that a name may differ by from a near one.
const NEAR: usize = 2;

/// The short names that `name` may have been meant to be: those of its family, and those that differ by a letter or two.
pub(crate) fn near(name: &str) -> Vec<&'static str> {
    let name = name.to_ascii_lowercase();
    let family = name.split(':').next().unwrap_or_default();
    let all = SHORT_NAMES.iter().map(|short| short.name);
    let of_family = |known: &&str| known.split(':').next() == Some(family);
    let found: Vec<&str> = all
        .clone()
        .filter(|known| of_family(known) || distance(known, &name) <= NEAR)
        .collect();
    if !found.is_empty() {
        return found;
    }
    let is_near = |known: &&str| {
        let known = known.split(':').next().unwrap_or_default();
        distance(known, family) <= 1
    };
    all.filter(is_near).collect()
}

/// How many letters are to be put in, taken out or exchanged to make one word the other (Levenshtein 1966).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.chars().enumerate() {
        let mut before = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (b, above) in other.iter().zip(row.iter().skip(1)) {
            let changed = before + usize::from(a != *b);
            left = changed.min(left + 1).min(above + 1);
            before = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::hub_name::HubName;

    #[test]
    fn each_name_leads_to_one_file_on_the_hub() {
        let names: BTreeSet<&str> = SHORT_NAMES.iter().map(|short| short.name).collect();
        assert_eq!(names.len(), SHORT_NAMES.len());
        for short in SHORT_NAMES {
            assert!(short.file.ends_with(".gguf"), "{}", short.name);
            let (family, size) = short.name.split_once(':').unwrap();
            assert!(!family.is_empty() && !size.is_empty());
            assert_eq!(short.name, short.name.to_ascii_lowercase());
            // It can be a name on the Hub, and its short name can't.
            let address = format!("{}:{}", short.repository, short.file);
            let found = HubName::parse("--model", &address, None).unwrap().unwrap();
            assert_eq!(
                (found.name.as_str(), found.gguf.as_deref()),
                (short.repository, Some(short.file))
            );
            assert_eq!(HubName::parse("--model", short.name, None).unwrap(), None);
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_near_ones_are_told() {
        assert_eq!(
            find("Qwen3:0.6B").unwrap().repository,
            "Qwen/Qwen3-0.6B-GGUF"
        );
        assert_eq!(find("qwen3"), None);
        for (name, expected) in [
            ("qwen3", &["qwen3:0.6b", "qwen3:1.7b", "qwen3:4b"][..]),
            ("qwen3:8b", &["qwen3:0.6b", "qwen3:1.7b", "qwen3:4b"]),
            ("smolm2:135m", &["smollm2:135m"]),
            ("gema3", &["gemma3:270m", "gemma3:1b"]),
            ("phi4:mni", &["phi3:mini", "phi4:mini"]),
            ("tea", &[]),
            ("", &[]),
        ] {
            assert_eq!(near(name), expected, "{name}");
        }
    }

    #[test]
    fn distances_count_letters() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 2),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
