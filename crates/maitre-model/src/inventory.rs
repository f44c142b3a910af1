//! The tensors that a configuration needs: names, shapes, and the settings that imply the shapes.
//!
//! A checkpoint is checked against this list before anything of it is read, and a layer is loaded by the part of the
//! list that is its own.

use std::ops::Range;

use crate::checkpoint::FileNames;
use crate::config::ModelConfig;
use crate::names::{EMBEDDING, FINAL_NORM, HEAD, POSITIONS, Stacked};
use crate::pairs::Neighbours;
use crate::registry::Keys;
use crate::rope::RopePairs;
use crate::spec::{HeadNorm, NormKind};

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The settings of `config.json` that the shape comes from.
    pub(crate) settings: String,
}

/// Tensors whose rows are stacked to one matrix.
#[derive(Debug)]
pub(crate) struct Projection {
    /// Each with its bias, if it has one.
    pub(crate) tensors: Vec<(Needed, Option<Needed>)>,
    /// What is stacked: rows of one of the tensors.
    pub(crate) parts: Vec<Part>,
    /// Input features.
    pub(crate) cols: usize,
    /// How rows of the first two parts lie, queries and keys, unless in the order of halves.
    pub(crate) neighbours: Option<Neighbours>,
}

/// Rows of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which of the projection's.
    pub(crate) tensor: usize,
    pub(crate) rows: Range<usize>,
}

/// A norm of the residual stream.
#[derive(Debug)]
pub(crate) struct NormTensors {
    pub(crate) weight: Needed,
    pub(crate) bias: Option<Needed>,
}

/// The tensors of one layer.
#[derive(Debug)]
pub(crate) struct LayerTensors {
    /// Queries, keys and values.
    pub(crate) qkv: Projection,
    pub(crate) output: Projection,
    /// The gate and what it gates, or what takes their place.
    pub(crate) gate_up: Projection,
    pub(crate) down: Projection,
    /// Before attention, after it, before the MLP, after it.
    pub(crate) norms: [Option<NormTensors>; 4],
    /// Of queries and of keys.
    pub(crate) head_norms: Option<[Needed; 2]>,
}

const HIDDEN: &str = "hidden_size";

