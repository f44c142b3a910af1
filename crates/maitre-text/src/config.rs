//! The fields of `tokenizer_config.json` that change what a model reads: special tokens, whether
//! a beginning-of-text token is added, and the chat template.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::TextError;

/// The special tokens that templates know by name, such as `bos_token` → `<s>`. Unset ones are absent.
pub type SpecialTokens = BTreeMap<String, String>;

const SPECIAL_TOKEN_NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// What was read from `tokenizer_config.json`; all defaults if there is no such file.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    pub(crate) special_tokens: SpecialTokens,
    pub(crate) add_bos_token: bool,
    /// (name, source); a template without a name is called `default`.
    pub(crate) chat_templates: Vec<(String, String)>,
}

impl TokenizerConfig {
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, TextError> {
        let fields: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let mut special_tokens = SpecialTokens::new();
        for name in SPECIAL_TOKEN_NAMES {
            if let Some(content) = token_content(&fields, name)? {
                special_tokens.insert(name.to_owned(), content);
            }
        }
        let add_bos_token = match fields.get("add_bos_token") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(add)) => *add,
            Some(other) => {
                return Err(invalid(format!(
                    "add_bos_token is {other}, expected true or false"
                )));
            }
        };
        let chat_templates = match fields.get("chat_template") {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => templates(value)?,
        };
        Ok(Self {
            special_tokens,
            add_bos_token,
            chat_templates,
        })
    }
}

/// A special token is written as a string, or as an object with `content`.
fn token_content(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, TextError> {
    let content = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(token)) => token.get("content"),
        plain => plain,
    };
    match content {
        Some(Value::String(content)) => Ok(Some(content.clone())),
        _ => Err(invalid(format!(
            "{name} is neither a string nor an object with a string `content`"
        ))),
    }
}

/// One template as a string, several as a list of `{name, template}` or as an object.
fn templates(value: &Value) -> Result<Vec<(String, String)>, TextError> {
    let expected =
        || invalid("chat_template is neither a string nor a list of {name, template}".into());
    match value {
        Value::String(source) => Ok(vec![("default".into(), source.clone())]),
        Value::Array(list) => list
            .iter()
            .map(|entry| {
                let field = |key: &str| entry.get(key)?.as_str().map(str::to_owned);
                field("name").zip(field("template")).ok_or_else(expected)
            })
            .collect(),
        Value::Object(named) => named
            .iter()
            .map(|(name, source)| {
                Ok((
                    name.clone(),
                    source.as_str().ok_or_else(expected)?.to_owned(),
                ))
            })
            .collect(),
        _ => Err(expected()),
    }
}

fn invalid(reason: String) -> TextError {
    TextError::InvalidConfig { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_tokens_and_templates_are_read() {
        let config = TokenizerConfig::from_json(
            br#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null, "add_bos_token": true,
                 "chat_template": [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]}"#,
        )
        .unwrap();
        assert_eq!(
            config.special_tokens.get("bos_token").map(String::as_str),
            Some("<s>")
        );
        assert_eq!(
            config.special_tokens.get("eos_token").map(String::as_str),
            Some("</s>")
        );
        assert!(!config.special_tokens.contains_key("pad_token"));
        assert!(config.add_bos_token);
        assert_eq!(
            config.chat_templates,
            [
                ("default".into(), "A".into()),
                ("tool_use".into(), "B".into())
            ]
        );
    }

    #[test]
    fn wrong_types_are_named() {
        for (json, word) in [
            ("[]", "map"),
            ("{", "EOF"),
            (r#"{"bos_token": 1}"#, "bos_token"),
            (r#"{"eos_token": {"text": "x"}}"#, "eos_token"),
            (r#"{"add_bos_token": "yes"}"#, "add_bos_token"),
            (r#"{"chat_template": 3}"#, "chat_template"),
            (
                r#"{"chat_template": [{"name": "default"}]}"#,
                "chat_template",
            ),
            (r#"{"chat_template": {"default": 1}}"#, "chat_template"),
        ] {
            let message = TokenizerConfig::from_json(json.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(message.contains(word), "{json}: {message}");
        }
    }
}
