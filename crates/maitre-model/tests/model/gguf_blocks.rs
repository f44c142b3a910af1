//! Models whose matrices are stored blocks: computed with as they are, in every arrangement with the same bits.

use maitre_model::{LoadOptions, ModelSource};
use maitre_tensor::{BlockFormat, KvFormat, WeightFormat};
use tempfile::TempDir;

use crate::gguf::writer::{Writer, text};
use crate::gguf::written;
use crate::support::{Host, bits, prefill, runner};

const HIDDEN: usize = 256;
const INTER: usize = 512;
const HEAD_DIM: usize = 64;
const VOCAB: usize = 83;

/// The format's number in a file, and a scale with which its numbers are around 0.05; where a block has it and, if it has
/// one, the minimum.
fn stored_as(format: BlockFormat) -> (u32, f32, &'static [usize]) {
    match format {
        BlockFormat::Q4_0 => (2, 0.01, &[0]),
        BlockFormat::Q4_1 => (3, 0.005, &[0, 2]),
        BlockFormat::Q5_0 => (6, 0.005, &[0]),
        BlockFormat::Q5_1 => (7, 0.003, &[0, 2]),
        BlockFormat::Q8_0 => (8, 0.0007, &[0]),
        BlockFormat::Q2K => (10, 0.003, &[80, 82]),
        BlockFormat::Q3K => (11, 0.001, &[108]),
        BlockFormat::Q4K => (12, 0.0002, &[0, 2]),
        BlockFormat::Q5K => (13, 0.0001, &[0, 2]),
        BlockFormat::Q6K => (14, 0.00004, &[208]),
        BlockFormat::Iq4Nl => (20, 0.0008, &[0]),
        BlockFormat::Iq4Xs => (23, 0.00004, &[0]),
        _ => (39, 0.0, &[]),
    }
}

/// Random numbers, 32 bits each.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    fn blocks(&mut self, format: BlockFormat, rows: usize, cols: usize) -> Vec<u8> {
        let (_, scale, heads) = stored_as(format);
        let count = rows * cols / format.block_len() * format.block_bytes();
        let mut bytes: Vec<u8> = (0..count).map(|_| self.next() as u8).collect();
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in heads {
                let near = scale * (0.5 + (self.next() % 1000) as f32 / 1000.0);
                block[*at..at + 2].copy_from_slice(&half::f16::from_f32(near).to_le_bytes());
            }
            if format == BlockFormat::Mxfp4 {
                block[0] = 120 + block[0] % 2;
            }
        }
        bytes
    }
}

/// A random model of two layers whose matrices are stored in `formats`, by turns; the embedding is the output matrix too.
fn model(formats: &[BlockFormat]) -> (TempDir, ModelSource) {
    model_beside(formats, "")
}

/// The same with one matrix in f16.
fn model_beside(formats: &[BlockFormat], plain: &str) -> (TempDir, ModelSource) {
    let mut noise = Noise(7);
    let mut writer = Writer::new(32);
    writer.set("general.architecture", 8, &text("llama"));
    for (key, value) in [
        ("embedding_length", HIDDEN),
        ("feed_forward_length", INTER),
        ("block_count", 2),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", HEAD_DIM),
        ("rope.dimension_count", HEAD_DIM),
        ("context_length", 128),
    ] {
        writer.set(&format!("llama.{key}"), 4, &(value as u32).to_le_bytes());
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", 1e-5_f32),
        ("rope.freq_base", 10_000.0),
    ] {
        writer.set(&format!("llama.{key}"), 6, &value.to_le_bytes());
    }
    let mut formats = formats.iter().cycle();
    let mut matrix = |writer: &mut Writer, name: &str, rows: usize, cols: usize| {
        let format = *formats.next().unwrap();
        if name == plain {
            let number = |_| half::f16::from_f32((noise.next() % 201) as f32 / 1000.0 - 0.1);
            let halves = (0..rows * cols).map(number);
            let bytes: Vec<u8> = halves.flat_map(half::f16::to_le_bytes).collect();
            return writer.tensor(name, &[cols as u64, rows as u64], 1, &bytes);
        }
        let bytes = noise.blocks(format, rows, cols);
        let (kind, ..) = stored_as(format);
        writer.tensor(name, &[cols as u64, rows as u64], kind, &bytes);
    };
    let norm = |writer: &mut Writer, name: &str| {
        let ones: Vec<u8> = (0..HIDDEN).flat_map(|_| 1_f32.to_le_bytes()).collect();
        writer.tensor(name, &[HIDDEN as u64], 0, &ones);
    };
    matrix(&mut writer, "token_embd.weight", VOCAB, HIDDEN);
    norm(&mut writer, "output_norm.weight");
    for layer in 0..2 {
        let name = |module: &str| format!("blk.{layer}.{module}.weight");
        norm(&mut writer, &name("attn_norm"));
        norm(&mut writer, &name("ffn_norm"));
        for (module, rows, cols) in [
            ("attn_q", 4 * HEAD_DIM, HIDDEN),
            ("attn_k", 2 * HEAD_DIM, HIDDEN),
            ("attn_v", 2 * HEAD_DIM, HIDDEN),
            ("attn_output", HIDDEN, 4 * HEAD_DIM),
            ("ffn_gate", INTER, HIDDEN),
            ("ffn_up", INTER, HIDDEN),
            ("ffn_down", HIDDEN, INTER),
        ] {
            matrix(&mut writer, &name(module), rows, cols);
        }
    }
    written(&writer)
}

