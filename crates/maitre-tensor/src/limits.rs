//! [`Limits`]: the fastest this machine can calculate and read with the instructions of a path, to hold kernels against.
//!
//! A kernel's speed says little without the chip's own: half of a fast chip is slow. So the limits
//! are found on the same threads, in the same minute, by loops that do nothing but what they
//! measure: a chain of the best instruction on registers alone, and a sum over memory that no cache
//! holds. Both end in a number that depends on every step, so that no compiler can leave one out.
//!
//! This is the only place in the crate that looks at a clock, and nothing but measuring calls it.

mod copying;
mod portable;
mod region;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::team::Team;
use crate::tiles::RowBlocks;
use crate::{CpuPath, TensorError};
use region::{LINE, Region};

/// What a number of threads can reach together on this machine.
///
/// A multiplication and an addition are two operations. The time that no kernel can beat is the
/// *roofline* (Williams, Waterman and Patterson 2009): the longer of its bytes at the read rate and
/// its operations at the peak of their format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes a second read from memory, in huge pages where the system has them.
    pub read_bytes_per_s: f64,
    /// f32 operations a second.
    pub f32_flops: f64,
    /// Operations a second on products of bf16 numbers summed in f32; `f32_flops` where the kernels take no instruction
    /// for bf16.
    pub bf16_flops: f64,
    /// Operations a second on products of 8-bit integers summed in 32 bits.
    pub int8_ops: f64,
}

/// A loop of one instruction on registers.
struct Arithmetic {
    /// Operations of one turn.
    ops_per_turn: usize,
    /// Takes this many turns; what it returns depends on each of them.
    run: fn(turns: usize) -> u64,
}

/// The loops of one instruction set.
struct Loops {
    f32: Arithmetic,
    /// `None` where bf16 has to be widened to f32.
    bf16: Option<Arithmetic>,
    int8: Arithmetic,
    /// Reads every line once; what it returns depends on each of them.
    read: fn(&[[u8; LINE]]) -> u64,
}

/// A round is long against handing out the work and short against the turns that a busy system
/// gives to others: some of the rounds see none.
const ROUND: Duration = Duration::from_millis(2);

/// Shares of the budget: reading has to find more undisturbed rounds, because memory is shared with
/// all other processors of the machine.
const READ_SHARE: u32 = 2;
const ARITHMETIC_SHARE: u32 = 6;

impl Limits {
    /// Measures a compute team of `threads` threads for about `budget` (half a second is a fair
    /// value; every loop runs at least once) and takes the best round of each loop. The loops take the instructions of the
    /// kernels that [`Backend::cpu`](crate::Backend::cpu) would choose, so `MAITRE_CPU` tells them too.
    ///
    /// # Errors
    ///
    /// As [`CpuPath::from_env`];
    /// [`TensorError::NoThreads`] for 0 threads, [`TensorError::Spawn`] if the system refuses one,
    /// [`TensorError::Reserve`] if it has no space for the 512 MiB that are read.
    pub fn measure(threads: usize, budget: Duration) -> Result<Self, TensorError> {
        let team = Team::start(threads)?;
        let loops = loops(CpuPath::from_env()?);
        let arithmetic = |work: &Arithmetic| peak(work, &team, budget / ARITHMETIC_SHARE);
        let f32_flops = arithmetic(&loops.f32)?;
        Ok(Self {
            read_bytes_per_s: read_rate(loops.read, &team, budget / READ_SHARE)?,
            f32_flops,
            bf16_flops: loops.bf16.as_ref().map_or(Ok(f32_flops), arithmetic)?,
            int8_ops: arithmetic(&loops.int8)?,
        })
    }

    /// The larger of two measurements, number by number: what a machine has once done, it can do.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            read_bytes_per_s: self.read_bytes_per_s.max(other.read_bytes_per_s),
            f32_flops: self.f32_flops.max(other.f32_flops),
            bf16_flops: self.bf16_flops.max(other.bf16_flops),
            int8_ops: self.int8_ops.max(other.int8_ops),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "reads {:.1} GB/s, f32 {:.0} GFLOP/s, bf16 {:.0} GFLOP/s, int8 {:.0} GOP/s",
            self.read_bytes_per_s / 1e9,
            self.f32_flops / 1e9,
            self.bf16_flops / 1e9,
            self.int8_ops / 1e9
        )
    }
}

/// The loops with the instructions of a path.
#[cfg(not(target_arch = "x86_64"))]
fn loops(_: CpuPath) -> Loops {
    portable::loops()
}

/// The loops with the instructions of a path.
#[cfg(target_arch = "x86_64")]
fn loops(path: CpuPath) -> Loops {
    let found = match path {
        CpuPath::Amx => x86::avx512(true, true).map(tiles::or),
        CpuPath::Avx512 => x86::avx512(true, true),
        CpuPath::Avx512Vnni => x86::avx512(false, true),
        CpuPath::Avx512F => x86::avx512(false, false),
        CpuPath::AvxVnni => x86::avx2(true),
        CpuPath::Avx2 => x86::avx2(false),
        CpuPath::Neon | CpuPath::Portable => None,
    };
    found.unwrap_or_else(portable::loops)
}

