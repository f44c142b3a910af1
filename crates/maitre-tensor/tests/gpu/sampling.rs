//! The choice of tokens against the processor's, which sorts what the GPU selects.

use maitre_tensor::{Backend, SampleRow, SampleRows, SampledRow};

use crate::{backends, random};

const PLAIN: SampleRow = SampleRow {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    seed: 0,
    position: 0,
};

/// Rows of logits.
struct Rows {
    logits: Vec<f32>,
    vocab: usize,
    choosable: usize,
}

impl Rows {
    fn new(logits: Vec<f32>, vocab: usize) -> Self {
        let choosable = vocab;
        Self {
            logits,
            vocab,
            choosable,
        }
    }

    fn sample(&self, backend: &Backend, rows: &[Option<SampleRow>]) -> Vec<SampledRow> {
        let logits = backend.vector(&self.logits).unwrap();
        let mut out = vec![SampledRow::NonFinite; rows.len()];
        backend
            .sample_rows(SampleRows {
                logits: &logits,
                vocab: self.vocab,
                choosable: self.choosable,
                rows,
                out: &mut out,
            })
            .unwrap();
        out
    }
}

/// Logits of a row: spread, with ties, with impossible tokens, or all near each other.
fn logits(seed: u64, vocab: usize) -> Vec<f32> {
    let kind = seed % 4;
    let shape = |(at, number): (usize, f32)| match kind {
        0 => number * 12.0,
        1 => (number * 6.0).round(),
        2 if at % 3 == 1 => f32::NEG_INFINITY,
        2 => number * number * number * 20.0,
        _ => number * 1e-3 - 50.0,
    };
    let numbers = random(seed, vocab).into_iter().enumerate();
    numbers.map(shape).collect()
}

/// One of the many ways to ask.
fn request(seed: u64, vocab: usize) -> SampleRow {
    let pick = |shift: u32| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize;
    SampleRow {
        temperature: [0.0, 0.05, 0.7, 1.0, 2.5, 1e6][pick(8) % 6],
        top_k: [0, 1, 2, 20, vocab as u32 / 2, vocab as u32, u32::MAX][pick(16) % 7],
        top_p: [1.0, 1e-6, 0.3, 0.9, 0.999, 1.0][pick(24) % 6],
        min_p: [0.0, 0.0, 0.02, 0.5, 1.0][pick(32) % 5],
        seed: seed << 30,
        position: seed.wrapping_mul(seed) << 20,
    }
}

#[track_caller]
fn assert_same(expected: &[SampledRow], actual: &[SampledRow]) {
    assert_eq!(expected.len(), actual.len());
    for (row, answers) in expected.iter().zip(actual).enumerate() {
        let is_same = match answers {
            (
                SampledRow::Token { id, logprob },
                SampledRow::Token {
                    id: same_id,
                    logprob: same_logprob,
                },
            ) => {
                // Its last bit, where that is more.
                let tolerance = f32::max(1e-6, logprob.abs() * f32::EPSILON);
                id == same_id && (logprob - same_logprob).abs() <= tolerance
            }
            (expected, actual) => expected == actual,
        };
        assert!(is_same, "row {row}: {:?}, not {:?}", answers.1, answers.0);
    }
}

#[test]
fn tokens_are_those_of_the_processor() {
    let Some((cpu, gpu)) = backends() else { return };
    for (vocab, count) in [(1, 4), (5, 60), (64, 60), (331, 80), (4100, 24)] {
        let seeds = || (0..count).map(|row| vocab as u64 * 1000 + row);
        let rows = Rows::new(
            seeds().flat_map(|seed| logits(seed, vocab)).collect(),
            vocab,
        );
        let requests: Vec<_> = seeds().map(|seed| Some(request(seed / 4, vocab))).collect();
        assert_same(&rows.sample(&cpu, &requests), &rows.sample(&gpu, &requests));
    }
}

