//! What each operator refuses, and in which words. Nothing is written by a refused call.

use maitre_tensor::{
    Attention, Backend, BlockTables, Buffer, DType, InputFormat, KvFormat, LayerCache, LinearInput,
    PackedWeight, RopeStore, Span, TensorError, WeightFormat,
};

use crate::numbers::{buffer, weight};

fn zeros(len: usize) -> Buffer {
    Buffer::zeros(DType::F32, len).unwrap()
}

fn bf16(len: usize) -> Buffer {
    Buffer::zeros(DType::Bf16, len).unwrap()
}

#[track_caller]
fn refused(result: Result<(), TensorError>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

#[test]
fn row_operators_refuse_wrong_shapes() {
    let b = Backend::cpu(2).unwrap();
    let (w, _): (PackedWeight, _) = weight(1, 5, 4, WeightFormat::F32);
    let out = &mut buffer(&[7.0; 12]);
    refused(
        b.embed(&w, &[0, 5], out),
        "embed: `tokens`[1] is 5, but must be below 5",
    );
    refused(
        b.embed(&w, &[0; 4], out),
        "embed: `out` must be at least [4, 4] f32 elements, but is 12 f32 elements",
    );
    refused(
        b.embed(&w, &[0], &mut bf16(4)),
        "embed: `out` must be at least [1, 4] f32 elements, but is 4 bf16 elements",
    );
    refused(
        b.gather_rows(&zeros(8), 0, &[], out),
        "gather_rows: `dim` must be above 0, but is 0",
    );
    refused(
        b.gather_rows(&zeros(11), 4, &[1, 2], out),
        "gather_rows: `rows`[1] is 2, but must be below 2",
    );
    let mut memory = LinearInput::new(InputFormat::Bf16, 4, 3).unwrap();
    let input = &mut memory;
    refused(
        b.rms_norm(&zeros(8), &zeros(4), 0.0, input, 3),
        "rms_norm: `x` must be at least [3, 4] f32 elements, but is 8 f32 elements",
    );
    refused(
        b.rms_norm(&zeros(8), &zeros(0), 0.0, input, 3),
        "rms_norm: `weight` must be at least 1 element, but is empty",
    );
    refused(
        b.rms_norm(&zeros(8), &bf16(4), 0.0, input, 2),
        "rms_norm: `weight` must be 4 f32 elements, but is 4 bf16 elements",
    );
    refused(
        b.add_rms_norm(&mut zeros(8), &zeros(7), &zeros(4), 0.0, input, 2),
        "add_rms_norm: `delta` must be at least [2, 4] f32 elements, but is 7 f32 elements",
    );
    refused(
        b.add_rms_norm(&mut zeros(7), &zeros(8), &zeros(4), 0.0, input, 2),
        "add_rms_norm: `residual` must be at least [2, 4] f32 elements, but is 7 f32 elements",
    );
    refused(
        b.rms_norm(&zeros(16), &zeros(4), 0.0, input, 4),
        "rms_norm: `out` must be at least [4, 4] bf16 activations, but is [3, 4] bf16 activations",
    );
    refused(
        b.add_rms_norm(&mut zeros(9), &zeros(9), &zeros(3), 0.0, input, 3),
        "add_rms_norm: `out` must be at least [3, 3] bf16 activations, but is [3, 4] bf16 activations",
    );
    refused(
        b.encode(&zeros(11), input, 3),
        "encode: `x` must be at least [3, 4] f32 elements, but is 11 f32 elements",
    );
    refused(
        b.encode(&zeros(16), input, 4),
        "encode: `out` must be at least [4, 4] bf16 activations, but is [3, 4] bf16 activations",
    );
    assert_eq!(out.f32s().unwrap(), [7.0; 12]);
    assert_eq!(memory.decode(3).unwrap().f32s().unwrap(), [0.0; 12]);
}

/// Calls `rope_and_store` with two rows and sane arguments, apart from what `change` does to them.
fn rope(change: impl FnOnce(&mut RopeStore<'_>)) -> Result<(), TensorError> {
    let mut cache = LayerCache::new(3, 2, 4, KvFormat::F32).unwrap();
    let mut args = RopeStore {
        qkv: &zeros(2 * (2 + 4) * 4),
        q_norm: None,
        k_norm: None,
        eps: 1e-6,
        cos: &zeros(10 * 2),
        sin: &zeros(10 * 2),
        q_factors: None,
        positions: &[0, 9],
        slots: &[0, 2],
        heads: 2,
        kv_heads: 2,
        head_dim: 4,
        rotary_dim: 4,
        q_out: &mut zeros(2 * 8),
        cache: &mut cache,
    };
    change(&mut args);
    Backend::cpu(1).unwrap().rope_and_store(args)
}

#[test]
fn rope_refuses_positions_without_a_factor() {
    let mut cache = LayerCache::new(3, 2, 4, KvFormat::F32).unwrap();
    let refused = Backend::cpu(1).unwrap().rope_and_store(RopeStore {
        qkv: &zeros(2 * (2 + 4) * 4),
        q_norm: None,
        k_norm: None,
        eps: 1e-6,
        cos: &zeros(10 * 2),
        sin: &zeros(10 * 2),
        q_factors: Some(&zeros(3)),
        positions: &[0, 9],
        slots: &[0, 2],
        heads: 2,
        kv_heads: 2,
        head_dim: 4,
        rotary_dim: 4,
        q_out: &mut zeros(2 * 8),
        cache: &mut cache,
    });
    let message = refused.unwrap_err().to_string();
    assert!(
        message.ends_with("`positions`[1] is 9, but must be below 3"),
        "{message}"
    );
}

#[test]
fn rope_refuses_wrong_shapes() {
    rope(|_| ()).unwrap();
    let short = zeros(3);
    type Change = Box<dyn FnOnce(&mut RopeStore<'_>)>;
    let table: [(Change, &str); 14] = [
        (
            Box::new(|a| a.head_dim = 3),
            "`head_dim` must be even and above 0, but is 3",
        ),
        (
            Box::new(|a| a.rotary_dim = 3),
            "`rotary_dim` must be even, up to `head_dim` (4), but is 3",
        ),
        (
            Box::new(|a| a.rotary_dim = 6),
            "`rotary_dim` must be even, up to `head_dim` (4), but is 6",
        ),
        (
            Box::new(|a| a.heads = 0),
            "`heads` must be a multiple of `kv_heads` (2) above 0, but is 0",
        ),
        (
            Box::new(|a| a.kv_heads = 0),
            "`kv_heads` must be above 0, but is 0",
        ),
        (
            Box::new(|a| a.heads = 3),
            "`heads` must be a multiple of `kv_heads` (2) above 0, but is 3",
        ),
        (
            Box::new(|a| a.heads = 4),
            "`qkv` must be at least [2, 32] f32 elements, but is 48 f32 elements",
        ),
        (
            Box::new(|a| a.positions = &[0, 10]),
            "`positions`[1] is 10, but must be below 10",
        ),
        (
            Box::new(|a| a.positions = &[0]),
            "`slots` must be as many as `positions` (1), but is 2",
        ),
        (
            Box::new(|a| a.slots = &[16, 0]),
            "`slots`[0] is 16, but must be below 16",
        ),
        (
            Box::new(|a| a.q_norm = Some(Box::leak(Box::new(zeros(3))))),
            "`q_norm` must be 4 f32 elements, but is 3 f32 elements",
        ),
        (
            Box::new(|a| a.sin = Box::leak(Box::new(zeros(19)))),
            "`sin` must be at least [10, 2] f32 elements, but is 19 f32 elements",
        ),
        (
            Box::new(move |a| *a.q_out = short),
            "`q_out` must be at least [2, 8] f32 elements, but is 3 f32 elements",
        ),
        (
            Box::new(|a| *a.cache = LayerCache::new(3, 2, 8, KvFormat::Bf16).unwrap()),
            "`cache` must be 2 heads of 4 elements, but is 2 heads of 8",
        ),
    ];
    for (change, expected) in table {
        refused(rope(change), &format!("rope_and_store: {expected}"));
    }
}

/// Calls `paged_attention` with two spans and sane arguments, apart from what `change` does.
fn attention(
    change: impl FnOnce(&mut Attention<'_>, &mut Vec<Span>, &mut BlockTables),
) -> Result<(), TensorError> {
    let cache = LayerCache::new(8, 2, 4, KvFormat::F32).unwrap();
    let span = |first_token, num_tokens, context_len| Span {
        first_token,
        num_tokens,
        context_len,
    };
    let (mut spans, mut tables) = (
        vec![span(0, 2, 3), span(2, 1, 4)],
        BlockTables {
            first_blocks: Vec::new(),
            tables: vec![vec![0, 1], vec![3, 2]],
            block_size: 2,
        },
    );
    let mut args = Attention {
        q: &zeros(3 * 16),
        cache: &cache,
        spans: &[],
        tables: &BlockTables {
            first_blocks: Vec::new(),
            tables: Vec::new(),
            block_size: 1,
        },
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        scale: 1.0,
        score_bound: None,
        window: None,
        out: &mut zeros(3 * 16),
    };
    change(&mut args, &mut spans, &mut tables);
    Backend::cpu(1).unwrap().paged_attention(Attention {
        spans: &spans,
        tables: &tables,
        ..args
    })
}

#[test]
fn attention_refuses_wrong_shapes() {
    attention(|_, _, _| ()).unwrap();
    type Change = Box<dyn FnOnce(&mut Attention<'_>, &mut Vec<Span>, &mut BlockTables)>;
    let table: [(Change, &str); 17] = [
        (
            Box::new(|a, _, _| a.score_bound = Some(0.0)),
            "`score_bound` must be finite and above 0, but is 0",
        ),
        (
            Box::new(|a, _, _| a.score_bound = Some(f32::INFINITY)),
            "`score_bound` must be finite and above 0, but is inf",
        ),
        (
            Box::new(|a, _, _| a.window = Some(0)),
            "`window` must be above 0, but is 0",
        ),
        (
            // The first token, at position 1, sees position 0 too.
            Box::new(|a, _, t| (a.window, t.tables[0][0]) = (Some(2), 9)),
            "`tables`[0] is 9, but must be below 8",
        ),
        (
            Box::new(|a, _, _| a.head_dim = 0),
            "`head_dim` must be above 0, but is 0",
        ),
        (
            Box::new(|a, _, _| a.kv_heads = 0),
            "`kv_heads` must be above 0, but is 0",
        ),
        (
            Box::new(|a, _, _| a.heads = 3),
            "`heads` must be a multiple of `kv_heads` (2) above 0, but is 3",
        ),
        (
            Box::new(|_, _, t| t.block_size = 0),
            "`tables.block_size` must be above 0, but is 0",
        ),
        (
            Box::new(|_, _, t| t.tables.truncate(1)),
            "`tables` must be one per span (2), but is 1",
        ),
        (
            Box::new(|_, s, _| s[0].context_len = 1),
            "`spans` must be at most `context_len` tokens each, but is Span { first_token: 0, \
             num_tokens: 2, context_len: 1 }",
        ),
        (
            Box::new(|_, s, _| s[1].first_token = 1),
            "`spans` must be ascending and apart, but is Span { first_token: 1, num_tokens: 1, \
             context_len: 4 }",
        ),
        (
            Box::new(|_, s, _| s[1].first_token = usize::MAX),
            "`spans` must be ascending and apart, but is Span { first_token: \
             18446744073709551615, num_tokens: 1, context_len: 4 }",
        ),
        (
            Box::new(|_, s, _| s[1].context_len = 5),
            "`tables` must be blocks of 2 for 5 positions, but is 2 blocks",
        ),
        (
            Box::new(|_, _, t| t.tables[1][0] = 8),
            "`tables`[0] is 8, but must be below 8",
        ),
        (
            Box::new(|a, _, _| *a.out = zeros(47)),
            "`out` must be at least [3, 16] f32 elements, but is 47 f32 elements",
        ),
        (
            Box::new(|a, _, _| a.q = Box::leak(Box::new(bf16(48)))),
            "`q` must be at least [3, 16] f32 elements, but is 48 bf16 elements",
        ),
        (
            Box::new(|a, _, _| a.kv_heads = 4),
            "`cache` must be 4 heads of 4 elements, but is 2 heads of 4",
        ),
    ];
    for (change, expected) in table {
        refused(attention(change), &format!("paged_attention: {expected}"));
    }
    // The second sequence's token, at position 3, sees its second block alone.
    let behind =
        |block| attention(move |a, _, t| (a.window, t.tables[1][block]) = (Some(2), u32::MAX));
    behind(0).unwrap();
    refused(
        behind(1),
        "paged_attention: `tables`[1] is 4294967295, but must be below 8",
    );
}

#[test]
fn caches_refuse_impossible_shapes_and_places() {
    let message = |result: Result<LayerCache, TensorError>| result.unwrap_err().to_string();
    assert_eq!(
        message(LayerCache::new(1, 0, 4, KvFormat::F32)),
        "LayerCache::new: `kv_heads` must be above 0, but is 0"
    );
    assert_eq!(
        message(LayerCache::new(1, 1, 0, KvFormat::F32)),
        "LayerCache::new: `head_dim` must be above 0, but is 0"
    );
    assert_eq!(
        message(LayerCache::new(1 << 60, 8, 128, KvFormat::Int8)),
        "cannot reserve keys and values of 1152921504606846976 slots with 8 heads of 128 int8 \
         elements: out of memory; use fewer blocks"
    );
    assert!(LayerCache::new(usize::MAX, usize::MAX, usize::MAX, KvFormat::F32).is_err());
    let mut cache = LayerCache::new(17, 2, 4, KvFormat::F32).unwrap();
    assert_eq!(cache.slots(), 32);
    let four = [0.0; 4];
    for (slot, head, key, value, expected) in [
        (
            32,
            0,
            &four[..],
            &four[..],
            "`slot` must be below 32, but is 32",
        ),
        (0, 2, &four, &four, "`kv_head` must be below 2, but is 2"),
        (0, 0, &four[1..], &four, "`key` must be 4 numbers, but is 3"),
        (
            0,
            0,
            &four,
            &four[2..],
            "`value` must be 4 numbers, but is 2",
        ),
    ] {
        let expected = format!("LayerCache::write: {expected}");
        refused(cache.write(slot, head, key, value), &expected);
    }
    assert!(cache.read(32, 0).is_none() && cache.read(0, 2).is_none());
}