fn tokens() -> Vec<u32> {
    (0..50).map(|it| it * 7 % VOCAB as u32).collect()
}

/// One format throughout, and several: then query, key and value are pieces, and a gate stored otherwise than what it gates
/// is widened with it.
fn mixtures() -> Vec<Vec<BlockFormat>> {
    let mut all: Vec<_> = BlockFormat::ALL.map(|it| vec![it]).to_vec();
    all.push(BlockFormat::ALL.to_vec());
    // As the files called Q4_K_M are.
    all.push(vec![
        BlockFormat::Q6K,
        BlockFormat::Q4K,
        BlockFormat::Q4K,
        BlockFormat::Q6K,
        BlockFormat::Q4K,
        BlockFormat::Q4K,
        BlockFormat::Q4K,
        BlockFormat::Q6K,
    ]);
    all
}

/// Activations are rounded to int8, the file's numbers are not rounded at all.
#[test]
fn stored_blocks_compute_what_their_numbers_do() {
    for formats in mixtures() {
        compare(&model(&formats).1, &format!("{formats:?}"));
    }
}

/// A matrix that was left in f16: its role is widened in all layers, or it is alone in its role. Beside Q8_0, because random
/// minimums make scores so large that the smallest error decides what attention sees.
#[test]
fn a_matrix_that_is_not_quantized_goes_with_the_others() {
    for plain in [
        "token_embd.weight",
        "blk.0.attn_v.weight",
        "blk.1.attn_output.weight",
        "blk.0.ffn_up.weight",
        "blk.1.ffn_down.weight",
    ] {
        let (_kept, source) = model_beside(&[BlockFormat::Q8_0], plain);
        compare(&source, plain);
    }
}

/// That a model as it is stored has the logits of its numbers in f32, but for the rounding of activations.
fn compare(source: &ModelSource, what: &str) {
    let logits = |dtype: Option<WeightFormat>| -> Vec<f32> {
        let options = LoadOptions {
            dtype,
            kv_dtype: Some(KvFormat::F32),
            ..LoadOptions::default()
        };
        prefill(&mut runner(source, &options, 2), &tokens(), 50).concat()
    };
    let (stored, exact) = (logits(None), logits(Some(WeightFormat::F32)));
    let square = |numbers: &mut dyn Iterator<Item = f32>| -> f64 {
        numbers.map(|it| f64::from(it) * f64::from(it)).sum()
    };
    let error = square(&mut stored.iter().zip(&exact).map(|(a, b)| a - b));
    let error = (error / square(&mut exact.iter().copied())).sqrt();
    println!("{what}: off by {error:.4} of the logits");
    // Half a percent for each of some ten products in a row, as steps of 1/127 of the largest of 32 predict; more where
    // random minimums leave small differences of large sums.
    assert!(
        (1e-4..5e-2).contains(&error),
        "{what}: off by {error} of the logits"
    );
}

#[test]
fn stored_blocks_give_the_same_bits_however_a_prompt_is_cut() {
    for formats in mixtures() {
        let (_kept, source) = model(&formats);
        let run = |threads: usize, chunk: usize| -> Vec<Vec<u32>> {
            let mut runner = runner(&source, &LoadOptions::default(), threads);
            let rows = prefill(&mut runner, &tokens(), chunk);
            rows.iter().map(|row| bits(row)).collect()
        };
        let whole = run(2, 50);
        for (threads, chunk) in [(1, 50), (2, 1), (3, 7)] {
            assert!(
                run(threads, chunk) == whole,
                "{formats:?}, chunks of {chunk}"
            );
        }
    }
}

#[test]
fn blocks_take_in_memory_what_they_take_in_the_file() {
    for format in BlockFormat::ALL {
        let (_kept, source) = model(&[format]);
        let prepared = Host::new(&source, &LoadOptions::default(), 1);
        assert_eq!(prepared.model().dtype(), WeightFormat::Blocks(format));
        let bits = WeightFormat::Blocks(format).bits_per_weight();
        let matrices = 2 * (HIDDEN * (8 * HEAD_DIM) + 4 * HEAD_DIM * HIDDEN + 3 * INTER * HIDDEN);
        // The vocabulary fills the last of its panels up.
        let numbers = matrices + VOCAB.next_multiple_of(16) * HIDDEN;
        let norms = 5 * HIDDEN * 4;
        let expected = (numbers as f64 * bits / 8.0) as usize + norms;
        let found = prepared.model().weight_bytes();
        // Panels begin at cache lines.
        let most = expected + expected / 50;
        assert!(
            (expected..=most).contains(&found),
            "{format}: {found} bytes, expected {expected}"
        );
    }
}
