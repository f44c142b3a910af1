//! The tokenizer and the chat templates of a GGUF file.
//!
//! The file says what a `tokenizer.json` says in other words, so it is translated into one: everything behind that
//! (control tokens, detokenizing, grammars) is the same for both. Three models of tokens are read:
//!
//! | `tokenizer.ggml.model` | what |
//! |---|---|
//! | `gpt2` | byte pairs merged in the order of a list; text is cut first (`cuts.rs`) |
//! | `llama` | SentencePiece's byte pairs: of two neighbours that make a token, those with the highest score merge |
//! | `bert` | WordPiece: the longest token that fits, from the left |

mod cuts;
mod words;

use maitre_gguf::{GgufError, GgufIndex, Value as Setting};
use serde_json::{Map, Value, json};

use crate::files::TokenizerFiles;
use crate::{TextError, Tokenizer};
use cuts::Cut;
use words::{Kind, Words};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";
const TEMPLATE: &str = "tokenizer.chat_template";
/// What stands for a space where tokens are text.
const SPACE: &str = "\u{2581}";

/// Settings that name a token, and how templates call it.
const NAMED_TOKENS: [(&str, &str); 7] = [
    ("bos", "bos_token"),
    ("eos", "eos_token"),
    ("unknown", "unk_token"),
    ("seperator", "sep_token"),
    ("padding", "pad_token"),
    ("cls", "cls_token"),
    ("mask", "mask_token"),
];

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file. `file`: the bytes that `index` was read from.
    ///
    /// # Errors
    ///
    /// [`TextError::InvalidTokenizer`] for settings that are missing, of another kind, or name a tokenizer that is not
    /// known; those of [`Tokenizer::from_files`] for the rest.
    pub fn from_gguf(index: &GgufIndex, file: &[u8]) -> Result<Self, TextError> {
        let words = Words::read(index, file)?;
        let tokenizer = tokenizer_json(index, file, &words)?.to_string();
        let config = config_json(index, &words)?.to_string();
        Self::from_files(&TokenizerFiles {
            tokenizer: tokenizer.as_bytes(),
            config: Some(config.as_bytes()),
            ..TokenizerFiles::default()
        })
    }
}

/// What takes the place of `tokenizer.json`.
fn tokenizer_json(index: &GgufIndex, file: &[u8], words: &Words<'_>) -> Result<Value, TextError> {
    let model = setting(index.text(MODEL))?;
    let mut parts = match model {
        Some("gpt2") => byte_pairs(index, file, words)?,
        Some("llama") => sentence_pieces(index, words)?,
        Some("bert") => word_pieces(index, words)?,
        Some(other) => {
            let known = "gpt2, llama and bert are known";
            return Err(invalid(format!("{MODEL} is {other:?}, and {known}")));
        }
        None => return Err(invalid(format!("{MODEL} is missing"))),
    };
    parts.insert("version".into(), json!("1.0"));
    parts.insert("added_tokens".into(), words.added_tokens());
    Ok(Value::Object(parts))
}

fn byte_pairs(
    index: &GgufIndex,
    file: &[u8],
    words: &Words<'_>,
) -> Result<Map<String, Value>, TextError> {
    let name = setting(index.text(PRE))?.unwrap_or_default();
    let cut = Cut::named(name).ok_or_else(|| {
        invalid(format!(
            "{PRE} is {name:?}, a way to cut text that this version does not know"
        ))
    })?;
    let list =
        setting(index.list(MERGES))?.ok_or_else(|| invalid(format!("{MERGES} is missing")))?;
    let mut merges = Vec::with_capacity(list.len);
    for (rank, merge) in list.texts(file).enumerate() {
        // The first of the two may be a space.
        let end = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let (left, right) = end
            .and_then(|(end, _)| Some((merge.get(..end)?, merge.get(end + 1..)?)))
            .ok_or_else(|| {
                invalid(format!(
                    "{MERGES}[{rank}] is {merge:?}, expected two tokens"
                ))
            })?;
        if words.holds(left) && words.holds(right) && words.holds(&format!("{left}{right}")) {
            merges.push(json!([left, right]));
        }
    }
    let splits = cut.patterns.iter().map(|pattern| {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    });
    let mut steps: Vec<Value> = splits.collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let (normalizer, decoder) = match cut.byte_level {
        true => {
            steps.push(bytes.clone());
            (Value::Null, bytes)
        }
        false => (spaces, text_decoder(false)),
    };
    let model = json!({
        "type": "BPE",
        "vocab": words.vocabulary(),
        "merges": merges,
        "ignore_merges": cut.ignore_merges,
        "byte_fallback": !cut.byte_level && words.has_bytes(),
        "fuse_unk": false,
    });
    Ok(parts([
        ("normalizer", normalizer),
        (
            "pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": steps}),
        ),
        ("model", model),
        ("decoder", decoder),
        ("post_processor", post_processor(index, words, false)?),
    ]))
}

