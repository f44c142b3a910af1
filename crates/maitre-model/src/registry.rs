//! The families that are known: one table from the name of a class to the family.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde_json::Value;

use crate::architectures;
use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::spec::ModelSpec;
use crate::wrapper::Wrapper;

/// A model family: everything that sets it apart from others.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name in `architectures`.
    pub(crate) class_name: &'static str,
    /// Its name in `model_type`.
    pub(crate) model_type: &'static str,
    /// What its tensors are called.
    pub(crate) names: Names,
    /// What absent settings mean.
    pub(crate) defaults: Defaults,
    /// Settings that it implements, of those that are refused unless a family does.
    pub(crate) implements: &'static [&'static str],
    /// Reads its own settings, and refuses those it does not implement.
    pub(crate) spec: fn(&Settings<'_>, &Sizes) -> Result<ModelSpec, ModelError>,
}

/// What absent settings mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    /// The width of a head; `None` is the model's width over the number of heads.
    pub(crate) head_dim: Option<usize>,
    /// What norms add to the mean square.
    pub(crate) rms_norm_eps: f64,
    /// Whether the output matrix is the embedding.
    pub(crate) tie_word_embeddings: bool,
    /// The width inside the MLP in widths of the model, where no setting gives it.
    pub(crate) mlp_widths: Option<usize>,
    /// Sizes that may be absent, by their settings.
    pub(crate) sizes: &'static [(&'static str, usize)],
    /// What the sizes are called.
    pub(crate) keys: Keys,
}

/// What settings are called that all families have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) hidden_size: &'static str,
    pub(crate) intermediate_size: &'static str,
    pub(crate) num_layers: &'static str,
    pub(crate) num_heads: &'static str,
    pub(crate) max_position_embeddings: &'static str,
    /// What norms add to the mean square.
    pub(crate) norm_eps: &'static str,
}

impl Keys {
    pub(crate) const LLAMA: Self = Self {
        hidden_size: "hidden_size",
        intermediate_size: "intermediate_size",
        num_layers: "num_hidden_layers",
        num_heads: "num_attention_heads",
        max_position_embeddings: "max_position_embeddings",
        norm_eps: "rms_norm_eps",
    };
}

impl Defaults {
    pub(crate) const LLAMA: Self = Self {
        head_dim: None,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: false,
        mlp_widths: None,
        sizes: &[],
        keys: Keys::LLAMA,
    };
}

impl Defaults {
    /// What the absence of a size means.
    pub(crate) fn size(&self, key: &str) -> Option<usize> {
        let mut sizes = self.sizes.iter();
        sizes.find_map(|(name, size)| (*name == key).then_some(*size))
    }
}

/// Every family, in the order in which messages list them.
const FAMILIES: &[&Family] = &[
    &architectures::llama::FAMILY,
    &architectures::mistral::FAMILY,
    &architectures::qwen2::FAMILY,
    &architectures::qwen3::FAMILY,
    &architectures::gemma3::FAMILY,
    &architectures::phi3::FAMILY,
    &architectures::olmo3::FAMILY,
    &architectures::granite::FAMILY,
    &architectures::olmo2::FAMILY,
    &architectures::gemma::FAMILY,
    &architectures::seed_oss::FAMILY,
    &architectures::ministral::FAMILY,
    &architectures::glm::GLM,
    &architectures::glm::GLM4,
    &architectures::smollm3::FAMILY,
    &architectures::exaone4::FAMILY,
    &architectures::hunyuan::FAMILY,
    &architectures::ministral3::FAMILY,
    &architectures::cohere2::FAMILY,
    &architectures::starcoder2::FAMILY,
    &architectures::gpt2::FAMILY,
    &architectures::gemma2::FAMILY,
];

/// A family of models with one forward pass, by the name of its class: that in `architectures`.
#[derive(Clone, Copy)]
pub struct Architecture(&'static Family);

impl Architecture {
    /// All that can be loaded.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().copied().map(Self)
    }

    /// The name in `architectures`.
    #[must_use]
    pub const fn class_name(self) -> &'static str {
        self.0.class_name
    }

    pub(crate) const fn of(family: &'static Family) -> Self {
        Self(family)
    }

    pub(crate) const fn family(self) -> &'static Family {
        self.0
    }

    /// The family a configuration belongs to. `architectures` and `model_type` must agree where
    /// both are given: a derived model often keeps one of them and changes the mathematics.
    pub(crate) fn named_by(settings: &Settings<'_>) -> Result<Self, ModelError> {
        let class = match settings.get("architectures") {
            None => None,
            Some(Value::Array(classes)) => classes.first(),
            Some(other) => {
                return Err(settings.invalid("architectures", other, "a list of class names"));
            }
        };
        let by_class = class
            .map(|class| find("architectures", class, |family| family.class_name))
            .transpose()?;
        let by_type = settings
            .get("model_type")
            .map(|kind| find("model_type", kind, |family| family.model_type))
            .transpose()?;
        match (by_class, by_type) {
            (Some(class), Some(kind)) if class != kind => {
                let [class, kind] = [class, kind].map(|it| it.0.model_type);
                Err(settings.contradicts(
                    "model_type",
                    kind.to_owned(),
                    format!("{class}, to agree with `architectures`"),
                ))
            }
            (one, other) => one.or(other).ok_or_else(|| {
                let expected = "a list with the name of the model's class";
                settings.missing("architectures", expected)
            }),
        }
    }
}

fn find(
    key: &'static str,
    found: &Value,
    name: fn(&Family) -> &'static str,
) -> Result<Architecture, ModelError> {
    let mut all = Architecture::all();
    all.find(|it| found.as_str() == Some(name(it.family())))
        .ok_or_else(|| ModelError::UnknownArchitecture {
            key,
            found: found.to_string(),
            supported: Architecture::all()
                .map(Architecture::class_name)
                .chain(Wrapper::all().map(Wrapper::class_name))
                .collect::<Vec<_>>()
                .join(", "),
        })
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.class_name() == other.class_name()
    }
}

impl Eq for Architecture {}

impl Hash for Architecture {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.class_name().hash(state);
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.class_name())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.class_name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_leads_to_one_family() {
        let names: BTreeSet<&str> = FAMILIES
            .iter()
            .flat_map(|family| [family.class_name, family.model_type])
            .collect();
        assert_eq!(names.len(), 2 * Architecture::all().count());
    }
}
