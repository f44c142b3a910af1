//! Layers of each skeleton from their tensors.

use maitre_tensor::Buffer;

use super::Loader;
use crate::error::ModelError;
use crate::inventory::{LayerTensors, NormTensors};
use crate::kv_layout::{CachePlace, KvLayout};
use crate::layers::StreamNorm;
use crate::skeletons::{Parallel, ParallelLayer, PostNorm, PostNormLayer, PreNorm, PreNormLayer};
use crate::spec::NormKind;

impl Loader<'_> {
    /// A norm of the residual stream.
    fn stream_norm(&self, norm: &NormTensors, factor: f32) -> Result<StreamNorm, ModelError> {
        let weight = self.scaled_norm(&norm.weight, factor)?;
        match (self.config.norm, &norm.bias) {
            (NormKind::Rms, _) => Ok(StreamNorm::Rms(weight)),
            (NormKind::Layer { .. }, None) => Ok(StreamNorm::Layer { weight, bias: None }),
            (NormKind::Layer { .. }, Some(bias)) => {
                let mut values = self.values(bias)?;
                values.iter_mut().for_each(|value| *value *= factor);
                self.done(bias);
                Ok(StreamNorm::Layer {
                    weight,
                    bias: Some(self.backend.vector(&values)?),
                })
            }
        }
    }

    /// One that the skeleton has in each layer.
    fn required(&self, norm: Option<&NormTensors>) -> Result<StreamNorm, ModelError> {
        let norm = norm.ok_or_else(|| self.unnamed_norm())?;
        self.stream_norm(norm, 1.0)
    }

    /// The norm that follows a layer: the next one's first, or the model's last, which multiplies logits, too.
    fn norm_behind(&self, layer: usize) -> Result<StreamNorm, ModelError> {
        match layer + 1 < self.config.num_layers {
            true => self.first_norm(layer + 1),
            false => self.stream_norm(&self.config.final_norm(), self.config.multipliers.logits),
        }
    }

    /// The norm that a layer begins with.
    fn first_norm(&self, layer: usize) -> Result<StreamNorm, ModelError> {
        let [first, ..] = self.config.layer_tensors(layer).norms;
        self.required(first.as_ref())
    }

    /// The layers that have a place in the caches, which is all of them, each with its tensors.
    fn layers(&self, layout: &KvLayout) -> impl Iterator<Item = (usize, CachePlace, LayerTensors)> {
        let layers = 0..self.config.num_layers;
        layers.filter_map(move |layer| {
            let place = layout.place_of(layer)?;
            Some((layer, place, self.config.layer_tensors(layer)))
        })
    }

    pub(super) fn pre_norm(&self, layout: &KvLayout) -> Result<PreNorm, ModelError> {
        let first_norm = self.first_norm(0)?;
        let layers = self.layers(layout).map(|(layer, place, tensors)| {
            let [_, _, before_mlp, _] = &tensors.norms;
            Ok(PreNormLayer {
                attention: self.attention(layer, &tensors, place)?,
                mlp_norm: self.required(before_mlp.as_ref())?,
                mlp: self.mlp(layer, &tensors)?,
                next_norm: self.norm_behind(layer)?,
            })
        });
        Ok(PreNorm {
            first_norm,
            layers: layers.collect::<Result<_, ModelError>>()?,
        })
    }

    pub(super) fn parallel(&self, layout: &KvLayout) -> Result<Parallel, ModelError> {
        let first_norm = self.first_norm(0)?;
        let last = self.config.num_layers.saturating_sub(1);
        let layers = self.layers(layout).map(|(layer, place, tensors)| {
            let again = (layer == last).then(|| self.own_norm(&tensors));
            Ok(ParallelLayer {
                again: again.transpose()?,
                attention: self.attention(layer, &tensors, place)?,
                mlp: self.mlp(layer, &tensors)?,
                next_norm: self.norm_behind(layer)?,
            })
        });
        Ok(Parallel {
            first_norm,
            layers: layers.collect::<Result<_, ModelError>>()?,
        })
    }

    /// A layer's own norm once more, which has been counted as loaded.
    fn own_norm(&self, tensors: &LayerTensors) -> Result<StreamNorm, ModelError> {
        let [own, ..] = &tensors.norms;
        let own = own.as_ref().ok_or_else(|| self.unnamed_norm())?;
        let weight = self.backend.vector(&self.values(&own.weight)?)?;
        let bias = own
            .bias
            .as_ref()
            .map(|bias| self.values(bias))
            .transpose()?;
        Ok(match self.config.norm {
            NormKind::Rms => StreamNorm::Rms(weight),
            NormKind::Layer { .. } => StreamNorm::Layer {
                weight,
                bias: bias.map(|bias| self.backend.vector(&bias)).transpose()?,
            },
        })
    }

    pub(super) fn post_norm(&self, layout: &KvLayout) -> Result<PostNorm, ModelError> {
        let rms = |norm: Option<&NormTensors>, factor: f32| -> Result<Option<Buffer>, ModelError> {
            norm.map(|norm| self.scaled_norm(&norm.weight, factor))
                .transpose()
        };
        let first = |layer: usize| {
            let [first, ..] = self.config.layer_tensors(layer).norms;
            rms(first.as_ref(), 1.0)
        };
        let behind = |layer: usize| match layer + 1 < self.config.num_layers {
            true => first(layer + 1),
            false => rms(
                Some(&self.config.final_norm()),
                self.config.multipliers.logits,
            ),
        };
        let after = |norm: &Option<NormTensors>| {
            let norm = rms(norm.as_ref(), self.config.multipliers.residual)?;
            norm.ok_or_else(|| self.unnamed_norm())
        };
        let first_norm = first(0)?;
        let layers = self.layers(layout).map(|(layer, place, tensors)| {
            let [_, after_attention, before_mlp, after_mlp] = &tensors.norms;
            Ok(PostNormLayer {
                attention: self.attention(layer, &tensors, place)?,
                after_attention: after(after_attention)?,
                before_mlp: rms(before_mlp.as_ref(), 1.0)?,
                mlp: self.mlp(layer, &tensors)?,
                after_mlp: after(after_mlp)?,
                next_norm: behind(layer)?,
            })
        });
        Ok(PostNorm {
            first_norm,
            layers: layers.collect::<Result<_, ModelError>>()?,
        })
    }

    /// The error for a norm that the family's skeleton has in each layer.
    fn unnamed_norm(&self) -> ModelError {
        ModelError::MissingTensor {
            name: "a norm of the family".to_owned(),
            expected: vec![self.config.hidden_size],
            hint: "the family names no tensor for it".to_owned(),
        }
    }
}
