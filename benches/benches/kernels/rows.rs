//! What happens to each row by itself between two products, in the form that the next one reads.
//! The rows come from a cache, so the rate at which memory is read is a landmark here, not a limit.

use anyhow::Result;
use maitre_benches::{Bench, Peak, Work};
use maitre_tensor::{Buffer, LinearInput, WeightFormat};

use crate::data::numbers;

const HIDDEN: usize = 1024;
const INTER: usize = 3072;
const MOST_ROWS: usize = 256;

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let backend = bench.backend();
    let norm = Buffer::from_f32s(&numbers(HIDDEN))?;
    let x = Buffer::from_f32s(&numbers(MOST_ROWS * 2 * INTER))?;
    let mut sum = Buffer::from_f32s(&numbers(MOST_ROWS * HIDDEN))?;
    for format in [WeightFormat::Bf16, WeightFormat::INT8] {
        let mut hidden = LinearInput::new(format.input(), HIDDEN, MOST_ROWS)?;
        let mut inter = LinearInput::new(format.input(), INTER, MOST_ROWS)?;
        for rows in [1, 64, MOST_ROWS] {
            let shape = format!("to {format}, m {rows}");
            let work = |numbers_per_row| Work {
                bytes: rows * numbers_per_row * size_of::<f32>(),
                ops: 0,
                peak: Peak::F32,
            };
            bench.measure("rms_norm", &shape, work(HIDDEN), || {
                Ok(backend.rms_norm(&x, &norm, 1e-6, &mut hidden, rows)?)
            })?;
            bench.measure("add_rms_norm", &shape, work(2 * HIDDEN), || {
                Ok(backend.add_rms_norm(&mut sum, &x, &norm, 1e-6, &mut hidden, rows)?)
            })?;
            bench.measure("encode", &shape, work(INTER), || {
                Ok(backend.encode(&x, &mut inter, rows)?)
            })?;
        }
    }
    Ok(())
}
