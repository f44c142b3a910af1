//! What a model's files say beside `tokenizer.json`: special tokens by name, whether a beginning-of-text
//! token is added, and chat templates. `tokenizer_config.json` says it first; what it leaves open (by
//! silence, `null` or an empty string), `special_tokens_map.json` may still say.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::TextError;

/// The special tokens that templates know by name, such as `bos_token` → `<s>`. Unset ones are absent.
pub type SpecialTokens = BTreeMap<String, String>;

pub(crate) const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
pub(crate) const CHAT_TEMPLATE_JSON: &str = "chat_template.json";

const SPECIAL_TOKEN_NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Where further tokens stand by name, such as `image_token`. A list there has no names, and is skipped.
const FURTHER_TOKENS: [&str; 2] = ["extra_special_tokens", "model_specific_special_tokens"];

/// What was read; all defaults if there are no such files.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    pub(crate) special_tokens: SpecialTokens,
    /// Which file names each of them.
    said_in: BTreeMap<String, &'static str>,
    pub(crate) add_bos_token: bool,
    pub(crate) chat_template: Option<TemplateSource>,
}

/// Chat templates as a JSON file gives them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TemplateSource {
    /// The only one.
    One(String),
    /// (name, source or what is wrong with it) of several.
    Named(Vec<(String, Result<String, String>)>),
}

impl TokenizerConfig {
    pub(crate) fn from_json(
        config: Option<&[u8]>,
        special_tokens_map: Option<&[u8]>,
    ) -> Result<Self, TextError> {
        let mut read = Self::default();
        if let Some(json) = config {
            let fields = object(CONFIG, json)?;
            read.add_bos_token = match fields.get("add_bos_token") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(add)) => *add,
                Some(other) => {
                    let reason = format!("add_bos_token is {other}, expected true or false");
                    return Err(invalid(CONFIG, reason));
                }
            };
            read.chat_template = TemplateSource::from_field(CONFIG, &fields)?;
            read.add_special_tokens(CONFIG, &fields)?;
        }
        if let Some(json) = special_tokens_map {
            let fields = object(SPECIAL_TOKENS_MAP, json)?;
            read.add_special_tokens(SPECIAL_TOKENS_MAP, &fields)?;
            let others = fields.iter().filter(|(name, _)| name.ends_with("_token"));
            read.add_further_tokens(SPECIAL_TOKENS_MAP, others);
        }
        Ok(read)
    }

    /// The file that says which token `name` is.
    pub(crate) fn file_of(&self, name: &str) -> &'static str {
        self.said_in.get(name).copied().unwrap_or(CONFIG)
    }

    /// Takes the special tokens of one file, as far as they are not known yet.
    fn add_special_tokens(
        &mut self,
        file: &'static str,
        fields: &Map<String, Value>,
    ) -> Result<(), TextError> {
        for name in SPECIAL_TOKEN_NAMES {
            if let Some(value) = fields.get(name).filter(|value| !value.is_null()) {
                let content = token_content(value).ok_or_else(|| {
                    let reason =
                        format!("{name} is neither a string nor an object with a string `content`");
                    invalid(file, reason)
                })?;
                self.add(file, name, content);
            }
        }
        for further in FURTHER_TOKENS {
            let named = fields.get(further).and_then(Value::as_object);
            self.add_further_tokens(file, named.into_iter().flatten());
        }
        Ok(())
    }

    /// Takes tokens that only some templates know by name; what is no token is no concern of theirs.
    fn add_further_tokens<'a>(
        &mut self,
        file: &'static str,
        named: impl IntoIterator<Item = (&'a String, &'a Value)>,
    ) {
        for (name, value) in named {
            if let Some(content) = token_content(value) {
                self.add(file, name, content);
            }
        }
    }

    fn add(&mut self, file: &'static str, name: &str, content: &str) {
        if !content.is_empty() && !self.special_tokens.contains_key(name) {
            self.special_tokens
                .insert(name.to_owned(), content.to_owned());
            self.said_in.insert(name.to_owned(), file);
        }
    }
}

/// A special token is written as a string, or as an object with `content`.
fn token_content(value: &Value) -> Option<&str> {
    match value {
        Value::Object(token) => token.get("content")?.as_str(),
        plain => plain.as_str(),
    }
}

impl TemplateSource {
    /// The templates of `chat_template.json`, which processors of images and sounds once wrote.
    pub(crate) fn from_json(json: &[u8]) -> Result<Option<Self>, TextError> {
        Self::from_field(CHAT_TEMPLATE_JSON, &object(CHAT_TEMPLATE_JSON, json)?)
    }

