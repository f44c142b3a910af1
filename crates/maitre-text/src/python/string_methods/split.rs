//! Taking strings apart.

use minijinja::{Error, Value};

use crate::python::arguments::{Arguments, integer_or, is_absent, size, text};
use crate::python::budget::Context;
use crate::python::fail;
use crate::python::items::markup_like;
use crate::python::text::is_space;
use crate::python::values::{list, tuple};

/// `split`, `rsplit`, `splitlines`, `partition`, `rpartition`.
pub(super) fn call(
    context: &Context<'_, '_, '_>,
    receiver: &Value,
    name: &str,
    arguments: &Arguments,
) -> Result<Value, Error> {
    if name == "splitlines" {
        return super::lines(context, receiver, arguments);
    }
    let string = receiver.as_str().unwrap_or_default();
    let value = |part: &str| markup_like(receiver, part.to_owned());
    if name.ends_with("partition") {
        let [separator] = arguments.bind(name, [""], 1)?;
        let separator = separator.unwrap_or_default();
        let separator = not_empty(text(name, &separator)?)?;
        context.build(string.len())?;
        let found = if name == "partition" {
            string.split_once(separator)
        } else {
            string.rsplit_once(separator)
        };
        let parts = match found {
            Some((before, after)) => [before, separator, after],
            None if name == "partition" => [string, "", ""],
            None => ["", "", string],
        };
        return tuple(parts.map(value).into());
    }
    let [separator, limit] = arguments.bind(name, ["sep", "maxsplit"], 0)?;
    let limit = match integer_or(name, &limit, -1)? {
        limit if limit < 0 => usize::MAX,
        limit => size(limit),
    };
    let from_end = name == "rsplit";
    let parts = match &separator {
        Some(separator) if !is_absent(&Some(separator.clone())) => {
            let separator = not_empty(text(name, separator)?)?;
            let count = string.matches(separator).count().min(limit);
            context.items(count)?;
            let most = count.saturating_add(1);
            if from_end {
                let mut parts: Vec<&str> = string.rsplitn(most, separator).collect();
                parts.reverse();
                parts
            } else {
                string.splitn(most, separator).collect()
            }
        }
        _ => split_space(string, limit, from_end),
    };
    context.items(parts.len())?;
    context.build(string.len())?;
    list(parts.into_iter().map(value).collect())
}

fn not_empty(separator: &str) -> Result<&str, Error> {
    if separator.is_empty() {
        return Err(fail("empty separator"));
    }
    Ok(separator)
}

/// Splits at runs of white space; what is left after `limit` splits keeps its own.
fn split_space(string: &str, limit: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = if from_end {
        string.trim_end_matches(is_space)
    } else {
        string.trim_start_matches(is_space)
    };
    while !rest.is_empty() {
        let at = if from_end {
            rest.rfind(is_space)
        } else {
            rest.find(is_space)
        };
        match at.filter(|_| parts.len() < limit) {
            None => {
                parts.push(rest);
                break;
            }
            Some(at) if from_end => {
                let space = rest[at..].chars().next().map_or(1, char::len_utf8);
                parts.push(&rest[at + space..]);
                rest = rest[..at].trim_end_matches(is_space);
            }
            Some(at) => {
                parts.push(&rest[..at]);
                rest = rest[at..].trim_start_matches(is_space);
            }
        }
    }
    if from_end {
        parts.reverse();
    }
    parts
}
