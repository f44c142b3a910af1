//! What the Hub calls a model, in what a user may paste for it: `ORG/NAME`, `ORG/NAME:FORMAT` for one in GGUF files, or
//! the address of its page or of such a file.

use maitre::StartError;

/// Where the Hub is for people.
const HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];
/// Pages of the Hub that are about no model.
const OTHERS: [(&str, &str); 4] = [
    ("datasets", "a dataset"),
    ("spaces", "a space"),
    ("collections", "a collection"),
    ("papers", "a paper"),
];

/// A model on the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubName {
    /// `ORG/NAME`.
    pub(crate) name: String,
    /// A branch, tag or commit, if one is named.
    pub(crate) revision: Option<String>,
    /// The format of a model in GGUF files, or the name of its file.
    pub(crate) gguf: Option<String>,
}

impl HubName {
    /// The model that `text` names; `None` if it can only be a path. `mirror` is the address of another Hub.
    ///
    /// # Errors
    /// A URL that names no model.
    pub(crate) fn parse(
        flag: &'static str,
        text: &str,
        mirror: Option<&str>,
    ) -> Result<Option<Self>, StartError> {
        let Some(path) = address(text, mirror) else {
            if text.contains("://") {
                return Err(refused(
                    flag,
                    text,
                    "ORG/NAME or its page on the Hub (for a mirror of the Hub set HF_ENDPOINT), or a directory",
                ));
            }
            let (name, gguf) = without_format(text);
            return Ok(is_hub_name(name).then(|| Self {
                name: name.to_owned(),
                revision: None,
                gguf: gguf.map(str::to_owned),
            }));
        };
        Self::of_page(flag, text, path).map(Some)
    }

    /// `ORG/NAME`, or below it `tree/REVISION`, `blob/REVISION/FILE` and the like.
    fn of_page(flag: &'static str, text: &str, path: &str) -> Result<Self, StartError> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let path = path.strip_prefix("models/").unwrap_or(path);
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let first = parts.next().unwrap_or_default();
        if let Some((_, what)) = OTHERS.iter().find(|(folder, _)| *folder == first) {
            let expected = format!("a model, such as Qwen/Qwen3-0.6B; this is {what}");
            return Err(refused(flag, text, &expected));
        }
        let second = parts.next().unwrap_or_default();
        let (second, format) = without_format(second);
        let second = second.strip_suffix(".git").unwrap_or(second);
        let (second, after_at) = match second.split_once('@') {
            Some((second, revision)) => (second, Some(revision)),
            None => (second, None),
        };
        let name = format!("{first}/{second}");
        if !is_hub_name(&name) {
            return Err(refused(flag, text, "the page of a model, ORG/NAME"));
        }
        let revision = match parts.next() {
            Some("tree" | "blob" | "resolve" | "raw" | "commit") => parts.next(),
            _ => after_at,
        };
        let file = parts.collect::<Vec<_>>().join("/");
        let file = Some(file).filter(|file| file.ends_with(".gguf"));
        Ok(Self {
            name,
            revision: revision.map(|revision| revision.replace("%2F", "/")),
            gguf: file.or(format.map(str::to_owned)),
        })
    }
}

/// What stands before the first colon, and behind it.
fn without_format(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, format)) if is_format(format) => (name, Some(format)),
        _ => (text, None),
    }
}

/// A word as the names of files have it, with a folder or none.
fn is_format(text: &str) -> bool {
    let mut parts = text.split('/');
    parts.clone().count() <= 2 && parts.all(is_word)
}

fn refused(flag: &'static str, found: &str, expected: &str) -> StartError {
    StartError::Setting {
        setting: flag,
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

/// The path on the Hub, if `text` is an address there.
fn address<'a>(text: &'a str, mirror: Option<&str>) -> Option<&'a str> {
    if let Some(path) = text
        .strip_prefix("hf://")
        .or_else(|| text.strip_prefix("git@hf.co:"))
    {
        return Some(path);
    }
    let mirror = mirror.map(|mirror| without_scheme(mirror).trim_end_matches('/'));
    let has_scheme = text.contains("://");
    let rest = without_scheme(text);
    HOSTS
        .into_iter()
        // A mirror without a scheme could be a path.
        .chain(mirror.filter(|_| has_scheme))
        .find_map(|host| {
            let (start, path) = rest.split_at_checked(host.len())?;
            let is_host = start.eq_ignore_ascii_case(host);
            if is_host {
                path.strip_prefix('/')
            } else {
                None
            }
        })
}

fn without_scheme(text: &str) -> &str {
    text.split_once("://")
        .filter(|(scheme, _)| ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()))
        .map_or(text, |(_, rest)| rest)
}

/// ORG/NAME: two parts of the characters the Hub allows, and not a path written as one.
fn is_hub_name(model: &str) -> bool {
    matches!(model.split_once('/'), Some((org, name)) if is_word(org) && is_word(name))
}

