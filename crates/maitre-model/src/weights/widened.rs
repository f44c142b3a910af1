//! Which matrices of a file of stored blocks can't stay as they are stored.

use std::collections::BTreeSet;

use maitre_tensor::{BlockFormat, BlocksView, WeightFormat};

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::inventory::Projection;

/// What the matrices of one role read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blocks,
    Dense(WeightFormat),
}

/// The tensors that have to become f32, which holds the numbers of all formats exactly.
///
/// What a step computes is brought into one form for all layers' matrices that read it: a role whose matrices, or whose
/// matrices' parts, want different forms is widened in all layers. (A gate and what it gates are computed side by side, so
/// they have one format of blocks.)
pub(super) fn widened(source: &dyn Checkpoint, config: &ModelConfig) -> BTreeSet<String> {
    let mut roles: [Vec<(Projection, bool)>; 3] = Default::default();
    for layer in 0..config.num_layers {
        let tensors = config.layer_tensors(layer);
        let [normed, attended, activated] = &mut roles;
        let is_gated = config.layers.get(layer).is_none_or(|it| it.mlp.gated);
        normed.extend([(tensors.qkv, false), (tensors.gate_up, is_gated)]);
        attended.push((tensors.output, false));
        activated.push((tensors.down, false));
    }
    let mut names = BTreeSet::new();
    for role in &roles {
        let mut kinds = role
            .iter()
            .map(|(projection, is_gated)| kind(source, projection, *is_gated));
        let first = kinds.next().flatten();
        if first.is_none() || kinds.any(|kind| kind != first) {
            let tensors = role.iter().flat_map(|(projection, _)| &projection.tensors);
            names.extend(tensors.map(|(weight, _)| weight.name.clone()));
        }
    }
    names
}

/// What a matrix reads as it is stored; `None` if its parts do not go together.
fn kind(source: &dyn Checkpoint, projection: &Projection, is_gated: bool) -> Option<Kind> {
    let formats = projection
        .parts
        .iter()
        .map(|part| source.format_of(&projection.tensors.get(part.tensor)?.0.name))
        .collect::<Option<Vec<_>>>()?;
    let blocks: Option<Vec<BlockFormat>> = formats
        .iter()
        .map(|format| match format {
            WeightFormat::Blocks(format) => Some(*format),
            _ => None,
        })
        .collect();
    let Some(blocks) = blocks else {
        let first = *formats.first()?;
        let are_alike = formats.iter().all(|format| *format == first);
        return are_alike.then_some(Kind::Dense(first));
    };
    let go_together = blocks
        .windows(2)
        .zip(&projection.parts)
        .all(|(pair, part)| {
            pair.first() == pair.last()
                || !is_gated && part.rows.len().is_multiple_of(BlocksView::PIECE_ROWS)
        });
    go_together.then_some(Kind::Blocks)
}
