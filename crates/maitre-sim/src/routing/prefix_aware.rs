//! Where the beginning of a prompt was sent before.
//!
//! The router remembers which replica each leading part of a prompt was sent to last. It asks no replica, so it may be wrong:
//! the replica may have evicted the blocks since.

use std::collections::HashMap;

use super::{FleetView, Looks, Router};
use crate::workload::{Request, mix};

/// Parts of prompts that are remembered in each of two generations. When the younger one is full, the older one is dropped.
const REMEMBERED: usize = 1 << 20;

/// How many times as many requests as the least loaded replica the holder of a prefix may have, …
const MOST_TIMES: usize = 2;

/// … and how many more, so that a nearly idle fleet does not leave its caches for a request or two.
const MOST_MORE: usize = 8;

/// Sends a request to the replica that was last sent the longest part of its beginning, if that is at least half of the prompt and
/// the replica has at most twice as many requests as the least loaded one and 8 more; else to the least loaded one. What most
/// prompts begin with, such as instructions to the model, is soon in every cache, and no reason to crowd at one replica.
#[derive(Debug, Clone, Default)]
pub struct PrefixAware {
    /// By a hash over all blocks of a beginning. Only looked up, never iterated: its order is random.
    younger: HashMap<u64, u32>,
    older: HashMap<u64, u32>,
    next: usize,
}

impl Router for PrefixAware {
    fn route(&mut self, request: &Request, fleet: FleetView<'_>) -> usize {
        let beginnings = beginnings(request);
        let least = fleet.least_loaded(self.next);
        let holder = beginnings[shortest(request, beginnings.len())..]
            .iter()
            .rev()
            .find_map(|key| self.holder(*key));
        let most = fleet.outstanding(least) * MOST_TIMES + MOST_MORE;
        let in_time =
            holder.filter(|&holder| fleet.is_open(holder) && fleet.outstanding(holder) <= most);
        let chosen = in_time.unwrap_or(least);
        self.next = chosen + 1;
        beginnings
            .into_iter()
            .for_each(|key| self.remember(key, chosen));
        chosen
    }

    fn looks(&self) -> Looks {
        Looks::Counts
    }
}

impl PrefixAware {
    fn holder(&self, key: u64) -> Option<usize> {
        let found = self.younger.get(&key).or_else(|| self.older.get(&key));
        found.map(|&replica| replica as usize)
    }

    fn remember(&mut self, key: u64, replica: usize) {
        if self.younger.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(key, replica as u32);
    }
}

/// Of so many beginnings, the place of the first that is at least half of the prompt.
fn shortest(request: &Request, beginnings: usize) -> usize {
    let block_tokens = request.prefix.as_ref().map_or(1, |it| it.block_tokens);
    let half = request.prompt_tokens.div_ceil(2);
    let blocks = half.div_ceil(block_tokens.max(1)) as usize;
    blocks.saturating_sub(1).min(beginnings)
}

/// A hash of each leading part of a prompt, the shortest first.
fn beginnings(request: &Request) -> Vec<u64> {
    let ids = request.prefix.iter().flat_map(|prefix| prefix.ids.iter());
    let chained = ids.scan(0x7072_6566_6978, |key, id| {
        *key = mix(*key ^ mix(*id));
        Some(*key)
    });
    chained.collect()
}