/// A name of the characters the Hub allows.
fn is_word(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(String, Option<String>)>, String> {
        HubName::parse("--model", text, Some("http://mirror:81/hf/"))
            .map(|found| found.map(|found| (found.name, found.revision)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn hub_names_are_told_from_paths() {
        for name in ["Qwen/Qwen3-0.6B", "org/a.b_c"] {
            assert_eq!(parse(name), Ok(Some((name.to_owned(), None))), "{name}");
        }
        for path in [
            "./model",
            "../model",
            "/abs/model",
            "model",
            "a/b/c",
            "a/",
            "/b",
            "a b/c",
            "~/model",
            "mirror:81/hf/a/b",
        ] {
            assert_eq!(parse(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn the_address_of_a_models_page_names_it() {
        for (address, revision) in [
            ("https://huggingface.co/Qwen/Qwen3-0.6B", None),
            ("https://huggingface.co/Qwen/Qwen3-0.6B/", None),
            ("HTTPS://HuggingFace.co/Qwen/Qwen3-0.6B", None),
            ("http://www.huggingface.co/Qwen/Qwen3-0.6B", None),
            ("https://hf.co/Qwen/Qwen3-0.6B?library=x#files", None),
            ("huggingface.co/Qwen/Qwen3-0.6B", None),
            ("hf.co/Qwen/Qwen3-0.6B", None),
            ("hf://Qwen/Qwen3-0.6B", None),
            ("hf://models/Qwen/Qwen3-0.6B", None),
            ("hf://Qwen/Qwen3-0.6B@v1", Some("v1")),
            ("git@hf.co:Qwen/Qwen3-0.6B", None),
            ("https://huggingface.co/Qwen/Qwen3-0.6B.git", None),
            ("http://mirror:81/hf/Qwen/Qwen3-0.6B", None),
            ("https://huggingface.co/Qwen/Qwen3-0.6B/discussions", None),
            (
                "https://huggingface.co/Qwen/Qwen3-0.6B/tree/main",
                Some("main"),
            ),
            (
                "https://huggingface.co/Qwen/Qwen3-0.6B/tree/refs%2Fpr%2F3",
                Some("refs/pr/3"),
            ),
            (
                "https://huggingface.co/Qwen/Qwen3-0.6B/blob/v2/config.json",
                Some("v2"),
            ),
        ] {
            let expected = ("Qwen/Qwen3-0.6B".to_owned(), revision.map(str::to_owned));
            assert_eq!(parse(address), Ok(Some(expected)), "{address}");
        }
    }

    #[test]
    fn a_format_or_a_file_chooses_among_gguf_files() {
        let gguf = |text: &str| {
            let found = HubName::parse("--model", text, None).unwrap();
            found.map(|found| (found.name, found.revision, found.gguf))
        };
        for (text, revision, format) in [
            ("org/m-GGUF:Q4_K_M", None, "Q4_K_M"),
            ("org/m-GGUF:q8/m-q8.gguf", None, "q8/m-q8.gguf"),
            ("hf.co/org/m-GGUF:Q4_K_M", None, "Q4_K_M"),
            ("https://hf.co/org/m-GGUF:Q4_K_M", None, "Q4_K_M"),
            (
                "https://huggingface.co/org/m-GGUF/blob/main/m-Q8_0.gguf",
                Some("main"),
                "m-Q8_0.gguf",
            ),
            (
                "https://huggingface.co/org/m-GGUF/resolve/v2/a/m-Q8_0.gguf?download=true",
                Some("v2"),
                "a/m-Q8_0.gguf",
            ),
        ] {
            let expected = (
                "org/m-GGUF".to_owned(),
                revision.map(str::to_owned),
                Some(format.to_owned()),
            );
            assert_eq!(gguf(text), Some(expected), "{text}");
        }
        for path in [
            "org/m:",
            "org/m:a b",
            "org/m:../x",
            "org/m:a/b/c",
            "m:Q4_K_M",
            "C:/m",
        ] {
            assert_eq!(gguf(path), None, "{path}");
        }
    }

    #[test]
    fn an_address_of_something_else_is_refused_with_what_it_is() {
        for (address, why) in [
            ("https://huggingface.co/datasets/org/data", "a dataset"),
            ("https://huggingface.co/spaces/org/app", "a space"),
            ("https://huggingface.co/Qwen", "the page of a model"),
            ("https://huggingface.co/", "the page of a model"),
            ("https://huggingface.co.evil.org/a/b", "set HF_ENDPOINT"),
            ("https://example.org/a/b", "set HF_ENDPOINT"),
            ("s3://bucket/model", "ORG/NAME or its page"),
            ("file:///model", "or a directory"),
        ] {
            let error = parse(address).unwrap_err();
            assert!(error.contains(why) && error.contains(address), "{error}");
        }
    }
}
