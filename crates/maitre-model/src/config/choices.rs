//! Settings that several families read in the same way: which activation, which layers have a window.

use serde_json::Value;

use super::Settings;
use crate::error::ModelError;
use crate::kv_layout::Reads;

const WINDOW: &str = "sliding_window";
const LAYER_TYPES: &str = "layer_types";
const FULL: &str = "full_attention";
const WINDOWED: &str = "sliding_attention";

impl Settings<'_> {
    /// Refuses gates that do not open by SiLU; `swish` is its other name.
    pub(crate) fn require_silu(&self) -> Result<(), ModelError> {
        self.require_activation(&["silu", "swish"])
    }

    /// Refuses an activation under another name than these. Absent, it is the family's.
    pub(crate) fn require_activation(&self, names: &[&str]) -> Result<(), ModelError> {
        self.require_one_of("hidden_act", names)?;
        self.require_one_of("hidden_activation", names)
    }

    /// Refuses another name in `key` than these. Absent, it is the family's.
    pub(crate) fn require_one_of(&self, key: &str, names: &[&str]) -> Result<(), ModelError> {
        match self.get(key) {
            Some(value) if !value.as_str().is_some_and(|name| names.contains(&name)) => {
                Err(self.unsupported(key, value, names[0]))
            }
            _ => Ok(()),
        }
    }

    /// What `sliding_window` says, `default` where it is absent; null is none.
    pub(crate) fn window_or(&self, default: usize) -> Result<Option<usize>, ModelError> {
        match self.mentions(WINDOW) {
            true => self.size(WINDOW),
            false => Ok(Some(default)),
        }
    }

    /// Refuses a window, which belongs to another family.
    pub(crate) fn refuse_window(&self) -> Result<(), ModelError> {
        match self.get(WINDOW) {
            None => Ok(()),
            Some(window) => Err(self.unsupported(WINDOW, window, "absent or null")),
        }
    }

    /// Refuses layers that attend in their own ways (`layer_types` of transformers).
    pub(crate) fn require_full_attention(&self) -> Result<(), ModelError> {
        let types = self.layer_types()?.unwrap_or_default();
        match types.iter().find(|layer| layer.as_str() != Some(FULL)) {
            None => Ok(()),
            Some(other) => Err(self.unsupported(LAYER_TYPES, other, FULL)),
        }
    }

    /// How far back each of `num_layers` layers reads: as `layer_types` says, else those for which `is_windowed` holds
    /// through `window`.
    pub(crate) fn layer_reads(
        &self,
        num_layers: usize,
        window: Option<usize>,
        is_windowed: impl Fn(usize) -> bool,
    ) -> Result<Vec<Reads>, ModelError> {
        let through_window = || {
            window.map(Reads::Window).ok_or_else(|| {
                let expected = "a whole number of at least 1, for layers with sliding_attention";
                self.missing(WINDOW, expected)
            })
        };
        let Some(types) = self.layer_types()? else {
            let layers = (0..num_layers).map(|layer| match is_windowed(layer) {
                true => through_window(),
                false => Ok(Reads::Full),
            });
            return layers.collect();
        };
        if types.len() != num_layers {
            let found = format!("a list of {}", types.len());
            return Err(self.contradicts(
                LAYER_TYPES,
                found,
                format!("one entry per layer, {num_layers}"),
            ));
        }
        let layers = types.iter().map(|kind| match kind.as_str() {
            Some(FULL) => Ok(Reads::Full),
            Some(WINDOWED) => through_window(),
            _ => {
                let supported = format!("{FULL}, {WINDOWED}");
                Err(self.unsupported(LAYER_TYPES, kind, &supported))
            }
        });
        layers.collect()
    }

    fn layer_types(&self) -> Result<Option<&[Value]>, ModelError> {
        match self.get(LAYER_TYPES) {
            None => Ok(None),
            Some(Value::Array(layers)) => Ok(Some(layers)),
            Some(other) => Err(self.invalid(LAYER_TYPES, other, "a list of strings")),
        }
    }
}
