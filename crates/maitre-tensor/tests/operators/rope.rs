//! `rope_and_store` against double precision and candle-nn, and its writes to the cache.

use candle_core::{Device, Tensor};
use maitre_tensor::{Backend, Buffer, CpuPath, DType, KvFormat, LayerCache, NO_SLOT, RopeStore};
use proptest::prelude::*;

use crate::numbers::{assert_close, backends, bits, buffer, noise, rounded, unwritten, wide};

const MAX_POSITIONS: usize = 50;
const SLOTS: usize = 32;

/// One call: shapes, inputs and outputs.
struct Case {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// Numbers of a head that are rotated.
    rotary: usize,
    positions: Vec<u32>,
    slots: Vec<u32>,
    qkv: Vec<f32>,
    norms: Option<(Vec<f32>, Vec<f32>)>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    q_factors: Option<Vec<f32>>,
}

impl Case {
    fn new(shape: (usize, usize, usize), rows: Vec<(u32, u32)>, with_norm: bool) -> Self {
        Self::partial(shape, shape.2, rows, with_norm)
    }

    /// A case in which only the first `rotary` numbers of a head are rotated.
    fn partial(
        shape: (usize, usize, usize),
        rotary: usize,
        rows: Vec<(u32, u32)>,
        with_norm: bool,
    ) -> Self {
        let (heads, kv_heads, dim) = shape;
        let (positions, slots): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
        let angles = |f: fn(f64) -> f64| {
            let angle = |i: usize| {
                let (position, pair) = (i / (rotary / 2).max(1), i % (rotary / 2).max(1));
                position as f64 / 10_000_f64.powf(2.0 * pair as f64 / rotary as f64)
            };
            (0..MAX_POSITIONS * rotary / 2)
                .map(|i| f(angle(i)) as f32)
                .collect()
        };
        Self {
            heads,
            kv_heads,
            dim,
            rotary,
            qkv: noise(7, positions.len() * (heads + 2 * kv_heads) * dim),
            norms: with_norm.then(|| (noise(8, dim), noise(9, dim))),
            cos: angles(f64::cos),
            sin: angles(f64::sin),
            q_factors: None,
            positions,
            slots,
        }
    }

    /// Queries, keys and values; cache cells that are not written stay zero.
    fn run(&self, threads: usize, format: KvFormat) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        self.run_on(&Backend::cpu(threads).unwrap(), format)
    }

    fn run_on(&self, backend: &Backend, format: KvFormat) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut cache = LayerCache::new(SLOTS, self.kv_heads, self.dim, format).unwrap();
        self.run_into(backend, &mut cache)
    }

    fn run_into(
        &self,
        backend: &Backend,
        cache: &mut LayerCache,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut q_out = unwritten(self.positions.len() * self.heads * self.dim);
        let norms = self.norms.as_ref().map(|(q, k)| (buffer(q), buffer(k)));
        backend
            .rope_and_store(RopeStore {
                qkv: &buffer(&self.qkv),
                q_norm: norms.as_ref().map(|norms| &norms.0),
                k_norm: norms.as_ref().map(|norms| &norms.1),
                eps: 1e-6,
                cos: &buffer(&self.cos),
                sin: &buffer(&self.sin),
                q_factors: self.q_factors.as_ref().map(|it| buffer(it)).as_ref(),
                positions: &self.positions,
                slots: &self.slots,
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.dim,
                rotary_dim: self.rotary,
                q_out: &mut q_out,
                cache,
            })
            .unwrap();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (slot, head) in (0..SLOTS).flat_map(|s| (0..self.kv_heads).map(move |h| (s, h))) {
            let (key, value) = cache.read(slot, head).unwrap();
            keys.extend(key);
            values.extend(value);
        }
        (numbers_of(&q_out), keys, values)
    }

    fn expected_head(&self, row: usize, head: usize, norm: Option<&[f32]>) -> Vec<f64> {
        let (dim, half) = (self.dim, self.rotary / 2);
        let width = (self.heads + 2 * self.kv_heads) * dim;
        let mut x = wide(&self.qkv[row * width + head * dim..][..dim]);
        if let Some(norm) = norm {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / dim as f64;
            for (x, norm) in x.iter_mut().zip(norm) {
                *x *= f64::from(*norm) / (mean + 1e-6).sqrt();
            }
        }
        let angle = self.positions[row] as usize * half;
        (0..dim)
            .map(|i| {
                if i >= 2 * half {
                    return x[i];
                }
                let (cos, sin) = (self.cos[angle + i % half], self.sin[angle + i % half]);
                let other = if i < half { -x[i + half] } else { x[i - half] };
                x[i] * f64::from(cos) + other * f64::from(sin)
            })
            .collect()
    }
}

/// So many quarters of a head, or as much as comes in pairs: at least one pair unless it is none at all.
fn rotated(dim: usize, quarters: usize) -> usize {
    (dim * quarters / 8).max(quarters.min(1)) * 2
}