/// Operations a second of the whole team.
fn peak(work: &Arithmetic, team: &Team, budget: Duration) -> Result<f64, TensorError> {
    let turns = turns_of_a_round(work);
    let mut results = vec![0; team.threads()];
    let fastest = fastest_round(team, budget, &mut results, |result| {
        *result = (work.run)(black_box(turns));
    })?;
    let ops = turns * work.ops_per_turn * black_box(results).len();
    Ok(ops as f64 / fastest.as_secs_f64())
}

/// How many turns take at least a round.
fn turns_of_a_round(work: &Arithmetic) -> usize {
    let mut turns = 1 << 10;
    loop {
        let started = Instant::now();
        black_box((work.run)(black_box(turns)));
        // The bound ends the search of a clock that stands still.
        if started.elapsed() >= ROUND || turns >= 1 << 30 {
            return turns;
        }
        turns *= 2;
    }
}

/// Bytes a second of the whole team, each member reading another part of memory.
fn read_rate(
    read: fn(&[[u8; LINE]]) -> u64,
    team: &Team,
    budget: Duration,
) -> Result<f64, TensorError> {
    let mut regions = (0..team.threads())
        .map(|_| Region::of_share(team.threads()))
        .collect::<Result<Vec<_>, _>>()?;
    fastest_round(team, Duration::ZERO, &mut regions, Region::touch)?;
    let fastest = fastest_round(team, budget, &mut regions, |region| {
        black_box(read(black_box(region.next_part())));
    })?;
    let bytes = regions.len() * regions[0].part_bytes();
    Ok(bytes as f64 / fastest.as_secs_f64())
}

/// Has the team work on all `parts` at once, round after round until `budget` is used up, and gives
/// the time of the fastest round. One part for each member: if a member is kept from its own, another
/// takes it later, and the round is not the fastest.
fn fastest_round<P: Send>(
    team: &Team,
    budget: Duration,
    parts: &mut [P],
    work: impl Fn(&mut P) + Sync,
) -> Result<Duration, TensorError> {
    team.step(|| {
        let begun = Instant::now();
        let mut fastest = Duration::MAX;
        loop {
            let started = Instant::now();
            team.lead("limits")
                .for_each(RowBlocks::new(parts, 1, 1), |part, _| {
                    part.data.iter_mut().for_each(&work);
                })?;
            fastest = fastest.min(started.elapsed());
            if begun.elapsed() >= budget {
                // A division by it is finite also where the clock is too coarse for the work.
                return Ok(fastest.max(Duration::from_nanos(1)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_finite_and_positive(limits: &Limits) -> bool {
        [
            limits.read_bytes_per_s,
            limits.f32_flops,
            limits.bf16_flops,
            limits.int8_ops,
        ]
        .iter()
        .all(|rate| rate.is_finite() && *rate > 0.0)
    }

    #[test]
    fn every_limit_is_a_rate_also_without_a_budget() {
        for threads in [1, 2] {
            let limits = Limits::measure(threads, Duration::ZERO).unwrap();
            assert!(all_finite_and_positive(&limits), "{limits:?}");
        }
    }

    #[test]
    fn no_threads_are_refused() {
        let error = Limits::measure(0, Duration::ZERO).unwrap_err();
        assert!(matches!(error, TensorError::NoThreads), "{error}");
    }

    #[test]
    fn the_larger_of_two_is_taken_number_by_number() {
        let limits = |read_bytes_per_s, f32_flops, bf16_flops, int8_ops| Limits {
            read_bytes_per_s,
            f32_flops,
            bf16_flops,
            int8_ops,
        };
        let both = limits(1.0, 6.0, 3.0, 8.0).max(limits(5.0, 2.0, 7.0, 4.0));
        assert_eq!(both, limits(5.0, 6.0, 7.0, 8.0));
    }

    /// Loops whose result did not depend on every turn, or every line, could be shortened by the
    /// compiler and would report a speed that no machine has.
    fn check(loops: &Loops) {
        let arithmetic = [Some(&loops.f32), loops.bf16.as_ref(), Some(&loops.int8)];
        for work in arithmetic.into_iter().flatten() {
            let results: Vec<u64> = [0, 1, 2, 3, 100, 101].map(work.run).to_vec();
            for (i, result) in results.iter().enumerate() {
                assert!(!results[..i].contains(result), "{results:?}");
            }
        }
        let mut lines = vec![[0; LINE]; 1021];
        let mut sums = vec![(loops.read)(&lines)];
        for line in [0, 1, 7, 510, 1019, 1020] {
            lines[line][line % LINE] = 1 + (line % 251) as u8;
            sums.push((loops.read)(&lines));
        }
        for (i, sum) in sums.iter().enumerate() {
            assert!(!sums[..i].contains(sum), "{sums:?}");
        }
    }

    #[test]
    fn every_turn_and_every_line_shows_in_the_result() {
        check(&portable::loops());
        for path in CpuPath::available() {
            check(&loops(path));
        }
    }
}