fn sentence_pieces(index: &GgufIndex, words: &Words<'_>) -> Result<Map<String, Value>, TextError> {
    let prefix = setting(index.flag("tokenizer.ggml.add_space_prefix"))?.unwrap_or(true);
    let mut steps = Vec::new();
    if prefix {
        steps.push(json!({"type": "Prepend", "prepend": SPACE}));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    let model = json!({
        "type": "BPE",
        "vocab": words.vocabulary(),
        "merges": words.merges_by_score()?,
        "unk_token": words.text_of_kind(Kind::Unknown),
        "fuse_unk": true,
        "byte_fallback": words.has_bytes(),
    });
    Ok(parts([
        (
            "normalizer",
            json!({"type": "Sequence", "normalizers": steps}),
        ),
        ("model", model),
        ("decoder", text_decoder(prefix)),
        ("post_processor", post_processor(index, words, false)?),
    ]))
}

fn word_pieces(index: &GgufIndex, words: &Words<'_>) -> Result<Map<String, Value>, TextError> {
    let lowercase = setting(index.flag("tokenizer.ggml.normalizer.lowercase"))?.unwrap_or(true);
    let strip =
        setting(index.flag("tokenizer.ggml.normalizer.strip_accents"))?.unwrap_or(lowercase);
    let normalizer = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": true,
        "strip_accents": strip,
        "lowercase": lowercase,
    });
    // The converter writes a token that begins a word with a mark in front, and the others without `##`.
    let word = json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": false});
    let model = json!({
        "type": "WordPiece",
        "vocab": words.vocabulary(),
        "unk_token": named_token(index, words, "unknown")?.unwrap_or("[UNK]"),
        "continuing_subword_prefix": "",
        "max_input_chars_per_word": 1 << 20,
    });
    Ok(parts([
        ("normalizer", normalizer),
        (
            "pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}, word]}),
        ),
        ("model", model),
        ("decoder", word),
        ("post_processor", post_processor(index, words, true)?),
    ]))
}

/// From tokens that are text with marks for spaces; a text's first space is not its own if one was put there.
fn text_decoder(strip: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if strip {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// What is put around a text, apart from the beginning-of-text token of models that generate: `config_json` has it. `adds_sep`:
/// whether a text ends with the separator where the file does not say.
fn post_processor(
    index: &GgufIndex,
    words: &Words<'_>,
    adds_sep: bool,
) -> Result<Value, TextError> {
    let flag = |name: &str| setting(index.flag(&format!("tokenizer.ggml.{name}")));
    let eos = match flag("add_eos_token")?.unwrap_or(false) {
        true => named_token(index, words, "eos")?,
        false => None,
    };
    let sep = match flag("add_sep_token")?.unwrap_or(adds_sep) {
        true => named_token(index, words, "seperator")?,
        false => None,
    };
    let Some(end) = sep.or(eos) else {
        return Ok(Value::Null);
    };
    let begin = match adds_bos(index)? {
        true => named_token(index, words, "bos")?.or(named_token(index, words, "cls")?),
        false => None,
    };
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let single: Vec<Value> = begin
        .map(special)
        .into_iter()
        .chain([text.clone(), special(end)])
        .collect();
    let mut tokens = Map::new();
    for token in begin.into_iter().chain([end]) {
        let id = words.id_of(token);
        tokens.insert(
            token.to_owned(),
            json!({"id": token, "ids": [id], "tokens": [token]}),
        );
    }
    let pair = json!([text, {"Sequence": {"id": "B", "type_id": 1}}]);
    Ok(
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}),
    )
}

/// Whether a text begins with the beginning-of-text token.
fn adds_bos(index: &GgufIndex) -> Result<bool, TextError> {
    let by_model = match setting(index.text(MODEL))? {
        Some("gpt2") => {
            let name = setting(index.text(PRE))?.unwrap_or_default();
            Cut::named(name).is_some_and(|cut| cut.add_bos)
        }
        _ => true,
    };
    let said = setting(index.flag("tokenizer.ggml.add_bos_token"))?;
    Ok(said.unwrap_or(by_model))
}

/// What takes the place of `tokenizer_config.json`.
fn config_json(index: &GgufIndex, words: &Words<'_>) -> Result<Value, TextError> {
    let mut fields = Map::new();
    for (setting, name) in NAMED_TOKENS {
        if let Some(token) = named_token(index, words, setting)? {
            fields.insert(name.into(), json!(token));
        }
    }
    let has_bos = fields.contains_key("bos_token");
    fields.insert("add_bos_token".into(), json!(has_bos && adds_bos(index)?));
    let mut templates = Vec::new();
    for (key, value) in index.settings() {
        let Some(name) = key.strip_prefix(TEMPLATE) else {
            continue;
        };
        let name = match name.strip_prefix('.') {
            Some(name) => name,
            None if name.is_empty() => "default",
            None => continue,
        };
        if let Setting::Text(source) = value {
            templates.push(json!({"name": name, "template": source}));
        }
    }
    let templates = match templates.as_slice() {
        [one] if one["name"] == "default" => one["template"].clone(),
        [] => Value::Null,
        _ => Value::Array(templates),
    };
    fields.insert("chat_template".into(), templates);
    Ok(Value::Object(fields))
}

/// The text of the token that `tokenizer.ggml.{name}_token_id` names; none if it names none of the vocabulary.
fn named_token<'w>(
    index: &GgufIndex,
    words: &Words<'w>,
    name: &str,
) -> Result<Option<&'w str>, TextError> {
    let id = setting(index.unsigned(&format!("tokenizer.ggml.{name}_token_id")))?;
    Ok(id.and_then(|id| words.text(usize::try_from(id).ok()?)))
}

fn parts<const N: usize>(parts: [(&str, Value); N]) -> Map<String, Value> {
    parts
        .into_iter()
        .map(|(name, part)| (name.to_owned(), part))
        .collect()
}

fn setting<T>(read: Result<T, GgufError>) -> Result<T, TextError> {
    read.map_err(|error| invalid(error.to_string()))
}

fn invalid(reason: String) -> TextError {
    TextError::InvalidTokenizer { reason }
}
