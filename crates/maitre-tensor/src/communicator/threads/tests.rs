//! Groups of threads beside the same sums in a plain loop, and what becomes of a group that can't go on.

use std::thread;

use proptest::prelude::*;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Runs `work` on a thread for each rank; the results by rank.
fn on_ranks<R: Send>(
    ranks: Vec<ThreadRanks>,
    work: impl Fn(&mut ThreadRanks) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|mut rank| scope.spawn(move || (work(&mut rank), rank)))
            .collect();
        // A rank ends its group when it is dropped, so all are kept until each is done.
        let done: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
        done.into_iter().map(|(result, _)| result).collect()
    })
}

/// Numbers of very different sizes, so that another order of addition gives other bits.
fn number(rank: usize, index: usize, round: usize) -> f32 {
    let seed = (rank * 7919 + index * 104_729 + round * 1_299_709) as u32;
    let bits = seed.wrapping_mul(2_654_435_761);
    let sign = if bits & 1 == 0 { 1.0 } else { -1.0 };
    sign * (bits >> 8) as f32 * 2.0_f32.powi((bits >> 1 & 31) as i32 - 30)
}

fn numbers_of(rank: usize, len: usize, round: usize) -> Buffer {
    let numbers: Vec<f32> = (0..len).map(|index| number(rank, index, round)).collect();
    Buffer::from_f32s(&numbers).unwrap()
}

/// The sum over the ranks, in their order.
fn sum(ranks: usize, index: usize, round: usize) -> u32 {
    let others = 1..ranks;
    let first = number(0, index, round);
    others
        .fold(first, |sum, rank| sum + number(rank, index, round))
        .to_bits()
}

fn bits(buffer: &Buffer) -> Vec<u32> {
    buffer
        .f32s()
        .unwrap()
        .iter()
        .map(|it| it.to_bits())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes in a row, each operation gives the bits of a plain loop on every rank.
    #[test]
    fn operations_are_those_of_a_plain_loop(
        ranks in 1_usize..5,
        script in prop::collection::vec((0_usize..4, 0_usize..40), 1..12),
    ) {
        let script = &script;
        let all = on_ranks(ThreadRanks::group(ranks, LONG), |me| {
            let mut results = Vec::new();
            for (round, &(which, len)) in script.iter().enumerate() {
                let mut values = numbers_of(me.rank(), len * ranks, round);
                let mut out = Buffer::zeros(DType::F32, len * ranks).unwrap();
                match which {
                    0 => me.all_reduce(&mut values, len).unwrap(),
                    1 => me.all_gather(&values, len, &mut out).unwrap(),
                    2 => me.reduce_scatter(&values, len, &mut out).unwrap(),
                    _ => me.all_to_all(&values, len, &mut out).unwrap(),
                }
                let used = if which == 0 { &values } else { &out };
                let count = if which % 2 == 0 { len } else { len * ranks };
                results.push(bits(used)[..count].to_vec());
            }
            results
        });
        for (me, results) in all.iter().enumerate() {
            for (round, (&(which, len), result)) in script.iter().zip(results).enumerate() {
                let expected: Vec<u32> = (0..result.len())
                    .map(|index| match which {
                        0 => sum(ranks, index, round),
                        1 => number(index / len, index % len, round).to_bits(),
                        2 => sum(ranks, me * len + index, round),
                        _ => number(index / len, me * len + index % len, round).to_bits(),
                    })
                    .collect();
                prop_assert_eq!(result, &expected, "rank {} round {}", me, round);
            }
        }
    }
}

#[test]
fn a_rank_that_ends_fails_those_that_wait_and_all_that_come() {
    let mut ranks = ThreadRanks::group(3, LONG);
    let ended = ranks.pop();
    let waiting = thread::spawn(move || {
        let results = on_ranks(ranks, |me| {
            let mut values = numbers_of(me.rank(), 4, 0);
            let first = me.all_reduce(&mut values, 4).unwrap_err().to_string();
            // What could not be added is as it was.
            assert_eq!(bits(&values), bits(&numbers_of(me.rank(), 4, 0)));
            (
                first,
                me.all_gather(&numbers_of(0, 1, 0), 1, &mut values)
                    .unwrap_err()
                    .to_string(),
            )
        });
        for (first, second) in results {
            assert_eq!(
                first,
                "all_reduce among ranks failed: rank 2 has ended; start all ranks again"
            );
            assert!(
                second.starts_with("all_gather among ranks failed: rank 2 has ended"),
                "{second}"
            );
        }
    });
    drop(ended);
    waiting.join().unwrap();
}

#[test]
fn a_rank_that_does_not_come_in_time_fails_the_operation() {
    let mut ranks = ThreadRanks::group(2, Duration::ZERO);
    let error = ranks[0]
        .all_reduce(&mut numbers_of(0, 4, 0), 4)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("1 ranks did not come within 0ns"),
        "{error}"
    );
    let error = ranks[1]
        .all_reduce(&mut numbers_of(1, 4, 0), 4)
        .unwrap_err();
    assert!(error.to_string().contains("did not come"), "{error}");
}

#[test]
fn ranks_that_call_different_things_are_told() {
    for (operation, len) in [("all_reduce", 3), ("reduce_scatter", 4)] {
        let errors = on_ranks(ThreadRanks::group(2, LONG), |me| {
            let mut values = numbers_of(me.rank(), 8, 0);
            let mut out = Buffer::zeros(DType::F32, 8).unwrap();
            match me.rank() {
                0 => me.all_reduce(&mut values, 4),
                _ if operation == "all_reduce" => me.all_reduce(&mut values, len),
                _ => me.reduce_scatter(&values, len, &mut out),
            }
            .unwrap_err()
            .to_string()
        });
        for error in errors {
            assert!(error.contains("all_reduce of 4"), "{error}");
            assert!(error.contains(&format!("{operation} of {len}")), "{error}");
        }
    }
}

#[test]
fn short_buffers_are_refused_before_the_others_are_met() {
    let mut alone = ThreadRanks::group(2, LONG);
    let mut short = Buffer::zeros(DType::F32, 3).unwrap();
    let mut whole = Buffer::zeros(DType::F32, 8).unwrap();
    let me = &mut alone[0];
    let refused = [
        me.all_reduce(&mut short, 4),
        me.all_reduce(&mut Buffer::zeros(DType::Bf16, 4).unwrap(), 4),
        me.all_gather(&short, 4, &mut whole),
        me.all_gather(&whole, 4, &mut short),
        me.reduce_scatter(&short, 2, &mut whole),
        me.all_to_all(&whole, 4, &mut short),
        me.all_gather(&whole, usize::MAX, &mut short),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert!(matches!(error, TensorError::Argument { .. }), "{error}");
    }
}
