//! Keys and values: their rotation and storage, attention over them, and their copies.

use anyhow::Result;
use maitre_tensor::KvFormat;
use maitre_tensor::{Backend, BlockCopy, BlockTables, DType, RopeStore, Span};

use super::attention_case::{BLOCK_SIZE, Case, Heads, same_blocks};
use super::{BF16_LIMIT, F32_LIMIT, compare, identical, read};
use crate::item::{Item, Outcome};
use crate::numbers::{Dice, random};
use crate::site::{Site, Sizes};

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8];

/// What attention may differ by: queries and weights are rounded too, and beside an int8 cache the processor has
/// more bits for them than the bf16 of a GPU.
fn limit(format: KvFormat) -> f64 {
    match format {
        KvFormat::F32 => F32_LIMIT,
        KvFormat::Bf16 => BF16_LIMIT,
        KvFormat::Int8 => 2e-2,
    }
}

type Of = fn(&Sizes) -> Heads;

/// Heads that are compared with the processor's: as in ids, as in titles.
const VARIANTS: [(&str, &str, Of); 3] = [
    ("", "", Heads::usual),
    ("_other_head_dim", ", other heads", Heads::other),
    ("_window", ", window", Heads::windowed),
];

pub(super) fn list(items: &mut Vec<Item>) {
    for format in FORMATS {
        for (name, said, of) in VARIANTS {
            items.push(Item::check(
                format!("rope_and_store_{format}{name}"),
                format!("rope_and_store, {format} cache{said}"),
                move |site| {
                    let sizes = site.sizes;
                    let rows = sizes.rows.last().copied().unwrap_or(1);
                    compare(site, limit(format), |it| {
                        stored(it, rows, of(sizes), format)
                    })
                },
            ));
            items.push(Item::check(
                format!("paged_attention_{format}{name}"),
                format!("paged_attention, {format} cache{said}"),
                move |site| {
                    let sizes = site.sizes;
                    compare(site, limit(format), |it| {
                        Case::new(it, of(sizes), format, sizes.sequences)?.attend(it)
                    })
                },
            ));
        }
        items.push(Item::check(
            format!("invariant_chunks_{format}"),
            format!("attention, {format}: whole = in chunks"),
            move |site| chunks(site, format),
        ));
        items.push(Item::check(
            format!("invariant_splits_{format}"),
            format!("attention, {format}: alone = in a crowd"),
            move |site| crowd(site, format),
        ));
        items.push(Item::check(
            format!("copy_blocks_{format}"),
            format!("copies of blocks, {format}: same attention"),
            move |site| copied(site, format, false),
        ));
        items.push(Item::check(
            format!("host_swaps_{format}"),
            format!("blocks to the host and back, {format}: same"),
            move |site| copied(site, format, true),
        ));
    }
}

/// Rotated queries, and attention over what was stored by rotation.
fn stored(backend: &Backend, rows: usize, of: Heads, format: KvFormat) -> Result<Vec<f32>> {
    let Heads {
        heads,
        kv_heads,
        head_dim: dim,
        rotary_dim,
        ..
    } = of;
    let slots = rows.next_multiple_of(BLOCK_SIZE);
    let mut cache = backend.cache(slots, kv_heads, dim, format)?;
    let qkv = backend.vector(&random(21, rows * (heads + 2 * kv_heads) * dim))?;
    let angles = random(22, rows * rotary_dim / 2);
    let of_angles = |f: fn(f32) -> f32| angles.iter().map(|it| f(*it * 3.0)).collect::<Vec<f32>>();
    let (cos, sin) = (
        backend.vector(&of_angles(f32::cos))?,
        backend.vector(&of_angles(f32::sin))?,
    );
    let norms = [23, 24].map(|seed| random(seed, dim));
    let [q_norm, k_norm] = [backend.vector(&norms[0])?, backend.vector(&norms[1])?];
    let positions: Vec<u32> = (0..rows as u32).collect();
    let mut q_out = backend.zeros(DType::F32, rows * heads * dim)?;
    backend.rope_and_store(RopeStore {
        qkv: &qkv,
        q_norm: Some(&q_norm),
        k_norm: Some(&k_norm),
        eps: 1e-6,
        cos: &cos,
        sin: &sin,
        q_factors: None,
        positions: &positions,
        slots: &positions,
        heads,
        kv_heads,
        head_dim: dim,
        rotary_dim,
        q_out: &mut q_out,
        cache: &mut cache,
    })?;
    let case = Case {
        of,
        q: q_out,
        cache,
        spans: vec![Span {
            first_token: 0,
            num_tokens: rows,
            context_len: rows,
        }],
        tables: BlockTables {
            first_blocks: Vec::new(),
            tables: vec![(0..(slots / BLOCK_SIZE) as u32).collect()],
            block_size: BLOCK_SIZE,
        },
    };
    let mut both = case.attend(backend)?;
    both.extend(read(backend, &case.q)?);
    Ok(both)
}

