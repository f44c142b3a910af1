//! Tables of cosines and sines.
//!
//! Models are trained and published with angles computed in f32, whose rounding at position 10,000
//! already shows in the third decimal. The tables therefore round where the reference does.

use maitre_tensor::{Backend, Buffer, TensorError};

use crate::rope::RopeConfig;

/// Tables of every way in which a model's layers turn their heads.
#[derive(Debug)]
pub(crate) struct RopeTables {
    tables: Vec<RopeTable>,
    /// Of layers that turn nothing. Its one number is never read.
    none: RopeTable,
}

/// Cosines and sines of every angle, `[positions, dims / 2]` each.
#[derive(Debug)]
pub(crate) struct RopeTable {
    pub(crate) cos: Buffer,
    pub(crate) sin: Buffer,
    /// Factors of turned queries, `[positions]`.
    pub(crate) q_factors: Option<Buffer>,
    /// Numbers of a head that are turned.
    pub(crate) dims: usize,
}

impl RopeTables {
    /// Tables for positions `0..positions` of a model set up for `context_len` tokens.
    pub(crate) fn new(
        backend: &Backend,
        ropes: &[RopeConfig],
        positions: usize,
        context_len: usize,
    ) -> Result<Self, TensorError> {
        let table = |rope| RopeTable::new(backend, rope, positions, context_len);
        Ok(Self {
            tables: ropes.iter().map(table).collect::<Result<_, _>>()?,
            none: RopeTable {
                cos: backend.vector(&[1.0])?,
                sin: backend.vector(&[0.0])?,
                q_factors: None,
                dims: 0,
            },
        })
    }

    /// The table of a layer's way, by its number in the model's list.
    pub(crate) fn of(&self, rope: Option<usize>) -> &RopeTable {
        // A specification names none but those it lists.
        rope.map_or(&self.none, |rope| &self.tables[rope])
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        let size = |table: &RopeTable| {
            let factors = table.q_factors.as_ref().map_or(0, Buffer::size_in_bytes);
            table.cos.size_in_bytes() + table.sin.size_in_bytes() + factors
        };
        self.tables.iter().map(size).sum()
    }
}

impl RopeTable {
    fn new(
        backend: &Backend,
        rope: &RopeConfig,
        positions: usize,
        context_len: usize,
    ) -> Result<Self, TensorError> {
        let frequencies = rope.frequencies(context_len);
        let factor = rope.scaling.attention_factor();
        let angles = || {
            (0..positions).flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |frequency| f64::from(position as f32 * frequency))
            })
        };
        let table = |function: fn(f64) -> f64| -> Result<Buffer, TensorError> {
            let values: Vec<f32> = angles()
                .map(|angle| function(angle) as f32 * factor)
                .collect();
            backend.vector(&values)
        };
        let q_factors = rope.query_growth.map(|growth| {
            let factors = (0..positions).map(|position| growth.factor(position));
            backend.vector(&factors.collect::<Vec<f32>>())
        });
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            q_factors: q_factors.transpose()?,
            dims: rope.dims,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope::{Llama3Scaling, RopePairs, RopeScaling};

    #[test]
    fn tables_hold_the_angle_of_position_times_frequency() {
        let rope: RopeConfig = llama31();
        let backend = Backend::cpu(1).unwrap();
        let tables = RopeTables::new(&backend, std::slice::from_ref(&rope), 300, 300).unwrap();
        let table = tables.of(Some(0));
        let angle = 299.0 * rope.frequencies(300)[1];
        assert_eq!(table.cos.f32s().unwrap()[299 * 4 + 1], angle.cos());
        assert_eq!(table.sin.f32s().unwrap()[299 * 4 + 1], angle.sin());
        assert_eq!(table.cos.f32s().unwrap()[..4], [1.0; 4]);
    }

    /// Llama 3.1's.
    fn llama31() -> RopeConfig {
        RopeConfig {
            theta: 500_000.0,
            scaling: RopeScaling::Llama3(Llama3Scaling {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            }),
            dims: 8,
            pairs: RopePairs::Halves,
            query_growth: None,
        }
    }
}
