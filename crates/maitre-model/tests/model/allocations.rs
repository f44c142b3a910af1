//! A step of a kind that was there before allocates nothing: neither activations nor lists of rows, whatever the lengths
//! of its block tables.

use std::ops::Range;

use maitre_model::{
    Batch, Drawn, Executor, Logits, RowSink, RowWant, RunnerConfig, StepInput, Synchronous,
};
use maitre_tensor::WeightFormat;

use crate::support::{Host, Part, batch, bundled, in_dtype};

/// Looks at every row, and keeps one number.
#[derive(Default)]
struct Sum(f32);

impl RowSink for Sum {
    fn wants(&self, _rows: Range<usize>) -> bool {
        true
    }

    fn token(&mut self, _row: usize, drawn: Drawn) {
        self.0 += drawn.token as f32;
    }

    fn logits(&mut self, _rows: Range<usize>, logits: Logits<'_>) {
        self.0 += logits.values.iter().sum::<f32>();
    }

    fn faulty(&mut self, row: usize) {
        panic!("row {row} is faulty");
    }
}

/// One long prompt and 39 decodes at different lengths, in two tiles of output rows.
fn mixed(tables: &[Vec<u32>], prompt: &[u32]) -> Batch {
    let decode = |(index, table)| Part {
        tokens: &prompt[index..=index],
        start: 3 + 2 * index,
        table,
    };
    let mut parts = vec![Part {
        tokens: prompt,
        start: 0,
        table: &tables[0],
    }];
    parts.extend((1..tables.len()).map(|index| decode((index, &tables[index]))));
    let mut batch = batch(&parts, 16);
    let rows = prompt.len() as u32..prompt.len() as u32 + tables.len() as u32 - 1;
    batch.output_rows = rows.collect();
    batch
}

#[test]
fn a_step_allocates_nothing() {
    let source = bundled(&maitre_bundled::TARGET);
    for dtype in [WeightFormat::Bf16, WeightFormat::INT8] {
        // One thread, so that all of it is counted: what others do is counted in the tests of maitre-tensor.
        let host = Host::new(&source, &in_dtype(dtype), 1);
        let mut executor = Synchronous::new(host.sized(RunnerConfig::new(256, 16, 256, 64)));
        let tables: Vec<Vec<u32>> = (0..40)
            .map(|index| (index * 6..index * 6 + 6).collect())
            .collect();
        let prompt: Vec<u32> = (10..90).collect();
        let batch = mixed(&tables, &prompt);
        let wants = vec![RowWant::Logits; batch.output_rows.len()];
        let mut step = || {
            let step = StepInput {
                batch: &batch,
                sampled: &[],
                wants: &wants,
                choosable: executor.vocab_size(),
            };
            let mut sum = Sum::default();
            let ticket = executor.submit(&step).unwrap();
            executor.wait(ticket, &mut sum).unwrap();
            sum.0
        };
        let first = step();
        let counted = allocation_counter::measure(|| assert_eq!(step(), first));
        assert_eq!(counted.count_total, 0, "{dtype:?}: {counted:?}");
    }
}