impl Needed {
    fn new(name: impl Into<String>, shape: &[usize], settings: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            settings: settings.into(),
        }
    }

    /// Numbers in it.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl ModelConfig {
    /// What tensors are called in files of safetensors.
    pub(crate) fn file_names(&self) -> FileNames {
        self.wrapper
            .map_or(self.architecture.family().names.files, |wrapper| {
                *wrapper.files()
            })
    }

    /// Settings by the names that the family's files give them.
    pub(crate) fn own_names(&self, settings: &str) -> String {
        let keys = &self.architecture.family().defaults.keys;
        let llama = Keys::LLAMA;
        let pairs = [
            (llama.hidden_size, keys.hidden_size),
            (llama.intermediate_size, keys.intermediate_size),
            (llama.num_heads, keys.num_heads),
            (llama.max_position_embeddings, keys.max_position_embeddings),
        ];
        let name = |setting: &str| {
            let found = pairs.iter().find(|(theirs, _)| *theirs == setting);
            found.map_or(setting, |(_, own)| own).to_owned()
        };
        let parts = settings.split(", ").map(|part| {
            let factors = part.split(" * ").map(name);
            factors.collect::<Vec<_>>().join(" * ")
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Every tensor of the model, with the output matrix even if it is the embedding.
    pub(crate) fn needed_tensors(&self) -> Vec<Needed> {
        let vocabulary = [self.vocab_size, self.hidden_size];
        let mut all = vec![
            Needed::new(EMBEDDING, &vocabulary, "vocab_size, hidden_size"),
            Needed::new(HEAD, &vocabulary, "vocab_size, hidden_size"),
        ];
        all.extend(self.final_norm().into_list());
        if self.learned_positions {
            let positions = [self.max_position_embeddings, self.hidden_size];
            let settings = "max_position_embeddings, hidden_size";
            all.push(Needed::new(POSITIONS, &positions, settings));
        }
        for layer in 0..self.num_layers {
            all.extend(self.layer_tensors(layer).into_list());
        }
        all
    }

    /// The norm before the output matrix.
    pub(crate) fn final_norm(&self) -> NormTensors {
        self.norm_tensors(FINAL_NORM)
    }

    fn norm_tensors(&self, module: &str) -> NormTensors {
        let vector =
            |kind: &str| Needed::new(format!("{module}.{kind}"), &[self.hidden_size], HIDDEN);
        let is_biased = self.norm == NormKind::Layer { bias: true };
        NormTensors {
            weight: vector("weight"),
            bias: is_biased.then(|| vector("bias")),
        }
    }

    /// The tensors of layer `layer`, which the model has.
    pub(crate) fn layer_tensors(&self, layer: usize) -> LayerTensors {
        let names = &self.architecture.family().names;
        let spec = &self.layers[layer];
        let named = LayerNames {
            prefix: format!("model.layers.{layer}."),
        };
        let (hidden, inter) = (self.hidden_size, self.intermediate_size);
        let (query, kv) = (self.query_size(), self.kv_size());
        const QUERY: &str = "num_attention_heads * head_dim";
        const KV: &str = "num_key_value_heads * head_dim";
        const INTER: &str = "intermediate_size";
        let (qkv_bias, mlp_bias) = (spec.attention.qkv_bias, spec.mlp.bias);
        LayerTensors {
            qkv: Projection {
                neighbours: self.neighbours(spec.attention.rope),
                ..named.stacked(
                    names.qkv,
                    [(query, QUERY), (kv, KV), (kv, KV)],
                    (hidden, HIDDEN),
                    qkv_bias,
                )
            },
            output: named.stacked(
                Stacked::Apart([names.output]),
                [(hidden, HIDDEN)],
                (query, QUERY),
                spec.attention.output_bias,
            ),
            gate_up: match names.gate_up {
                Stacked::Fused(up) if !spec.mlp.gated => named.stacked(
                    Stacked::Apart([up]),
                    [(inter, INTER)],
                    (hidden, HIDDEN),
                    mlp_bias,
                ),
                both => named.stacked(both, [(inter, INTER); 2], (hidden, HIDDEN), mlp_bias),
            },
            down: named.stacked(
                Stacked::Apart([names.down]),
                [(hidden, HIDDEN)],
                (inter, INTER),
                mlp_bias,
            ),
            norms: names
                .norms
                .in_order()
                .map(|name| Some(self.norm_tensors(&format!("{}{}", named.prefix, name?)))),
            head_norms: self.head_norms(&named, spec.attention.head_norm),
        }
    }

    /// How rows of queries and keys lie that `rope` turns, unless in the order of halves.
    fn neighbours(&self, rope: Option<usize>) -> Option<Neighbours> {
        let rope = self.ropes.get(rope?)?;
        (rope.pairs == RopePairs::Neighbours).then_some(Neighbours {
            head_dim: self.head_dim,
            turned: rope.dims,
        })
    }

    fn head_norms(&self, named: &LayerNames, kind: HeadNorm) -> Option<[Needed; 2]> {
        let [q, k] = self.architecture.family().names.head_norms;
        let head_dim = self.head_dim;
        match kind {
            HeadNorm::Absent => None,
            HeadNorm::PerHead | HeadNorm::PerHeadTurned => {
                Some([q, k].map(|it| named.vector(it, head_dim, "head_dim")))
            }
            HeadNorm::WholeRow => Some([
                named.vector(q, self.query_size(), "num_attention_heads * head_dim"),
                named.vector(k, self.kv_size(), "num_key_value_heads * head_dim"),
            ]),
        }
    }
}

impl Projection {
    /// One tensor, whole.
    pub(crate) fn single(name: &str, rows: usize, cols: usize) -> Self {
        Self {
            tensors: vec![(
                Needed::new(name, &[rows, cols], "vocab_size, hidden_size"),
                None,
            )],
            parts: vec![Part {
                tensor: 0,
                rows: 0..rows,
            }],
            cols,
            neighbours: None,
        }
    }

    /// A tensor's bias in the order that its rows have in memory.
    pub(crate) fn in_halves(&self, tensor: usize, mut bias: Vec<f32>) -> Vec<f32> {
        if let Some((neighbours, rows)) = self.paired_rows(tensor) {
            for rows in rows {
                let heads = neighbours.in_halves(&bias[rows.clone()], 1);
                bias[rows].copy_from_slice(&heads);
            }
        }
        bias
    }

    /// Rows of a tensor that lie in pairs of neighbours.
    pub(crate) fn paired_rows(&self, tensor: usize) -> Option<(Neighbours, Vec<Range<usize>>)> {
        let parts = self.parts.iter().take(2);
        let rows = parts
            .filter(|part| part.tensor == tensor)
            .map(|part| part.rows.clone());
        let rows: Vec<_> = rows.collect();
        (!rows.is_empty()).then_some((self.neighbours?, rows))
    }
}

impl NormTensors {
    fn into_list(self) -> impl Iterator<Item = Needed> {
        std::iter::once(self.weight).chain(self.bias)
    }
}

impl LayerTensors {
    /// All of them, as messages go through them.
    fn into_list(self) -> impl Iterator<Item = Needed> {
        let projections = [self.qkv, self.output, self.gate_up, self.down];
        let tensors = projections.into_iter().flat_map(|it| it.tensors);
        let norms = self.norms.into_iter().flatten();
        let norms = norms.flat_map(NormTensors::into_list);
        tensors
            .flat_map(|(weight, bias)| std::iter::once(weight).chain(bias))
            .chain(norms)
            .chain(self.head_norms.into_iter().flatten())
    }
}

/// Names within a layer.
struct LayerNames {
    /// `model.layers.N.`
    prefix: String,
}

impl LayerNames {
    /// A projection of so many input features. Of each part the rows, and of both the settings that they come from.
    fn stacked<const N: usize>(
        &self,
        names: Stacked<N>,
        parts: [(usize, &str); N],
        (cols, of_cols): (usize, &str),
        biased: bool,
    ) -> Projection {
        let tensor = |module: &str, rows: usize, of_rows: &str| {
            let name = |kind: &str| format!("{}{module}.{kind}", self.prefix);
            let settings = format!("{of_rows}, {of_cols}");
            let bias = biased.then(|| Needed::new(name("bias"), &[rows], of_rows));
            (Needed::new(name("weight"), &[rows, cols], settings), bias)
        };
        let (tensors, parts) = match names {
            Stacked::Apart(modules) => (
                modules
                    .iter()
                    .zip(parts)
                    .map(|(module, (rows, of_rows))| tensor(module, rows, of_rows))
                    .collect(),
                parts
                    .iter()
                    .enumerate()
                    .map(|(tensor, (rows, _))| Part {
                        tensor,
                        rows: 0..*rows,
                    })
                    .collect(),
            ),
            Stacked::Fused(module) => {
                let total = parts.iter().map(|(rows, _)| rows).sum();
                let of_rows = parts.map(|(_, of_rows)| of_rows).join(" + ");
                let mut end = 0;
                let below_each_other = parts.iter().map(|(rows, _)| {
                    end += rows;
                    Part {
                        tensor: 0,
                        rows: end - rows..end,
                    }
                });
                let parts = below_each_other.collect();
                (vec![tensor(module, total, &of_rows)], parts)
            }
        };
        Projection {
            tensors,
            parts,
            cols,
            neighbours: None,
        }
    }

    fn vector(&self, module: &str, len: usize, settings: &str) -> Needed {
        Needed::new(format!("{}{module}.weight", self.prefix), &[len], settings)
    }
}