#[test]
fn tokens_of_long_rows_are_those_of_the_processor() {
    let Some((cpu, gpu)) = backends() else { return };
    for (vocab, choosable) in [(20_000, 20_000), (18_001, 17_999)] {
        // A few likely tokens far above the rest, as models have them; all alike; equals.
        let row = |seed: u64| -> Vec<f32> {
            let numbers = random(seed, vocab).into_iter();
            match seed % 4 {
                0 => numbers.map(|it| it.powi(9) * 25.0).collect(),
                1 => numbers.map(|it| it * 8.0).collect(),
                2 => numbers.map(|it| (it * 8.0).round()).collect(),
                _ => numbers.map(|it| it.powi(41) * 12.0 + it).collect(),
            }
        };
        let seeds = || (0..24).map(|row| vocab as u64 + row);
        let mut rows = Rows::new(seeds().flat_map(row).collect(), vocab);
        rows.choosable = choosable;
        let requests: Vec<_> = seeds()
            .map(|seed| {
                let pick = seed as usize / 4 % 6;
                Some(SampleRow {
                    temperature: [0.8, 1.0, 0.6, 0.7, 1.2, 1.0][pick],
                    top_k: [0, 0, 20, 1000, 0, 0][pick],
                    top_p: [0.9, 0.95, 0.95, 0.8, 1.0, 0.5][pick],
                    min_p: [0.0, 0.0, 0.0, 0.0, 0.01, 0.05][pick],
                    seed,
                    position: 7 * seed,
                })
            })
            .collect();
        assert_same(&rows.sample(&cpu, &requests), &rows.sample(&gpu, &requests));
    }
}

#[test]
fn a_cut_that_falls_between_two_tokens_is_found() {
    let Some((cpu, gpu)) = backends() else { return };
    // Four equals, of which three are kept, or perhaps the fourth: it depends on how much the others weigh to the
    // last bit, none of which is near enough to be read.
    let mut row = vec![f32::NEG_INFINITY; 6464];
    row[10..14].fill(3.0);
    row[64..].fill(-6.0);
    let mass = 4.0 + 6400.0 * (-9.0_f64).exp();
    let rows = Rows::new(row.repeat(60), 6464);
    for nudge in [-1e-6, -2e-7, 0.0, 2e-7, 1e-6] {
        let requests: Vec<_> = (0..60)
            .map(|position| {
                Some(SampleRow {
                    position,
                    top_p: ((3.0 + nudge) / mass) as f32,
                    ..PLAIN
                })
            })
            .collect();
        assert_same(&rows.sample(&cpu, &requests), &rows.sample(&gpu, &requests));
    }
}

#[test]
fn more_rows_than_are_known_at_once_are_chosen_from() {
    let Some((cpu, gpu)) = backends() else { return };
    // What is known of 512 tokens takes 68 bytes, of which there are 8 MiB: 1,869 rows of 66 strips would fill them.
    let (vocab, count) = (66 * 512, 1900);
    let mut rows = Rows::new(vec![-20.0; vocab * count], vocab);
    for (row, logits) in rows.logits.chunks_mut(vocab).enumerate() {
        logits[row * 17] = 1.0;
        logits[row * 17 + 1] = 2.0;
    }
    let mut requests = vec![None; count];
    for row in [0, 1, 1000, 1868, 1869, 1870, 1899] {
        requests[row] = Some(SampleRow {
            position: row as u64,
            top_p: 0.9,
            ..PLAIN
        });
    }
    assert_same(&rows.sample(&cpu, &requests), &rows.sample(&gpu, &requests));
}

