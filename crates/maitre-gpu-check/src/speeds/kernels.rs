//! Two kernels alone: attention of decodes, which reads every key and value once, and the choice of tokens, which
//! reads every logit once.

use std::time::Instant;

use anyhow::Result;
use maitre_tensor::KvFormat;
use maitre_tensor::{
    Attention, BlockCopy, DType, KvGroup, SampleRow, SampleRows, SampledRow, Span, StepLists,
};

use super::operators::time_together;
use super::{Mode, goals};
use crate::item::{Item, Outcome, Timed, Unit, figures};
use crate::numbers::random;
use crate::site::Site;
use crate::{Options, ShapeChoice};

const BLOCK_SIZE: usize = 16;

/// Launches that are timed together.
const TIMES: usize = 30;

pub(super) fn list(options: &Options, items: &mut Vec<Item>) {
    let is_tiny = options.shape == ShapeChoice::Tiny;
    let sizes = match is_tiny {
        true => [(2, 40), (1, 100), (1, 3), (3, 7)],
        false => [(64, 1024), (8, 16_384), (1, 640), (256, 640)],
    };
    for mode in Mode::BOTH {
        for (sequences, context) in sizes {
            items.push(Item::speed(
                format!("attention_{sequences}x{context}_{}", mode.name()),
                format!("attention, {sequences} x {context}, bf16, {}", mode.name()),
                move |site| attention(site, (sequences, 1), context, mode),
            ));
        }
        let tokens = if is_tiny { 18 } else { 2048 };
        items.push(Item::speed(
            format!("attention_of_prompt_{tokens}_{}", mode.name()),
            format!("attention, a prompt of {tokens}, bf16, {}", mode.name()),
            move |site| attention(site, (1, tokens), tokens, mode),
        ));
    }
    let many = if is_tiny { 3 } else { 256 };
    let times = if is_tiny { 3 } else { TIMES };
    for (id, rows, how, few_likely, request) in samplings(many) {
        let title = match rows {
            1 => format!("sampling, 1 row of logits, {how}"),
            _ => format!("sampling, {rows} rows of logits, {how}"),
        };
        items.push(Item::speed(format!("sampling_{id}"), title, move |site| {
            sampling(site, (rows, times), few_likely, request)
        }));
    }
}

/// Name, rows, description, whether few tokens are likely, and what is asked. Where few are, 125 of 151,936 tokens have
/// 0.9 of the probability, which is much for a model; otherwise one in nine.
fn samplings(many: usize) -> [(&'static str, usize, &'static str, bool, SampleRow); 7] {
    let greedy = SampleRow {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 0,
        position: 7,
    };
    let top_p = SampleRow {
        temperature: 0.8,
        top_p: 0.9,
        ..greedy
    };
    let top_k = SampleRow {
        temperature: 0.6,
        top_k: 20,
        top_p: 0.95,
        ..greedy
    };
    let plain = SampleRow {
        temperature: 1.0,
        ..greedy
    };
    [
        ("greedy", many, "greedy", false, greedy),
        ("top_p_0_9", many, "top-p 0.9", false, top_p),
        ("few_likely", many, "top-p 0.9, few likely", true, top_p),
        ("top_k", many, "top-k 20, top-p 0.95", true, top_k),
        ("plain", many, "no truncation", true, plain),
        ("one_greedy", 1, "greedy", false, greedy),
        ("one_top_p", 1, "top-p 0.9, few likely", true, top_p),
    ]
}

