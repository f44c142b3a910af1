//! Memory that attention takes before the first step.

use maitre_tensor::{Backend, LargestAttention, LargestStep, LayerCache, SampleRows, SampledRow};

use super::{Case, FORMATS};
use crate::backends;

#[test]
fn what_is_reserved_is_enough_for_every_step() {
    let free = |gpu: &Backend| gpu.gpu_memory().unwrap().unwrap().free_bytes;
    for (format, dim) in FORMATS.into_iter().flat_map(|f| [24, 128].map(|d| (f, d))) {
        let (kv_heads, group) = (2, 2);
        let reserve = |gpu: &Backend, rows, context_len| {
            let largest = LargestAttention {
                format,
                heads: kv_heads * group,
                kv_heads,
                head_dim: dim,
                rows,
                context_len,
            };
            let before = free(gpu);
            gpu.reserve(LargestStep {
                inputs: &[],
                cache: &LayerCache::new(16, kv_heads, dim, format).unwrap(),
                block_size: 16,
                heads: largest.heads,
                rows: largest.rows,
                context_len,
                list_words: 4 * 80 + 8 * (4 + 63),
            })
            .unwrap();
            let scratch = gpu.gpu_scratch_bytes(&largest) as u64;
            assert!(
                scratch > 0 && before - free(gpu) >= scratch,
                "{format} {dim} {scratch}"
            );
            free(gpu)
        };
        let run = |gpu: &Backend, sequences: &[_]| {
            Case::new((kv_heads, group, dim), format, sequences).run(gpu);
        };
        let Some((_, gpu)) = backends() else { return };
        let reserved = reserve(&gpu, 80, 1_000);
        let steps: [&[_]; 5] = [
            &[(0, 999, 1)],
            &[(0, 920, 80)],
            &[(0, 970, 30), (1, 0, 50)],
            &[(0, 700, 1), (1, 999, 1), (2, 0, 1), (3, 511, 1)],
            &[(0, 1, 1)],
        ];
        for sequences in steps {
            run(&gpu, sequences);
            assert_eq!(free(&gpu), reserved, "{format} {dim} {sequences:?}");
        }
        choose_from_80_rows(&gpu);
        assert_eq!(free(&gpu), reserved, "{format} {dim}");
        // A step beyond what was reserved takes more.
        let Some((_, gpu)) = backends() else { return };
        let reserved = reserve(&gpu, 1, 16);
        run(&gpu, &[(0, 60_000, 1)]);
        assert!(free(&gpu) < reserved, "{format} {dim}");
    }
}

fn choose_from_80_rows(gpu: &Backend) {
    let logits = gpu.vector(&[0.0; 80 * 8]).unwrap();
    gpu.sample_rows(SampleRows {
        logits: &logits,
        vocab: 8,
        choosable: 8,
        rows: &[None; 80],
        out: &mut [SampledRow::Skipped; 80],
    })
    .unwrap();
}