#[test]
fn every_position_draws_anew_and_every_token_comes() {
    let Some((cpu, gpu)) = backends() else { return };
    let rows = Rows::new([0.0, 1.0, 2.0, 1.5, 0.5, 1.0].repeat(200), 6);
    let requests: Vec<_> = (0..200)
        .map(|position| Some(SampleRow { position, ..PLAIN }))
        .collect();
    let sampled = rows.sample(&gpu, &requests);
    assert_same(&rows.sample(&cpu, &requests), &sampled);
    for token in 0..6 {
        let is_token =
            |row: &SampledRow| matches!(row, SampledRow::Token { id, .. } if *id == token);
        assert!(sampled.iter().any(is_token), "{token} never came");
    }
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    let Some((_, gpu)) = backends() else { return };
    let (vocab, count) = (500, 12);
    let row = |seed| logits(seed, vocab);
    let requests: Vec<_> = (0..count)
        .map(|seed| Some(request(seed + 40, vocab)))
        .collect();
    let together = Rows::new((0..count).flat_map(row).collect(), vocab).sample(&gpu, &requests);
    for (seed, expected) in (0..count).zip(&together) {
        let alone = Rows::new(row(seed), vocab);
        let request = requests[seed as usize];
        assert_eq!(alone.sample(&gpu, &[request]), [*expected]);
    }
}

