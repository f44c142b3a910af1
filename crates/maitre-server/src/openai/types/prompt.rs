//! The prompts of a completion: a text, the ids of its tokens, or a list of either.

use std::fmt;

use maitre_engine::Input;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The prompts.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::openai) struct Prompts {
    pub(in crate::openai) inputs: Vec<Input>,
    /// Whether they came as a list.
    pub(in crate::openai) is_list: bool,
}

/// An element of the field: a token's id, or a prompt.
enum Item {
    Id(u32),
    Prompt(Input),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdOrPrompt;
        impl<'de> Visitor<'de> for IdOrPrompt {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token's id or a list of ids")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Item, E> {
                let unexpected = de::Unexpected::Unsigned(id);
                let id = u32::try_from(id);
                id.map(Item::Id)
                    .map_err(|_| E::invalid_value(unexpected, &"a token's id"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Prompt(Input::Text(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<Item, A::Error> {
                let mut all = Vec::new();
                while let Some(id) = ids.next_element()? {
                    all.push(id);
                }
                Ok(Item::Prompt(Input::Tokens(all)))
            }
        }
        deserializer.deserialize_any(IdOrPrompt)
    }
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Field;
        impl<'de> Visitor<'de> for Field {
            type Value = Prompts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of strings, or one or more lists of token ids")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prompts, E> {
                Ok(Prompts {
                    inputs: vec![Input::Text(text.to_owned())],
                    is_list: false,
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Prompts, A::Error> {
                let (mut ids, mut inputs) = (Vec::new(), Vec::new());
                while let Some(item) = items.next_element()? {
                    match item {
                        Item::Id(id) => ids.push(id),
                        Item::Prompt(prompt) => inputs.push(prompt),
                    }
                    if !ids.is_empty() && !inputs.is_empty() {
                        return Err(de::Error::custom(
                            "has token ids and prompts in one list; expected either",
                        ));
                    }
                }
                if ids.is_empty() {
                    return Ok(Prompts {
                        inputs,
                        is_list: true,
                    });
                }
                Ok(Prompts {
                    inputs: vec![Input::Tokens(ids)],
                    is_list: false,
                })
            }
        }
        deserializer.deserialize_any(Field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_prompts_is_understood() {
        let text = |text: &str| Input::Text(text.into());
        for (given, inputs, is_list) in [
            (r#""a""#, vec![text("a")], false),
            (r#"["a", "b"]"#, vec![text("a"), text("b")], true),
            ("[1, 2]", vec![Input::Tokens(vec![1, 2])], false),
            (
                "[[1, 2], [3]]",
                vec![Input::Tokens(vec![1, 2]), Input::Tokens(vec![3])],
                true,
            ),
            (
                r#"["a", [1]]"#,
                vec![text("a"), Input::Tokens(vec![1])],
                true,
            ),
            ("[]", vec![], true),
        ] {
            let read: Prompts = serde_json::from_str(given).unwrap();
            assert_eq!(read, Prompts { inputs, is_list }, "{given}");
        }
        for wrong in [
            "1",
            "{}",
            "[1, \"a\"]",
            "[-1]",
            "[[1, \"a\"]]",
            "[5000000000]",
            "[1.5]",
        ] {
            assert!(serde_json::from_str::<Prompts>(wrong).is_err(), "{wrong}");
        }
    }
}
