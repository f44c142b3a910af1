//! This crate records which sequence holds which pages of KV memory. It hands out pages, counts how many
//! sequences share each one, finds blocks whose contents a new sequence can reuse, and decides which page to
//! evict first. It holds the page pool, the block tables, the prefix index and the host tier.
//!
//! The KV memory of the model is cut into *pages* of [`KvConfig::block_size`] token positions
//! (PagedAttention: Kwon et al. 2023, section 4). Layers that read the same positions form a *group* ([`KvSpec`]): full
//! attention, or a window of some size. A sequence owns a *block table* in each group: its entries are the pages
//! that hold block after block of its positions, `i * block_size .. (i + 1) * block_size`; the table of a windowed group
//! begins with the first block that is still read. A token is written to a
//! *slot* in each group, `page * block_size + offset`, so the model needs no more than tables and slots. A recurrent group
//! has no tables: a sequence reads one [state](StateSpan) in it and writes others. All groups take their pages from one pool, and no
//! page is in the tables of two groups.
//!
//! A full block gets a *name* in each group when the step that filled it is committed: a hash over its tokens and the
//! name of the block before it. Later sequences find their longest kept prefix by these names
//! ([`KvManager::find_prefix`]) and hold the same pages: the longest of which every group keeps what is read. A named
//! page is never written again. A page whose
//! last holder has gone is *idle*: it is kept for its contents, and reused only when no empty page is left.
//!
//! **Architecture invariant:** pure bookkeeping. This crate knows nothing of tensors, devices, clocks,
//! I/O, requests or text, and the same calls always give the same blocks. Copies are handed out as
//! [`BlockMoves`]; the executor makes them.
//!
//! # Examples
//!
//! ```
//! use maitre_kv::{Ahead, HashChain, KvConfig, KvError, KvManager, SeqId, SequenceStart};
//!
//! let mut kv = KvManager::new(KvConfig::new(8, 16))?;
//! let tokens: Vec<u32> = (0..40).collect();
//! let mut chain = HashChain::new(kv.namespace(&[b"tenant"]));
//! kv.extend_chain(&mut chain, &tokens);
//!
//! // The first sequence finds nothing and computes its 40 positions: three blocks, two of them full.
//! kv.grow(SeqId(1), 40)?;
//! kv.commit(SeqId(1), &chain, &tokens, 40);
//! assert_eq!(kv.release(SeqId(1)), 3);
//! assert_eq!((kv.used_pages(), kv.idle_pages()), (0, 2));
//!
//! // The second one begins with the same tokens and finds 32 of them.
//! let hit = kv.find_prefix(&chain, &tokens, false);
//! let start = SequenceStart {
//!     tokens: &tokens,
//!     chain: &chain,
//!     hit,
//!     reserve: 41,
//!     ahead: Ahead::ONE_STEP,
//!     headroom: 0,
//! };
//! assert_eq!(kv.admit(SeqId(2), &start)?, 32);
//! let second = kv.block_table(SeqId(2), 0)[1];
//! assert_eq!(kv.slot(SeqId(2), 0, 17), Some(second.0 * 16 + 1));
//!
//! assert_eq!(kv.grow(SeqId(2), 1000), Err(KvError::OutOfPages { needed: 60, free: 5 }));
//! # Ok::<(), KvError>(())
//! ```

mod config;
mod error;
mod events;
mod hash;
mod host;
mod index;
mod invariants;
mod lru;
mod manager;
mod moves;
mod moving;
mod name;
mod naming;
mod numbers;
mod pool;
mod prefix;
mod start;
mod states;
mod table;

pub use config::{Ahead, KvConfig, KvSpec};
pub use error::{InvariantViolation, KvError};
pub use events::CacheEvent;
pub use hash::{BlockHash, HashChain, HashKey, Namespace};
pub use manager::{KvCounts, KvManager, SeqId};
pub use moves::{BlockMove, BlockMoves};
pub use pool::BlockId;
pub use prefix::PrefixHit;
pub use start::{ForkStart, SequenceStart};
pub use states::{StateRef, StateRequest, StateSpan, StateWrite};
pub use table::TableDelta;