#[test]
fn of_equals_the_lowest_ids_are_kept() {
    let Some((_, gpu)) = backends() else { return };
    let ids = |logits: &[f32], request: SampleRow| -> Vec<u32> {
        let requests: Vec<_> = (0..120)
            .map(|position| {
                Some(SampleRow {
                    position,
                    ..request
                })
            })
            .collect();
        let rows = Rows::new(logits.repeat(120), logits.len());
        let mut ids = Vec::new();
        for row in rows.sample(&gpu, &requests) {
            let SampledRow::Token { id, .. } = row else {
                panic!("{row:?}");
            };
            ids.push(id);
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let zeros = [-0.0, 0.0, -0.0, 0.0, -9.0];
    let top_p = |top_p| SampleRow { top_p, ..PLAIN };
    assert_eq!(ids(&zeros, top_p(0.45)), [0, 1], "0 equals -0");
    assert_eq!(ids(&[0.0; 8], top_p(0.3)), [0, 1, 2]);
    assert_eq!(ids(&[0.0; 8], top_p(1e-9)), [0]);
    // `top_k` keeps what ties with the last, a largest logit is the first.
    let ties = [1.0, 3.0, 2.0, 2.0, 3.0, 2.0, 0.0];
    assert_eq!(ids(&ties, SampleRow { top_k: 3, ..PLAIN }), [1, 2, 3, 4, 5]);
    let greedy = SampleRow {
        temperature: 0.0,
        ..PLAIN
    };
    assert_eq!(ids(&ties, greedy), [1]);
    assert_eq!(
        ids(
            &ties,
            SampleRow {
                min_p: 1.0,
                ..PLAIN
            }
        ),
        [1, 4]
    );
}

#[test]
fn many_small_probabilities_add_up() {
    let Some((cpu, gpu)) = backends() else { return };
    // One token of weight 1, and 3,000 of weight e^-8, half of all: with the first, 2,402 of these are 90 %.
    let mut logits = vec![-8.0; 3001];
    logits[0] = 0.0;
    let rows = Rows::new(logits.repeat(60), 3001);
    let requests: Vec<_> = (0..60)
        .map(|position| {
            Some(SampleRow {
                position,
                top_p: 0.9,
                ..PLAIN
            })
        })
        .collect();
    let sampled = rows.sample(&gpu, &requests);
    assert_same(&rows.sample(&cpu, &requests), &sampled);
    let is_above =
        |row: &SampledRow, least| matches!(row, SampledRow::Token { id, .. } if *id > least);
    assert!(sampled.iter().any(|row| is_above(row, 1000)));
    assert!(!sampled.iter().any(|row| is_above(row, 2402)));
}

#[test]
fn the_log_probability_is_that_of_the_row_as_it_came() {
    let Some((_, gpu)) = backends() else { return };
    let row = logits(4, 700);
    let request = SampleRow {
        temperature: 0.3,
        top_k: 5,
        ..PLAIN
    };
    let sampled = Rows::new(row.clone(), 700).sample(&gpu, &[Some(request)]);
    let [SampledRow::Token { id, logprob }] = sampled[..] else {
        panic!("{sampled:?}");
    };
    let mass: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
    let expected = f64::from(row[id as usize]) - mass.ln();
    assert!(
        (f64::from(logprob) - expected).abs() < 2e-6,
        "{logprob}, not {expected}"
    );
}

#[test]
fn rows_that_cannot_be_sampled_say_so() {
    let Some((cpu, gpu)) = backends() else { return };
    let vocab = 150;
    let row = |change: fn(&mut [f32])| {
        let mut row = logits(4, vocab);
        change(&mut row);
        row
    };
    let logits = [
        row(|row| row[149] = f32::NAN),
        row(|row| row[0] = f32::INFINITY),
        row(|row| row[70] = -f32::NAN),
        row(|row| row.fill(f32::NEG_INFINITY)),
        row(|row| row.fill(f32::NAN)),
        row(|row| row[1..].fill(f32::NEG_INFINITY)),
    ];
    let mut rows = Rows::new(logits.concat(), vocab);
    let mut requests = [Some(SampleRow {
        top_p: 0.5,
        top_k: 3,
        ..PLAIN
    }); 6];
    requests[4] = None;
    let sampled = rows.sample(&gpu, &requests);
    let expected = [
        SampledRow::NonFinite,
        SampledRow::NonFinite,
        SampledRow::NonFinite,
        SampledRow::NothingPossible,
        SampledRow::Skipped,
        SampledRow::Token {
            id: 0,
            logprob: 0.0,
        },
    ];
    assert_eq!(sampled, expected);
    assert_eq!(rows.sample(&cpu, &requests), expected);

    // What lies beyond the tokens that exist does not count.
    rows.choosable = 149;
    assert!(matches!(
        rows.sample(&gpu, &requests)[0],
        SampledRow::Token { id: ..149, .. }
    ));
    rows.choosable = 0;
    assert_eq!(rows.sample(&gpu, &requests)[0], SampledRow::NothingPossible);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some((cpu, gpu)) = backends() else { return };
    let refused = |change: fn(&mut SampleRow), vocab, choosable, outs: usize| {
        let mut request = PLAIN;
        change(&mut request);
        let messages = [&cpu, &gpu].map(|backend| {
            let logits = backend.vector(&[0.0; 20]).unwrap();
            let mut out = vec![SampledRow::NonFinite; outs];
            let result = backend.sample_rows(SampleRows {
                logits: &logits,
                vocab,
                choosable,
                rows: &[None, Some(request)],
                out: &mut out,
            });
            assert_eq!(out, vec![SampledRow::NonFinite; outs]);
            result.unwrap_err().to_string()
        });
        assert_eq!(messages[0], messages[1]);
        messages[0]
            .strip_prefix("sample_rows: ")
            .unwrap()
            .to_owned()
    };
    let messages = [
        refused(|row| row.temperature = -1.0, 10, 10, 2),
        refused(|row| row.temperature = f32::NAN, 10, 10, 2),
        refused(|row| row.top_p = 0.0, 10, 10, 2),
        refused(|row| row.min_p = 1.5, 10, 10, 2),
        refused(|_| {}, 0, 0, 2),
        refused(|_| {}, 10, 11, 2),
        refused(|_| {}, 1 << 21, (1 << 20) + 1, 2),
        refused(|_| {}, 10, 10, 1),
        refused(|_| {}, 11, 10, 2),
    ];
    assert_eq!(
        messages,
        [
            "`rows.temperature` must be finite and at least 0, but is -1",
            "`rows.temperature` must be finite and at least 0, but is NaN",
            "`rows.top_p` must be above 0 and at most 1, but is 0",
            "`rows.min_p` must be from 0 to 1, but is 1.5",
            "`vocab` must be above 0, but is 0",
            "`choosable` must be at most 10, but is 11",
            "`choosable` must be at most 1048576, but is 1048577",
            "`out` must be as many as `rows` (2), but is 1",
            "`logits` must be at least [2, 11] f32 elements, but is 20 f32 elements",
        ]
    );
}