/// The last tokens of sequences with equal contexts. Decodes, one token each, are told in bytes of keys and values, prompts
/// in operations.
fn attention(
    site: &mut Site,
    (sequences, tokens): (usize, usize),
    context: usize,
    mode: Mode,
) -> Result<Outcome> {
    let sizes = site.sizes;
    let (heads, kv_heads, dim) = (sizes.heads, sizes.kv_heads, sizes.head_dim);
    let backend = site.backend(mode.is_deterministic());
    let per_sequence = context.div_ceil(BLOCK_SIZE);
    let blocks = per_sequence * sequences;
    let cache = filled_cache(site, blocks, mode)?;
    let width = heads * dim;
    let q = backend.vector(&random(91, sequences * tokens * width))?;
    let mut out = backend.zeros(DType::F32, sequences * tokens * width)?;
    let spans: Vec<Span> = (0..sequences)
        .map(|sequence| Span {
            first_token: sequence * tokens,
            num_tokens: tokens,
            context_len: context,
        })
        .collect();
    // Neighbours in a sequence lie apart.
    let table = |s: usize| (0..per_sequence).map(move |b| (b * sequences + s) as u32);
    let mut group = KvGroup::new(BLOCK_SIZE);
    group.tables.tables = (0..sequences).map(|s| table(s).collect()).collect();
    let lists = StepLists {
        spans: &spans,
        groups: std::slice::from_ref(&group),
        ..StepLists::default()
    };
    let seconds = time_together(backend, lists, || {
        (0..TIMES).try_for_each(|_| {
            backend.paged_attention(Attention {
                q: &q,
                cache: &cache,
                spans: &spans,
                tables: &group.tables,
                heads,
                kv_heads,
                head_dim: dim,
                scale: 1.0 / (dim as f32).sqrt(),
                score_bound: None,
                window: None,
                out: &mut out,
            })
        })
    })? / TIMES as f64;
    if tokens > 1 {
        let seen = sequences * (tokens * context - tokens * (tokens - 1) / 2);
        let flop = (4 * width * seen) as f64;
        let mut timed = Timed::new(Unit::TeraflopsPerS, flop / seconds / 1e12);
        timed.predicted = site.matmul_flop_per_s.map(|rate| rate / 1e12);
        timed.figures = figures([("operator_us", seconds * 1e6), ("flop", flop)]);
        return Ok(timed.into());
    }
    let per_token = backend.kv_bytes_per_token(kv_heads, dim, KvFormat::Bf16);
    let bytes = (sequences * context * per_token) as f64;
    let mut timed = Timed::new(Unit::GigabytesPerS, bytes / seconds / 1e9);
    timed.predicted = site.copy_bytes_per_s.map(|rate| rate / 1e9);
    timed.goal = timed.predicted.map(|rate| rate * goals::ATTENTION_SHARE);
    timed.figures = figures([("operator_us", seconds * 1e6), ("kv_bytes", bytes)]);
    Ok(timed.into())
}

/// Blocks of random keys and values, the same again and again.
fn filled_cache(site: &Site, blocks: usize, mode: Mode) -> Result<maitre_tensor::LayerCache> {
    let sizes = site.sizes;
    let (kv_heads, dim) = (sizes.kv_heads, sizes.head_dim);
    let backend = site.backend(mode.is_deterministic());
    let some = blocks.min(64);
    let mut host = backend.host_cache(some * BLOCK_SIZE, kv_heads, dim, KvFormat::Bf16)?;
    for slot in 0..some * BLOCK_SIZE {
        for head in 0..kv_heads {
            let seed = (slot * kv_heads + head) as u64;
            host.write(slot, head, &random(seed, dim), &random(!seed, dim))?;
        }
    }
    let mut cache = backend.cache(blocks * BLOCK_SIZE, kv_heads, dim, KvFormat::Bf16)?;
    let copy = |to: usize| BlockCopy {
        from: (to % some) as u32,
        to: to as u32,
        positions: BLOCK_SIZE,
    };
    let from_host: Vec<BlockCopy> = (0..some).map(copy).collect();
    backend.copy_blocks_from(&host, &mut cache, BLOCK_SIZE, &from_host)?;
    let onward: Vec<BlockCopy> = (some..blocks).map(copy).collect();
    backend.copy_blocks(&mut cache, BLOCK_SIZE, &onward)?;
    Ok(cache)
}

/// From logits on the device to tokens on the host, with the launches' and copies' time on the host.
fn sampling(
    site: &mut Site,
    (rows, times): (usize, usize),
    few_likely: bool,
    request: SampleRow,
) -> Result<Outcome> {
    let (backend, vocab) = (&site.strict, site.sizes.vocab);
    let mut logits = random(92, rows * vocab);
    logits.iter_mut().for_each(|it| {
        *it = match few_likely {
            // One in 300 is above 16, one in 90 above 8.
            true => 18.0 * it.powi(65) + 4.0 * *it,
            false => 8.0 * *it,
        }
    });
    let logits = backend.vector(&logits)?;
    let requests: Vec<Option<SampleRow>> = (0..rows as u64)
        .map(|seed| Some(SampleRow { seed, ..request }))
        .collect();
    let mut out = vec![SampledRow::Skipped; rows];
    let mut best = f64::INFINITY;
    for _ in 0..times {
        let began = Instant::now();
        backend.sample_rows(SampleRows {
            logits: &logits,
            vocab,
            choosable: vocab,
            rows: &requests,
            out: &mut out,
        })?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    let bytes = (rows * vocab * size_of::<f32>()) as f64;
    let mut timed = Timed::new(Unit::Microseconds, best * 1e6);
    timed.predicted = site.copy_bytes_per_s.map(|rate| bytes / rate * 1e6);
    timed.figures = figures([("logit_bytes", bytes)]);
    Ok(timed.into())
}