fn numbers_of(buffer: &Buffer) -> Vec<f32> {
    buffer.f32s().unwrap().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn paths_agree(
        dim in prop_oneof![Just(2_usize), Just(24), Just(48), Just(80), Just(128)],
        share in 0_usize..=4,
        kv_heads in 1_usize..4,
        group in 1_usize..4,
        rows in proptest::collection::vec((0..MAX_POSITIONS as u32, 0..SLOTS as u32), 1..20),
        with_norm in any::<bool>(),
        format in prop_oneof![Just(KvFormat::F32), Just(KvFormat::Bf16), Just(KvFormat::Int8)],
        // Ordinary numbers; ones whose squares underflow; a row that is not finite.
        odd in prop_oneof![Just(None), Just(Some(1e-30)), Just(Some(f32::NAN)), Just(Some(f32::INFINITY))],
    ) {
        let mut case = Case::partial((kv_heads * group, kv_heads, dim), rotated(dim, share), rows, with_norm);
        let width = (kv_heads * group + 2 * kv_heads) * dim;
        if let Some(odd) = odd {
            case.qkv[..width].iter_mut().for_each(|value| *value *= odd);
        }
        let results: Vec<_> =
            backends(2).iter().map(|backend| case.run_on(backend, format)).collect();
        let step = match format {
            KvFormat::F32 => 1e-5,
            // One unit in the last place, where the rotation differs in its last bit.
            KvFormat::Bf16 => 1.0 / 64.0,
            KvFormat::Int8 => 1.0 / 32.0,
        };
        let alike = |a: &[f32], b: &[f32], step: f32| {
            a.chunks(dim).zip(b.chunks(dim)).all(|(a, b)| {
                let largest = a.iter().fold(1e-36_f32, |most, value| most.max(value.abs()));
                let close = |a: f32, b: f32| a == b || (a - b).abs() <= step * largest;
                a.iter().zip(b).all(|(a, b)| close(*a, *b) || (!a.is_finite() && !b.is_finite()))
            })
        };
        for (q, k, v) in &results {
            prop_assert!(alike(q, &results[0].0, 1e-5));
            prop_assert!(alike(k, &results[0].1, step));
            prop_assert!(alike(v, &results[0].2, step));
        }
    }

    #[test]
    fn avx2_is_the_portable_kernel_on_wider_registers(
        dim in prop_oneof![Just(2_usize), Just(24), Just(48), Just(80), Just(128)],
        share in 0_usize..=4,
        kv_heads in 1_usize..4,
        rows in proptest::collection::vec((0..MAX_POSITIONS as u32, 0..SLOTS as u32), 1..20),
        with_norm in any::<bool>(),
        format in prop_oneof![Just(KvFormat::F32), Just(KvFormat::Bf16), Just(KvFormat::Int8)],
    ) {
        let case = Case::partial((2 * kv_heads, kv_heads, dim), rotated(dim, share), rows, with_norm);
        let portable = Backend::with_path(1, CpuPath::Portable).unwrap();
        let (q, k, v) = case.run_on(&portable, format);
        if let Ok(avx2) = Backend::with_path(2, CpuPath::Avx2) {
            let (avx2_q, avx2_k, avx2_v) = case.run_on(&avx2, format);
            prop_assert!(bits(&avx2_q) == bits(&q));
            prop_assert!(bits(&avx2_k) == bits(&k) && bits(&avx2_v) == bits(&v));
        }
    }

    #[test]
    fn equals_double_precision(
        dim in prop_oneof![Just(2_usize), Just(24), Just(48), Just(80), Just(128)],
        share in 0_usize..=4,
        kv_heads in 1_usize..4,
        group in 1_usize..4,
        rows in proptest::collection::vec((0..MAX_POSITIONS as u32, 0..SLOTS as u32 + 6), 0..30),
        with_norm in any::<bool>(),
        format in prop_oneof![Just(KvFormat::F32), Just(KvFormat::Bf16), Just(KvFormat::Int8)],
        threads in 1_usize..4,
    ) {
        // A few slots are none at all, and some are named twice.
        let rows: Vec<(u32, u32)> = rows
            .into_iter()
            .map(|(position, slot)| (position, if slot < SLOTS as u32 { slot } else { NO_SLOT }))
            .collect();
        let case = Case::partial((kv_heads * group, kv_heads, dim), rotated(dim, share), rows, with_norm);
        let (q, k, v) = case.run(threads, format);

        let q_norm = case.norms.as_ref().map(|norms| norms.0.as_slice());
        let k_norm = case.norms.as_ref().map(|norms| norms.1.as_slice());
        let width = kv_heads * dim;
        let mut expected_k = vec![0.0; SLOTS * width];
        let mut expected_v = vec![0.0; SLOTS * width];
        for row in 0..case.positions.len() {
            let expected: Vec<f64> =
                (0..case.heads).flat_map(|head| case.expected_head(row, head, q_norm)).collect();
            assert_close(&q[row * case.heads * dim..][..case.heads * dim], &expected, 1e-5);
            if case.slots[row] == NO_SLOT {
                continue;
            }
            let place = case.slots[row] as usize * width;
            for head in 0..kv_heads {
                let key = case.expected_head(row, case.heads + head, k_norm);
                expected_k[place + head * dim..][..dim].copy_from_slice(&key);
            }
            let qkv_width = (case.heads + 2 * kv_heads) * dim;
            let values = &case.qkv[(row + 1) * qkv_width - width..(row + 1) * qkv_width];
            expected_v[place..place + width].copy_from_slice(&match format {
                KvFormat::Bf16 => rounded(values, DType::Bf16),
                KvFormat::F32 | KvFormat::Int8 => values.to_vec(),
            });
        }
        let largest = expected_k.iter().fold(1.0_f64, |most, key| most.max(key.abs()));
        let tolerance = match format {
            KvFormat::F32 => 1e-5,
            // Half of a step of 2^-8; half of a 127th of the largest.
            KvFormat::Bf16 => 4e-3,
            KvFormat::Int8 => largest / 254.0 + 1e-5,
        };
        match format {
            KvFormat::Int8 => assert_close(&v, &wide(&expected_v), tolerance),
            KvFormat::F32 | KvFormat::Bf16 => prop_assert_eq!(bits(&v), bits(&expected_v)),
        }
        assert_close(&k, &expected_k, tolerance);
    }
}

