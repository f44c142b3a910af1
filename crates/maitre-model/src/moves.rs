//! Moves of whole blocks between and within the pools of a runner.
//!
//! ```text
//! device blocks ── swap_out ──> host blocks      first
//! device blocks <── swap_in ─── host blocks      then
//! device blocks ── copies ────> device blocks    last
//! ```
//!
//! Of each list the moves happen in order. So a block may leave for the host and, in the same step,
//! take in another that comes back; and a block that came back may be copied at once.

use maitre_tensor::{Backend, BlockCopy, LayerCache, TensorError};

use crate::batch::BatchLimits;
use crate::error::ModelError;

/// Block moves that come before a step's forward, in this order: out, in, copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheMoves<'a> {
    /// From device to host blocks.
    pub swap_out: &'a [CacheMove],
    /// From host to device blocks.
    pub swap_in: &'a [CacheMove],
    /// From device to device blocks.
    pub copies: &'a [CacheMove],
}

/// One block that is copied to another, whole; the first keeps what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheMove {
    /// The block that is read.
    pub from: u32,
    /// The block that is written.
    pub to: u32,
}

impl CacheMoves<'_> {
    /// That every block exists.
    pub(crate) fn validate(&self, limits: &BatchLimits) -> Result<(), ModelError> {
        let device = ("device", limits.num_blocks);
        let host = ("host", limits.num_host_blocks);
        let count = self.swap_out.len() + self.swap_in.len();
        if count > 0 && limits.num_host_blocks == 0 {
            return Err(ModelError::NoHostPool { count });
        }
        for (list, moves, from, to) in [
            ("swap_out", self.swap_out, device, host),
            ("swap_in", self.swap_in, host, device),
            ("copies", self.copies, device, device),
        ] {
            for (
                index,
                CacheMove {
                    from: read,
                    to: written,
                },
            ) in moves.iter().enumerate()
            {
                for (end, block, (pool, num_blocks)) in
                    [("from", *read, from), ("to", *written, to)]
                {
                    if block as usize >= num_blocks {
                        return Err(ModelError::MoveOutOfRange {
                            list,
                            index,
                            end,
                            block,
                            pool,
                            num_blocks,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// What validated moves are carried out on: a cache per layer in each pool.
pub(crate) struct Pools<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) block_size: usize,
    pub(crate) device: &'a mut [LayerCache],
    /// Empty if there is no host pool.
    pub(crate) host: &'a mut [LayerCache],
    /// Memory to be reused; contents mean nothing between calls.
    pub(crate) copies: &'a mut Vec<BlockCopy>,
}

impl Pools<'_> {
    pub(crate) fn carry_out(&mut self, moves: &CacheMoves<'_>) -> Result<(), TensorError> {
        let (backend, block_size) = (self.backend, self.block_size);
        self.list(moves.swap_out);
        for (device, host) in self.device.iter().zip(&mut *self.host) {
            backend.copy_blocks_from(device, host, block_size, self.copies)?;
        }
        self.list(moves.swap_in);
        for (device, host) in self.device.iter_mut().zip(&*self.host) {
            backend.copy_blocks_from(host, device, block_size, self.copies)?;
        }
        self.list(moves.copies);
        for device in &mut *self.device {
            backend.copy_blocks(device, block_size, self.copies)?;
        }
        Ok(())
    }

    /// Puts whole blocks on the list.
    fn list(&mut self, moves: &[CacheMove]) {
        let positions = self.block_size;
        let whole = |&CacheMove { from, to }: &CacheMove| BlockCopy {
            from,
            to,
            positions,
        };
        self.copies.clear();
        self.copies.extend(moves.iter().map(whole));
    }
}
