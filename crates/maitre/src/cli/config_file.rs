//! `--config FILE`: flags kept in a TOML file, `max-seqs = 64` for `--max-seqs 64`.
//!
//! The file's entries are put in front of the flags given by hand, and of two equal flags the later
//! one holds (of those that may be given several times, all): so the command line overrides the file, and both go through the same checks.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Flags whose value is `on` or `off`; in a file `true` and `false` mean that too.
const SWITCHES: [&str; 1] = ["deterministic"];

/// The arguments with the entries of `--config FILE`, if it is there, put in front of the flags.
pub(crate) fn expand(arguments: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(file) = config_path(&arguments) else {
        return Ok(arguments);
    };
    let text = fs::read_to_string(&file)
        .with_context(|| format!("could not read the configuration file {}", file.display()))?;
    let table: Table = text
        .parse()
        .with_context(|| format!("{} is not a TOML file", file.display()))?;
    let flags = flags(&table).with_context(|| format!("in {}", file.display()))?;
    // Behind the program's and the command's names, before the flags given by hand.
    let mut expanded = arguments;
    let at = expanded.len().min(2);
    expanded.splice(at..at, flags);
    Ok(expanded)
}

fn config_path(arguments: &[OsString]) -> Option<std::path::PathBuf> {
    arguments.iter().enumerate().find_map(|(index, argument)| {
        let text = argument.to_str()?;
        if text == "--config" {
            return arguments.get(index + 1).map(Into::into);
        }
        text.strip_prefix("--config=").map(Into::into)
    })
}

fn flags(table: &Table) -> Result<Vec<OsString>> {
    let mut flags = Vec::new();
    for (key, value) in table {
        match value {
            Value::Boolean(on) if SWITCHES.contains(&key.as_str()) => {
                let value = if *on { "on" } else { "off" };
                flags.push(format!("--{key}={value}").into());
            }
            Value::Boolean(true) => flags.push(format!("--{key}").into()),
            Value::Boolean(false) => {}
            Value::Array(values) => {
                for value in values {
                    flags.push(flag(key, value)?);
                }
            }
            value => flags.push(flag(key, value)?),
        }
    }
    Ok(flags)
}

/// One word, so that a value that starts with a dash stays a value.
fn flag(key: &str, value: &Value) -> Result<OsString> {
    let value = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => bail!(
            "{key} has a value of type {}; expected a text, a number, true or false, or a list of texts or \
             numbers for a flag that may be given several times",
            other.type_str()
        ),
    };
    Ok(format!("--{key}={value}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(arguments: &[&str]) -> Vec<OsString> {
        arguments.iter().map(OsString::from).collect()
    }

    #[test]
    fn entries_come_before_the_flags_given_by_hand() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "max-seqs = 64\nmodel = \"bundled\"\n").unwrap();
        let path = file.path().to_str().unwrap();
        let expanded = expand(words(&[
            "maitre",
            "serve",
            "--config",
            path,
            "--max-seqs",
            "8",
        ]))
        .unwrap();
        let expected = words(&[
            "maitre",
            "serve",
            "--max-seqs=64",
            "--model=bundled",
            "--config",
            path,
            "--max-seqs",
            "8",
        ]);
        assert_eq!(expanded, expected);
    }

    #[test]
    fn switches_and_lists_are_flags_too() {
        let table = "a = true\nb = false\nc = [\"x=1\", \"y=2\"]\n"
            .parse()
            .unwrap();
        assert_eq!(
            flags(&table).unwrap(),
            words(&["--a", "--c=x=1", "--c=y=2"])
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let missing = expand(words(&["maitre", "serve", "--config=no/such.toml"])).unwrap_err();
        assert!(
            format!("{missing:#}").contains("no/such.toml"),
            "{missing:#}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (text, expected) in [
            ("max-seqs = ", "not a TOML file"),
            ("max-seqs = [[1]]", "max-seqs"),
            ("[max-seqs]", "max-seqs"),
        ] {
            fs::write(file.path(), text).unwrap();
            let error = expand(words(&["maitre", "serve", "--config", path])).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
