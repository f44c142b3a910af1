//! Ids of calls of tools, by which the tools' answers refer to them.
//!
//! Models never write ids that are worth passing on, but the templates of some show them ids in a form that they were
//! trained on, or refuse others. So the ids that are made up here have the form that the model's format of calls wants.

use std::hash::{BuildHasher as _, RandomState};

use maitre_engine::ToolFormat;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters of an id, as OpenAI's have.
const ID_LETTERS: usize = 24;
/// Mistral's templates take no others.
const MISTRAL_LETTERS: usize = 9;

/// Names the calls in the answers to one request: each time the same, and no two requests alike.
#[derive(Debug, Clone)]
pub(crate) struct CallIds {
    key: RandomState,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// `call_` and letters.
    OpenAi,
    /// Nine letters.
    Mistral,
    /// `functions.NAME:N`, where the calls of a conversation are counted.
    Kimi { calls_before: usize },
}

impl CallIds {
    /// For a model with this format of calls, in a conversation that has `calls_before` calls.
    pub(crate) fn new(format: Option<&ToolFormat>, calls_before: usize) -> Self {
        let form = match format.map(|format| format.name) {
            Some("mistral" | "mistral_v11") => Form::Mistral,
            Some("kimi_k2") => Form::Kimi { calls_before },
            _ => Form::OpenAi,
        };
        Self {
            key: RandomState::new(),
            form,
        }
    }

    /// The id of a call of `name`: the `call`th of the `answer`th answer.
    pub(crate) fn id(&self, answer: u32, call: u32, name: &str) -> String {
        match self.form {
            Form::OpenAi => format!("call_{}", self.letters(ID_LETTERS, answer, call)),
            Form::Mistral => self.letters(MISTRAL_LETTERS, answer, call),
            Form::Kimi { calls_before } => {
                let number = calls_before.saturating_add(call as usize);
                format!("functions.{name}:{number}")
            }
        }
    }

    fn letters(&self, count: usize, answer: u32, call: u32) -> String {
        let letter = |place: usize| {
            let hash = self.key.hash_one((answer, call, place));
            let index = hash % LETTERS.len() as u64;
            char::from(LETTERS.get(index as usize).copied().unwrap_or(b'0'))
        };
        (0..count).map(letter).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_stable_and_no_two_are_the_same() {
        let requests: Vec<CallIds> = (0..50).map(|_| CallIds::new(None, 0)).collect();
        let all = || {
            requests.iter().flat_map(|ids| {
                (0..4).flat_map(move |answer| (0..4).map(move |call| ids.id(answer, call, "f")))
            })
        };
        assert!(all().eq(all()));
        assert_eq!(all().collect::<HashSet<_>>().len(), 50 * 16);
        for id in all() {
            let letters = id.strip_prefix("call_").unwrap();
            assert_eq!(letters.len(), 24);
            assert!(letters.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
        }
    }

    #[test]
    fn ids_have_the_form_that_templates_want() {
        let of = |format: &str| CallIds::new(ToolFormat::named(format), 2);
        for format in ["mistral", "mistral_v11"] {
            let id = of(format).id(0, 0, "f");
            assert!(
                id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric()),
                "{id}"
            );
        }
        assert_eq!(of("kimi_k2").id(0, 1, "f"), "functions.f:3");
        assert!(of("hermes").id(0, 1, "f").starts_with("call_"));
    }
}