/// A prompt at once, and the same in pieces, each an operator of its own.
fn chunks(site: &mut Site, format: KvFormat) -> Result<Outcome> {
    let backend = &site.strict;
    let longest = site.sizes.sequences.iter().copied().max_by_key(|it| it.1);
    let (before, now) = longest.unwrap_or((0, 1));
    let case = Case::new(backend, Heads::usual(site.sizes), format, &[(before, now)])?;
    let whole = case.attend(backend)?;
    let mut pieces = vec![0.0; whole.len()];
    let mut dice = Dice::new(31);
    let mut done = 0;
    while done < now {
        let count = (1 + dice.below(now.div_ceil(3))).min(now - done);
        let piece = Span {
            first_token: done,
            num_tokens: count,
            context_len: before + done + count,
        };
        let out = case.attend_spans(backend, &[piece], &case.tables, &case.cache)?;
        let rows = done * case.width()..(done + count) * case.width();
        pieces[rows.clone()].copy_from_slice(&out[rows]);
        done += count;
    }
    Ok(identical(&whole, &pieces))
}

/// A token with a long context alone, where its context is shared among many, and before a crowd, where it is not.
fn crowd(site: &mut Site, format: KvFormat) -> Result<Outcome> {
    let (backend, sizes) = (&site.strict, site.sizes);
    let long = (sizes.long_context, 1);
    let short = (sizes.long_context / 10, 1);
    let width = sizes.heads * sizes.head_dim;
    let alone = Case::new(backend, Heads::usual(sizes), format, &[long])?.attend(backend)?;
    let mut sequences = vec![long];
    sequences.resize(3 * sizes.soak_at_once.min(64), short);
    sequences.extend_from_slice(sizes.sequences);
    let crowd = Case::new(backend, Heads::usual(sizes), format, &sequences)?.attend(backend)?;
    Ok(identical(&alone, &crowd[..width]))
}

/// Attention before and after all blocks have moved elsewhere, within the cache or by way of the host.
fn copied(site: &mut Site, format: KvFormat, by_host: bool) -> Result<Outcome> {
    let (backend, sizes) = (&site.strict, site.sizes);
    let mut case = Case::new(backend, Heads::usual(sizes), format, sizes.sequences)?;
    let before = case.attend(backend)?;
    let half = (case.cache.slots() / BLOCK_SIZE / 2) as u32;
    let away = |block: u32| BlockCopy {
        from: block,
        to: half + block,
        positions: BLOCK_SIZE,
    };
    let copies: Vec<BlockCopy> = (0..half).map(away).collect();
    if by_host {
        let slots = case.cache.slots();
        let mut host = backend.host_cache(slots, sizes.kv_heads, sizes.head_dim, format)?;
        backend.copy_blocks_from(&case.cache, &mut host, BLOCK_SIZE, &copies)?;
        let mut other = backend.cache(slots, sizes.kv_heads, sizes.head_dim, format)?;
        backend.copy_blocks_from(&host, &mut other, BLOCK_SIZE, &same_blocks(slots))?;
        case.cache = other;
    } else {
        backend.copy_blocks(&mut case.cache, BLOCK_SIZE, &copies)?;
    }
    for block in case.tables.tables.iter_mut().flatten() {
        *block += half;
    }
    let after = case.attend(backend)?;
    Ok(identical(&before, &after))
}
