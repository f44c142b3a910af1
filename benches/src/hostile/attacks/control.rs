//! No attack at all: a process that only takes processor time, at the attackers' low priority.
//!
//! Attackers run on the server's machine. What they take from it as processes is not the server's fault; this row
//! shows how much that can be.

use std::hint::black_box;
use std::time::Instant;

use super::Attack;

pub(super) const ATTACK: Attack = Attack::new(
    "control",
    "no attack: one core kept busy at the attackers' low priority",
    |arena| {
        Box::pin(async move {
            let began = Instant::now();
            let mut turns = 0_u64;
            while began.elapsed() < arena.length {
                turns = black_box(turns.wrapping_add(1));
            }
            Ok(())
        })
    },
);