#[test]
fn a_token_without_a_slot_writes_nothing() {
    let rows = (0..20).map(|row| (row, NO_SLOT)).collect();
    let (q, k, v) = Case::new((4, 2, 24), rows, true).run(2, KvFormat::F32);
    assert!(q.iter().all(|value| value.is_finite()));
    assert!(k.iter().chain(&v).all(|value| value.to_bits() == 0));
}

#[test]
fn a_token_without_a_slot_leaves_what_is_cached() {
    let case = Case::new((4, 2, 24), (0..20).map(|row| (row, row)).collect(), true);
    let again = Case::new(
        (4, 2, 24),
        (0..20).map(|row| (row, NO_SLOT)).collect(),
        true,
    );
    for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
        for backend in backends(2) {
            let mut cache = LayerCache::new(SLOTS, 2, 24, format).unwrap();
            let (first, keys, values) = case.run_into(&backend, &mut cache);
            let (second, same_keys, same_values) = again.run_into(&backend, &mut cache);
            assert_eq!(bits(&first), bits(&second), "{}", backend.name());
            assert_eq!(bits(&keys), bits(&same_keys), "{}", backend.name());
            assert_eq!(bits(&values), bits(&same_values), "{}", backend.name());
        }
    }
}

#[test]
fn queries_alone_are_multiplied_by_the_factor_of_their_position() {
    let rows: Vec<(u32, u32)> = (0..20).map(|row| (row * 7 % 50, row)).collect();
    for rotary in [0, 10, 24] {
        let plain = Case::partial((4, 2, 24), rotary, rows.clone(), true);
        let factors = noise(11, MAX_POSITIONS);
        let grown = Case {
            q_factors: Some(factors.clone()),
            ..Case::partial((4, 2, 24), rotary, rows.clone(), true)
        };
        for backend in backends(2) {
            let (mut q, k, v) = plain.run_on(&backend, KvFormat::Bf16);
            let (grown_q, grown_k, grown_v) = grown.run_on(&backend, KvFormat::Bf16);
            for (row, (position, _)) in q.chunks_exact_mut(4 * 24).zip(&rows) {
                let factor = factors[*position as usize];
                row.iter_mut().for_each(|number| *number *= factor);
            }
            assert_eq!(bits(&grown_q), bits(&q), "{}", backend.name());
            assert_eq!((bits(&grown_k), bits(&grown_v)), (bits(&k), bits(&v)));
        }
    }
}

#[test]
fn equals_candle_nn() {
    let (heads, kv_heads, dim, rows) = (4, 2, 48, 10);
    let case = Case::new(
        (heads, kv_heads, dim),
        (0..rows).map(|i| (i + 3, i)).collect(),
        false,
    );
    let (q, ..) = case.run(2, KvFormat::F32);
    let width = (heads + 2 * kv_heads) * dim;
    let rows = rows as usize;
    let qkv = Tensor::from_slice(&case.qkv, (1, rows, width), &Device::Cpu).unwrap();
    let heads_first = qkv
        .narrow(2, 0, heads * dim)
        .and_then(|q| q.reshape((1, rows, heads, dim)))
        .and_then(|q| q.transpose(1, 2))
        .and_then(|q| q.contiguous())
        .unwrap();
    let table = |values: &[f32]| {
        let table = Tensor::from_slice(values, (MAX_POSITIONS, dim / 2), &Device::Cpu).unwrap();
        table
            .narrow(0, 3, rows)
            .and_then(|table| table.contiguous())
            .unwrap()
    };
    let rotated = candle_nn::rotary_emb::rope(&heads_first, &table(&case.cos), &table(&case.sin))
        .and_then(|q| q.transpose(1, 2))
        .and_then(|q| q.flatten_all())
        .unwrap();
    assert_close(&q, &wide(&rotated.to_vec1::<f32>().unwrap()), 1e-5);
}
