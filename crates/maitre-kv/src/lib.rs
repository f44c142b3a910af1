//! Which sequence owns which KV block: the block pool, the block tables, the reference counts.
//!
//! The KV memory of the model is cut into blocks of [`KvConfig::block_size`] token positions
//! (PagedAttention: Kwon et al. 2023, section 4). A sequence owns a *block table*: its `i`-th entry is
//! the block that holds positions `i * block_size .. (i + 1) * block_size`. A token is written to a
//! *slot*, `block * block_size + offset`, so the model needs no more than tables and slots.
//!
//! **Architecture invariant:** pure bookkeeping. This crate knows nothing of tensors, devices, clocks,
//! I/O, requests or text, and the same calls always give the same blocks.
//!
//! # Examples
//!
//! ```
//! use maitre_kv::{KvConfig, KvError, KvManager, SeqId};
//!
//! let mut kv = KvManager::new(KvConfig { num_blocks: 4, block_size: 16 })?;
//! let sequence = SeqId(7);
//!
//! kv.grow(sequence, 20)?; // 20 positions need two blocks of 16
//! assert_eq!(kv.block_table(sequence).len(), 2);
//! assert_eq!(kv.free_blocks(), 2);
//!
//! let second = kv.block_table(sequence)[1];
//! assert_eq!(kv.slot(sequence, 17), Some(second.0 * 16 + 1));
//!
//! assert_eq!(kv.grow(sequence, 1000), Err(KvError::OutOfBlocks { needed: 61, free: 2 }));
//! assert_eq!(kv.release(sequence), 2);
//! # Ok::<(), KvError>(())
//! ```

mod config;
mod error;
mod invariants;
mod manager;
mod pool;

pub use config::{KvConfig, KvSpec};
pub use error::{InvariantViolation, KvError};
pub use manager::{KvManager, SeqId};
pub use pool::BlockId;
