//! Rotation and the write into the cache.

use maitre_tensor::{Backend, KvFormat, LayerCache, NO_SLOT, RopeStore};

use crate::{assert_close, backends, random, read};

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8];
const MAX_POSITIONS: usize = 40;
const SLOTS: usize = 48;
const EPS: f32 = 1e-6;

/// Heads, key heads and elements per head of a case, and its rows.
#[derive(Clone)]
struct Case {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// Numbers of a head that are rotated.
    rotary: usize,
    qkv: Vec<f32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
    with_norm: bool,
}

impl Case {
    /// Rows at random positions, in random slots; some have none, some have the same.
    fn new((heads, kv_heads, dim): (usize, usize, usize), rows: usize, with_norm: bool) -> Self {
        let number = |at: f32, limit: usize| ((at + 1.0) / 2.0 * limit as f32) as u32;
        let slot = |at: f32| match number(at, SLOTS + 8) {
            slot if slot < SLOTS as u32 => slot,
            _ => NO_SLOT,
        };
        Self {
            heads,
            kv_heads,
            dim,
            rotary: dim,
            qkv: random(dim as u64, rows * (heads + 2 * kv_heads) * dim),
            positions: random(2, rows)
                .into_iter()
                .map(|at| number(at, MAX_POSITIONS))
                .collect(),
            slots: random(3, rows).into_iter().map(slot).collect(),
            with_norm,
        }
    }

    fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// Only the rows of a range.
    fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        Self {
            qkv: self.qkv[rows.start * self.width()..rows.end * self.width()].to_vec(),
            positions: self.positions[rows.clone()].to_vec(),
            slots: self.slots[rows].to_vec(),
            ..self.clone()
        }
    }

    /// The rotated queries.
    fn run(&self, backend: &Backend, cache: &mut LayerCache) -> Vec<f32> {
        let (rows, dim) = (self.positions.len(), self.dim);
        let [qkv, q_norm, k_norm, cos, sin, factors] = [
            self.qkv.clone(),
            random(5, dim),
            random(6, dim),
            random(7, (MAX_POSITIONS * self.rotary / 2).max(1)),
            random(8, (MAX_POSITIONS * self.rotary / 2).max(1)),
            random(9, MAX_POSITIONS),
        ]
        .map(|numbers| backend.vector(&numbers).unwrap());
        let mut q_out = backend.vector(&vec![9.0; rows * self.heads * dim]).unwrap();
        backend
            .rope_and_store(RopeStore {
                qkv: &qkv,
                q_norm: self.with_norm.then_some(&q_norm),
                k_norm: self.with_norm.then_some(&k_norm),
                eps: EPS,
                cos: &cos,
                sin: &sin,
                q_factors: (self.heads > 3).then_some(&factors),
                positions: &self.positions,
                slots: &self.slots,
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: dim,
                rotary_dim: self.rotary,
                q_out: &mut q_out,
                cache,
            })
            .unwrap();
        read(backend, &q_out)
    }

    fn cache(&self, backend: &Backend, format: KvFormat) -> LayerCache {
        let mut cache = backend
            .cache(SLOTS, self.kv_heads, self.dim, format)
            .unwrap();
        // What is not written must stay.
        for slot in 0..SLOTS {
            let numbers = random(slot as u64, 2 * self.dim);
            let (key, value) = numbers.split_at(self.dim);
            cache.write(slot, 0, key, value).unwrap();
        }
        cache
    }
}

/// Keys, then values, of all slots and heads.
fn contents(cache: &LayerCache) -> [Vec<Vec<f32>>; 2] {
    let heads = cache.kv_heads();
    let places = (0..cache.slots()).flat_map(|slot| (0..heads).map(move |head| (slot, head)));
    let (keys, values) = places
        .map(|(slot, head)| cache.read(slot, head).unwrap())
        .unzip();
    [keys, values]
}

fn bits(heads: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let head = |head: &Vec<f32>| head.iter().map(|number| number.to_bits()).collect();
    heads.iter().map(head).collect()
}

/// What one rounding may differ by where the number before it differs in its last bits, as a share of the largest
/// number of a head.
fn step(format: KvFormat) -> f32 {
    match format {
        KvFormat::F32 => 1e-5,
        KvFormat::Bf16 => 1.0 / 128.0,
        KvFormat::Int8 => 1.01 / 127.0,
    }
}

#[test]
fn queries_and_cache_agree_with_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    let shapes = [(1, 1, 2), (6, 2, 24), (3, 3, 80), (8, 1, 128)];
    for (format, with_norm) in FORMATS.into_iter().flat_map(|f| [(f, false), (f, true)]) {
        for (rows, shape) in [
            (1, shapes[0]),
            (30, shapes[1]),
            (7, shapes[2]),
            (5, shapes[3]),
        ] {
            let mut case = Case::new(shape, rows, with_norm);
            // With 30 rows, three quarters of the heads; with 5, the first pair alone; with 7, nothing.
            case.rotary = match rows {
                30 => 18,
                5 => 2,
                7 => 0,
                _ => case.dim,
            };
            let [mut expected, mut actual] =
                [&cpu, &gpu].map(|backend| case.cache(backend, format));
            let queries = case.run(&cpu, &mut expected);
            assert_close(&queries, &case.run(&gpu, &mut actual), 1e-5);
            let [expected, actual] = [contents(&expected), contents(&actual)];
            for (expected, actual) in expected[0].iter().zip(&actual[0]) {
                assert_close(expected, actual, step(format));
            }
            // Values are rounded as they come.
            assert_eq!(bits(&expected[1]), bits(&actual[1]), "{format}");
        }
    }
}

