//! Models of text beside images: their text's part is a family's, and the rest is not loaded.

use std::fmt;

use serde_json::Value;

use crate::architectures;
use crate::checkpoint::FileNames;
use crate::config::Settings;
use crate::error::ModelError;
use crate::registry::{Architecture, Family};

/// A class that holds a model of text and what turns images into its tokens.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Its name in `architectures`.
    pub(crate) class_name: &'static str,
    /// Its name in `model_type`.
    pub(crate) model_type: &'static str,
    /// What the model of text may be; the first where `text_config` does not say.
    pub(crate) text: &'static [&'static Family],
    /// What tensors are called.
    pub(crate) files: FileNames,
}

impl Kind {
    /// On the Hub the model of text is in `language_model.`; transformers 5 saves it in `model.language_model.`, with the
    /// output matrix outside.
    pub(crate) const FILES: FileNames = FileNames {
        prefixes: &[
            ("language_model.model.", "model."),
            ("model.language_model.", "model."),
            ("language_model.lm_head.", "lm_head."),
            ("lm_head.", "lm_head."),
        ],
        beside: &[
            "vision_tower.",
            "model.vision_tower.",
            "multi_modal_projector.",
            "model.multi_modal_projector.",
        ],
        ..FileNames::AS_IS
    };
}

const KINDS: &[&Kind] = &[
    &architectures::mistral3::WRAPPER,
    &architectures::gemma3::WRAPPER,
];

/// The class of a model that has more than the text's part that is loaded.
#[derive(Clone, Copy)]
pub struct Wrapper(&'static Kind);

impl Wrapper {
    /// All whose text's part can be loaded.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().copied().map(Self)
    }

    /// The name in `architectures`.
    #[must_use]
    pub const fn class_name(self) -> &'static str {
        self.0.class_name
    }

    pub(crate) const fn files(self) -> &'static FileNames {
        &self.0.files
    }

    /// The wrapper that a configuration names, if it names one: by `architectures`, else by `model_type`.
    pub(crate) fn named_by(settings: &Settings<'_>) -> Option<Self> {
        let class = settings.get("architectures").and_then(Value::as_array);
        let class = class.and_then(|classes| classes.first()?.as_str());
        let kind = settings.get("model_type").and_then(Value::as_str);
        let is_named = |it: &Self| match class {
            Some(class) => class == it.0.class_name,
            None => kind == Some(it.0.model_type),
        };
        Self::all().find(is_named)
    }

    /// The family of its text's part.
    ///
    /// # Errors
    /// One that it does not go with.
    pub(crate) fn text_family(self, text: &Settings<'_>) -> Result<Architecture, ModelError> {
        let families = || self.0.text.iter().copied();
        let Some(kind) = text.get("model_type") else {
            let mut first = families().map(Architecture::of);
            return first
                .next()
                .ok_or_else(|| text.missing("model_type", "a name"));
        };
        let mut fitting = families().filter(|family| kind.as_str() == Some(family.model_type));
        fitting.next().map(Architecture::of).ok_or_else(|| {
            let names: Vec<&str> = families().map(|family| family.model_type).collect();
            text.unsupported("model_type", kind, &names.join(", "))
        })
    }
}

impl PartialEq for Wrapper {
    fn eq(&self, other: &Self) -> bool {
        self.class_name() == other.class_name()
    }
}

impl fmt::Debug for Wrapper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.class_name())
    }
}

impl fmt::Display for Wrapper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.class_name())
    }
}
