//! What is wrong with a request, from a front's checks and from the engine's, under one set of
//! field names.

use maitre_engine::{EngineError, Violation};

use crate::service::call::FieldNames;

/// What a front found wrong before the engine has looked.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    found: Vec<Violation>,
    /// How many more there are.
    omitted: usize,
}

/// Violations that are kept; a status carries some dozens of them. A message of a few MiB can have a million
/// things wrong with it.
const MAX_FOUND: usize = 1000;

impl Violations {
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.found.len() < MAX_FOUND {
            self.found.push(Violation::new(field, description));
        } else {
            self.omitted += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many were found.
    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// The fields, in the order in which they were found.
    #[cfg(test)]
    pub(crate) fn fields(&self) -> Vec<&str> {
        self.found
            .iter()
            .map(|violation| violation.field.as_str())
            .collect()
    }

    /// What is wrong in all, when the engine has been asked as well; its fields get the names of the message.
    pub(crate) fn with_those_of(
        mut self,
        refusal: Option<EngineError>,
        names: FieldNames,
    ) -> Vec<Violation> {
        if let Some(EngineError::Invalid { violations }) = refusal {
            let found_here = self.found.len();
            for mut violation in violations {
                let known = self.found[..found_here]
                    .iter()
                    .any(|v| overlap(&v.field, &violation.field));
                if !known {
                    violation.field = names(&violation.field);
                    self.found.push(violation);
                }
            }
        }
        self.into_vec()
    }

    /// What is wrong in all.
    pub(crate) fn into_vec(mut self) -> Vec<Violation> {
        if self.omitted > 0 {
            let more = format!("and {} more violations", self.omitted);
            self.found.push(Violation::new("", more));
        }
        self.found
    }
}

/// Whether one path is the other or leads to it: what was wrong with a part of a field already
/// explains what the engine finds in the field as a whole.
fn overlap(one: &str, other: &str) -> bool {
    let leads = |short: &str, long: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    leads(one, other) || leads(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_both_sides_are_listed_once() {
        let mut here = Violations::default();
        here.add("messages[1].role", "is \"robot\"");
        here.add("service.deadline", "is negative");
        let refusal = EngineError::Invalid {
            violations: vec![
                Violation::new("messages", "the template failed"),
                Violation::new("n", "is 0"),
                Violation::new("service.queue_timeout", "is 0"),
            ],
        };
        let names: FieldNames = |field| match field {
            "n" => "sampling.n".to_owned(),
            other => other.to_owned(),
        };
        let fields: Vec<String> = here
            .with_those_of(Some(refusal), names)
            .into_iter()
            .map(|v| v.field)
            .collect();
        assert_eq!(
            fields,
            [
                "messages[1].role",
                "service.deadline",
                "sampling.n",
                "service.queue_timeout"
            ]
        );
    }
}
