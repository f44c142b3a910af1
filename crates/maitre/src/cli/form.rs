//! The flags that say what an answer has to look like.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use maitre::{GrammarOptions, GrammarSpec, JsonWhitespace};

/// What an answer has to look like: one of these at most.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct FormArgs {
    /// Answer with JSON that this schema accepts: a file, or the schema itself.
    #[arg(long, value_name = "FILE|TEXT")]
    json_schema: Option<String>,
    /// Answer with a JSON object.
    #[arg(long)]
    json_object: bool,
    /// Answer with a text that this regular expression matches.
    #[arg(long, value_name = "REGEX")]
    regex: Option<String>,
    /// Answer with a text of this grammar, in Lark's notation or in EBNF: a file, or the grammar itself.
    #[arg(long, value_name = "FILE|TEXT")]
    grammar: Option<String>,
    /// Answer with this text, or another one given so.
    #[arg(long, value_name = "TEXT")]
    choice: Vec<String>,
}

impl FormArgs {
    /// What the engine is asked for; `None` without any of the flags.
    pub(crate) fn options(&self) -> Result<Option<GrammarOptions>> {
        let whitespace = JsonWhitespace::default();
        let spec = if let Some(schema) = &self.json_schema {
            let schema = text_or_file(schema, "--json-schema", &["{", "true", "false"])?;
            GrammarSpec::JsonSchema { schema, whitespace }
        } else if self.json_object {
            GrammarSpec::JsonObject { whitespace }
        } else if let Some(regex) = &self.regex {
            GrammarSpec::Regex(regex.clone())
        } else if let Some(grammar) = &self.grammar {
            let parts = [":", "\n"];
            let is_text =
                !Path::new(grammar).is_file() && parts.iter().any(|it| grammar.contains(it));
            let start = if is_text { &[""][..] } else { &[] };
            GrammarSpec::Grammar(text_or_file(grammar, "--grammar", start)?)
        } else if !self.choice.is_empty() {
            GrammarSpec::Choice(self.choice.clone())
        } else {
            return Ok(None);
        };
        Ok(Some(spec.into()))
    }
}

/// `given` itself, if it begins as what is wanted does, else what is in the file of this name.
fn text_or_file(given: &str, flag: &str, starts: &[&str]) -> Result<String> {
    let text = given.trim_start();
    if starts.iter().any(|start| text.starts_with(start)) {
        return Ok(given.to_owned());
    }
    std::fs::read_to_string(given).with_context(|| format!("{flag}: {given} can't be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_as_it_is_and_a_file_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "start: \"a\"").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        for (given, expected) in [
            (path.as_str(), "start: \"a\""),
            ("start: \"b\"", "start: \"b\""),
        ] {
            let form = FormArgs {
                grammar: Some(given.to_owned()),
                ..FormArgs::default()
            };
            let options = form.options().unwrap().unwrap();
            assert_eq!(options.spec, GrammarSpec::Grammar(expected.to_owned()));
        }
        let missing = FormArgs {
            json_schema: Some("no-such-file.json".to_owned()),
            ..FormArgs::default()
        };
        let error = missing.options().unwrap_err().to_string();
        assert!(
            error.contains("--json-schema: no-such-file.json"),
            "{error}"
        );
        assert_eq!(FormArgs::default().options().unwrap(), None);
    }
}