    /// One template as a string, several as a list of `{name, template}` or as an object. A member without a
    /// text fails the chats that need it, as one does that cannot be parsed.
    fn from_field(
        file: &'static str,
        fields: &Map<String, Value>,
    ) -> Result<Option<Self>, TextError> {
        let expected = || {
            let reason = "chat_template is neither a string nor a list of {name, template}";
            invalid(file, reason.into())
        };
        let text = |source: Option<&Value>| {
            let text = source.and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| format!("{file} gives no text for it"))
        };
        let named: Result<Vec<_>, TextError> = match fields.get("chat_template") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(source)) => return Ok(Some(Self::One(source.clone()))),
            Some(Value::Array(list)) => list
                .iter()
                .map(|entry| {
                    let name = entry.get("name").and_then(Value::as_str);
                    let name = name.ok_or_else(expected)?;
                    Ok((name.to_owned(), text(entry.get("template"))))
                })
                .collect(),
            Some(Value::Object(named)) => Ok(named
                .iter()
                .map(|(name, source)| (name.clone(), text(Some(source))))
                .collect()),
            Some(_) => Err(expected()),
        };
        Ok(Some(named?)
            .filter(|named| !named.is_empty())
            .map(Self::Named))
    }
}

fn object(file: &'static str, json: &[u8]) -> Result<Map<String, Value>, TextError> {
    serde_json::from_slice(json).map_err(|error| invalid(file, error.to_string()))
}

fn invalid(file: &'static str, reason: String) -> TextError {
    TextError::InvalidConfig { file, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str, map: &str) -> Result<TokenizerConfig, TextError> {
        TokenizerConfig::from_json(Some(config.as_bytes()), Some(map.as_bytes()))
    }

    #[test]
    fn both_forms_of_tokens_and_templates_are_read() {
        let config = read(
            r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null, "add_bos_token": true,
                 "chat_template": [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]}"#,
            "{}",
        )
        .unwrap();
        let named = |name: &str| config.special_tokens.get(name).map(String::as_str);
        assert_eq!(named("bos_token"), Some("<s>"));
        assert_eq!(named("eos_token"), Some("</s>"));
        assert_eq!(named("pad_token"), None);
        assert!(config.add_bos_token);
        assert_eq!(
            config.chat_template,
            Some(TemplateSource::Named(vec![
                ("default".into(), Ok("A".into())),
                ("tool_use".into(), Ok("B".into()))
            ]))
        );
        let one = TemplateSource::from_json(br#"{"chat_template": "A"}"#).unwrap();
        assert_eq!(one, Some(TemplateSource::One("A".into())));
        for nothing in [
            "{}",
            r#"{"chat_template": null}"#,
            r#"{"chat_template": []}"#,
        ] {
            let none = TemplateSource::from_json(nothing.as_bytes()).unwrap();
            assert_eq!(none, None, "{nothing}");
        }
    }

    #[test]
    fn what_the_configuration_leaves_open_is_filled() {
        let config = read(
            r#"{"bos_token": "<s>", "eos_token": null, "pad_token": "", "cls_token": {"content": "[C]"},
                "extra_special_tokens": {"image_token": "<image>", "sep_token": {"content": "[SEP]"}, "bos_token": "<x>",
                                         "odd": 7},
                "additional_special_tokens": ["<a>"]}"#,
            r#"{"bos_token": "<t>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": "<pad>",
                "unk_token": null, "audio_token": "<audio>", "image_token": "<i>", "additional_special_tokens": ["<b>"],
                "extra_special_tokens": ["<c>"], "model_specific_special_tokens": {"video_token": "<video>"}}"#,
        )
        .unwrap();
        let expected = [
            ("audio_token", "<audio>"),
            ("bos_token", "<s>"),
            ("cls_token", "[C]"),
            ("eos_token", "</s>"),
            ("image_token", "<image>"),
            ("pad_token", "<pad>"),
            ("sep_token", "[SEP]"),
            ("video_token", "<video>"),
        ];
        let found: Vec<(&str, &str)> = config
            .special_tokens
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_str()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(config.file_of("bos_token"), CONFIG);
        assert_eq!(config.file_of("eos_token"), SPECIAL_TOKENS_MAP);
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
            (r#"{"chat_template": [{"template": "x"}]}"#, "chat_template"),
        ] {
            let message = read(json, "{}").unwrap_err().to_string();
            assert!(message.contains(word), "{json}: {message}");
            assert!(message.contains("tokenizer_config.json"), "{message}");
        }
        for (json, word) in [("[]", "map"), (r#"{"eos_token": 2}"#, "eos_token")] {
            let message = read("{}", json).unwrap_err().to_string();
            assert!(message.contains(word), "{json}: {message}");
            assert!(message.contains("special_tokens_map.json"), "{message}");
        }
    }
}