#[test]
fn of_rows_that_name_one_slot_the_last_is_stored() {
    let Some((_, gpu)) = backends() else { return };
    for format in FORMATS {
        let mut case = Case::new((4, 2, 16), 300, true);
        for (row, slot) in case.slots.iter_mut().enumerate() {
            *slot = if row % 5 == 0 { 17 } else { row as u32 % 3 };
        }
        let [mut together, mut last] = [(); 2].map(|()| case.cache(&gpu, format));
        case.run(&gpu, &mut together);
        // 295 is the last row of slot 17; of 297 to 299 each has one of the other slots.
        case.rows(295..300).run(&gpu, &mut last);
        let [together, last] = [contents(&together), contents(&last)];
        assert_eq!(
            together.map(|it| bits(&it)),
            last.map(|it| bits(&it)),
            "{format}"
        );
    }
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    let Some((_, gpu)) = backends() else { return };
    for format in FORMATS {
        let case = Case::new((6, 2, 40), 20, true);
        let [mut together, mut apart] = [(); 2].map(|()| case.cache(&gpu, format));
        let queries = case.run(&gpu, &mut together);
        let mut one_by_one = Vec::new();
        for rows in [0..1, 1..8, 8..20] {
            one_by_one.extend(case.rows(rows).run(&gpu, &mut apart));
        }
        assert_eq!(bits(&[queries]), bits(&[one_by_one]), "{format}");
        let [together, apart] = [contents(&together), contents(&apart)];
        assert_eq!(
            together.map(|it| bits(&it)),
            apart.map(|it| bits(&it)),
            "{format}"
        );
    }
}

#[test]
fn numbers_that_are_not_finite_stay_visible_and_tiny_ones_are_zero() {
    let Some((cpu, gpu)) = backends() else { return };
    for odd in [f32::NAN, f32::INFINITY, 1e-32] {
        for format in FORMATS {
            let mut case = Case::new((2, 1, 16), 2, false);
            case.slots = vec![3, 20];
            case.qkv[16 * 2..16 * 4]
                .iter_mut()
                .for_each(|it| *it *= odd);
            let [mut expected, mut actual] =
                [&cpu, &gpu].map(|backend| case.cache(backend, format));
            case.run(&cpu, &mut expected);
            case.run(&gpu, &mut actual);
            let [expected, actual] = [contents(&expected), contents(&actual)];
            for (expected, actual) in expected.iter().flatten().zip(actual.iter().flatten()) {
                let is_alike = |(a, b): (&f32, &f32)| {
                    (a - b).abs() <= step(format) || (!a.is_finite() && !b.is_finite())
                };
                let is_same = expected.iter().zip(actual).all(is_alike);
                assert!(is_same, "{odd} {format}: {actual:?}, not {expected:?}");
            }
        }
    }
}

/// A change that makes a call wrong.
type Spoil = fn(&mut Case);

#[test]
fn what_the_processor_refuses_is_refused_in_the_same_words() {
    let Some((cpu, gpu)) = backends() else { return };
    let spoils: [Spoil; 8] = [
        |case| case.dim = 15,
        |case| case.rotary = 18,
        |case| case.rotary = 7,
        |case| case.kv_heads = 0,
        |case| case.heads = 3,
        |case| case.positions[1] = MAX_POSITIONS as u32,
        |case| case.slots[2] = SLOTS as u32,
        |case| case.slots.truncate(2),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let messages = [&cpu, &gpu].map(|backend| {
            let good = Case::new((4, 2, 16), 4, false);
            let mut cache = good.cache(backend, KvFormat::F32);
            let before = contents(&cache);
            let mut case = good.clone();
            spoil(&mut case);
            let [qkv, table] = [good.qkv, random(7, MAX_POSITIONS * 8)]
                .map(|numbers| backend.vector(&numbers).unwrap());
            let mut q_out = backend.vector(&[0.0; 4 * 4 * 16]).unwrap();
            let refused = backend.rope_and_store(RopeStore {
                qkv: &qkv,
                q_norm: None,
                k_norm: None,
                eps: EPS,
                cos: &table,
                sin: &table,
                q_factors: None,
                positions: &case.positions,
                slots: &case.slots,
                heads: case.heads,
                kv_heads: case.kv_heads,
                head_dim: case.dim,
                rotary_dim: case.rotary,
                q_out: &mut q_out,
                cache: &mut cache,
            });
            assert_eq!(contents(&cache), before);
            refused.unwrap_err().to_string()
        });
        assert_eq!(messages[0], messages[1], "case {number}");
    }
}
