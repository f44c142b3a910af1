//! How large the KV pool is, which groups of layers share it, and what it remembers.
//!
//! All groups take their memory from one pool of equal *pages*. A page holds [`KvConfig::block_size`] positions for
//! the layers of whichever group has it, so no split of the memory between groups is fixed at the start: a long
//! context takes pages for its layers of full attention, and many short ones take them for all layers. Which layers a
//! group serves, and that all groups have as many bytes per position, is the model's affair.

use crate::index::RECORD_BYTES;
use crate::lru::LINK_BYTES;
use crate::name::Name;
use crate::{BlockId, HashKey, KvError};

/// Which of the positions before it a token of a group's layers reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvSpec {
    /// Full attention: all of them.
    Full,
    /// Sliding-window attention: the last so many, its own included.
    Window(u32),
    /// Attention within chunks of so many positions, which begin at absolute multiples of it (Llama 4): those of its chunk.
    Chunked(u32),
    /// A recurrence (Mamba, a gated delta net): none, but the one state that the token before it left. See
    /// [`StateSpan`](crate::StateSpan).
    State {
        /// Pages that a state takes.
        pages: u32,
        /// The states behind absolute multiples of so many tokens are kept for later sequences, as full blocks are. A
        /// multiple of the block size.
        checkpoint_every: u32,
    },
}

impl KvSpec {
    /// The window of sliding-window attention.
    pub fn window(self) -> Option<u32> {
        match self {
            Self::Window(window) => Some(window),
            _ => None,
        }
    }

    /// Positions that a token reads at most, its own included; `None` if it reads all before it.
    pub fn most_read(self) -> Option<u32> {
        match self {
            Self::Full => None,
            Self::Window(positions) | Self::Chunked(positions) => Some(positions),
            Self::State { .. } => Some(0),
        }
    }

    /// The first position that the token at `position` reads; one behind it if it reads none.
    pub fn first_read(self, position: usize) -> usize {
        match self {
            Self::Full => 0,
            Self::Window(window) => (position + 1).saturating_sub(window as usize),
            Self::Chunked(chunk) => position - position % chunk as usize,
            Self::State { .. } => position + 1,
        }
    }

    /// Whether it keeps a state instead of keys and values.
    pub fn is_state(self) -> bool {
        matches!(self, Self::State { .. })
    }

    /// Pages that a name stands for: of a block, or of a state.
    pub(crate) fn parts(self) -> usize {
        match self {
            Self::State { pages, .. } => pages as usize,
            _ => 1,
        }
    }
}

/// What the steps in flight may do of one sequence, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Positions that they compute, so that a group which forgets has to hold them beside what is read.
    pub positions: usize,
    /// How many they are: each writes a state of its own.
    pub steps: usize,
}

impl Ahead {
    /// One step of any length.
    pub const ONE_STEP: Self = Self {
        positions: usize::MAX,
        steps: 1,
    };
}

/// Size of the pool, the groups that share it, and what it remembers of sequences that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvConfig {
    /// Number of pages in the pool.
    pub num_pages: u32,
    /// Token positions per page, and per block of the chain of hashes.
    pub block_size: u32,
    /// The groups of layers, at least one. A sequence has a block table for each.
    pub groups: Vec<KvSpec>,
    /// Whether full blocks outlive their sequences, to be shared by later ones with the same prefix.
    pub prefix_cache: bool,
    /// Pages of the host tier, where idle pages go when the pool needs their place; 0 = none.
    pub num_host_pages: u32,
    /// Whether [`KvManager::take_events`](crate::KvManager::take_events) has anything to tell.
    pub events: bool,
    /// The secret of the block hashes.
    pub hash_key: HashKey,
}

impl KvConfig {
    /// A pool of this size for one group under full attention, with a prefix cache and nothing else.
    pub fn new(num_pages: u32, block_size: u32) -> Self {
        Self {
            num_pages,
            block_size,
            groups: vec![KvSpec::Full],
            prefix_cache: true,
            num_host_pages: 0,
            events: false,
            hash_key: HashKey::default(),
        }
    }

    /// Checks that the pool can exist.
    ///
    /// # Errors
    ///
    /// [`KvError::ZeroPages`], [`KvError::ZeroBlockSize`], [`KvError::WrongGroupCount`], [`KvError::ZeroWindow`],
    /// [`KvError::WrongStatePages`], [`KvError::WrongCheckpoints`], [`KvError::HostTierAlone`], or [`KvError::TooManySlots`] if slots would not fit below `u32::MAX`, the number
    /// that kernels read as "do not write".
    pub fn validate(&self) -> Result<(), KvError> {
        if self.num_pages == 0 {
            return Err(KvError::ZeroPages);
        }
        if self.block_size == 0 {
            return Err(KvError::ZeroBlockSize);
        }
        let groups = self.groups.len();
        if groups == 0 || groups > MOST_GROUPS {
            return Err(KvError::WrongGroupCount { groups });
        }
        for (group, spec) in self.groups.iter().enumerate() {
            self.check_spec(group, *spec)?;
        }
        if self.num_host_pages > 0 && !self.prefix_cache {
            return Err(KvError::HostTierAlone);
        }
        if self.num_pages.checked_mul(self.block_size).is_none() {
            return Err(KvError::TooManySlots {
                num_pages: self.num_pages,
                block_size: self.block_size,
            });
        }
        Ok(())
    }

    fn check_spec(&self, group: usize, spec: KvSpec) -> Result<(), KvError> {
        match spec {
            KvSpec::Window(0) | KvSpec::Chunked(0) => Err(KvError::ZeroWindow { group }),
            KvSpec::State { pages, .. } if pages == 0 || pages > MOST_STATE_PAGES => {
                Err(KvError::WrongStatePages { group, pages })
            }
            KvSpec::State {
                checkpoint_every, ..
            } if checkpoint_every == 0 || checkpoint_every % self.block_size != 0 => {
                Err(KvError::WrongCheckpoints {
                    group,
                    checkpoint_every,
                    block_size: self.block_size,
                })
            }
            _ => Ok(()),
        }
    }

    /// Slots of the pool: positions that all its pages hold. A position of a sequence takes a slot in each group.
    pub fn num_slots(&self) -> usize {
        self.num_pages as usize * self.block_size as usize
    }

    /// Blocks that `tokens` positions fill or begin.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_size as usize)
    }

    /// Pages that a sequence of `tokens` positions takes at most, over all groups, if steps in flight compute no more of it
    /// than `ahead`: a group that forgets needs no more than what is read and these.
    pub fn pages_for(&self, tokens: usize, ahead: Ahead) -> usize {
        let blocks = self.blocks_for(tokens);
        let groups = self.groups.iter();
        let pages = groups.map(|spec| match spec {
            KvSpec::State { pages, .. } => ring(ahead.steps).saturating_mul(*pages as usize),
            spec => blocks.min(self.most_blocks(*spec, ahead.positions)),
        });
        pages.fold(0, usize::saturating_add)
    }

    /// Positions of the longest sequence that the whole pool holds by [`pages_for`](Self::pages_for); `usize::MAX` if
    /// all groups forget and it holds what they keep.
    pub fn longest_sequence(&self, ahead: Ahead) -> usize {
        let most = self.num_pages as usize;
        let block_size = self.block_size as usize;
        // A sequence of more blocks than there are pages fits only if none of its groups holds all of it.
        let fits = |blocks: usize| self.pages_for(blocks * block_size, ahead) <= most;
        if fits(most + 1) {
            return usize::MAX;
        }
        // The largest number that fits: all below it do.
        let (mut fitting, mut too_many) = (0, most + 1);
        while too_many - fitting > 1 {
            let middle = fitting.midpoint(too_many);
            *(if fits(middle) {
                &mut fitting
            } else {
                &mut too_many
            }) = middle;
        }
        fitting * block_size
    }

    /// Whether some group forgets: what lies behind its window or before its chunk, or all but its state.
    pub fn forgets(&self) -> bool {
        self.groups.iter().any(|spec| spec.most_read().is_some())
    }

    /// Whether some group keeps states.
    pub fn has_state(&self) -> bool {
        self.groups.iter().any(|spec| spec.is_state())
    }

    /// Groups that keep keys and values: a block of a sequence takes a page in each.
    pub fn num_block_groups(&self) -> usize {
        self.groups.iter().filter(|spec| !spec.is_state()).count()
    }

    /// Pages that a state takes in each group that keeps states, together.
    pub fn pages_per_state(&self) -> usize {
        let states = self.groups.iter().filter(|spec| spec.is_state());
        states.map(|spec| spec.parts()).sum()
    }

    /// Pages that are kept of a block, with its share of the next checkpoint.
    pub fn pages_per_block(&self) -> f64 {
        let of_group = |spec: &KvSpec| match *spec {
            KvSpec::State {
                pages,
                checkpoint_every,
            } => f64::from(pages) * f64::from(self.block_size) / f64::from(checkpoint_every),
            _ => 1.0,
        };
        self.groups.iter().map(of_group).sum()
    }

    /// The first block that the token at `position` of a group reads.
    pub(crate) fn first_block(&self, spec: KvSpec, position: usize) -> usize {
        spec.first_read(position) / self.block_size as usize
    }

    /// Blocks in a group's table at most, while `ahead` positions behind the computed ones are covered: those of what is
    /// read and of these positions, and one more because either may begin within a block.
    pub(crate) fn most_blocks(&self, spec: KvSpec, ahead: usize) -> usize {
        match spec.most_read() {
            None => usize::MAX,
            Some(read) => {
                let positions = ahead.saturating_add(read as usize);
                positions.div_ceil(self.block_size as usize) + 1
            }
        }
    }

    /// Host memory that a manager of this pool takes at most for its own books, in bytes: lists and counts for
    /// each page, and with a prefix cache its name, its tokens, and the ways to find it.
    pub fn bookkeeping_bytes(&self) -> u64 {
        const LISTS: u64 = 2 * size_of::<BlockId>() as u64 + LINK_BYTES as u64;
        // Two maps from a name to a page, filled to between 7/16 and 7/8.
        const MAPS: u64 = 2 * 16 / 7 * (size_of::<(Name, BlockId)>() as u64 + 1);
        let named =
            RECORD_BYTES as u64 + size_of::<u32>() as u64 * u64::from(self.block_size) + MAPS;
        let per_page = LISTS + if self.prefix_cache { named } else { 0 };
        let per_place = LINK_BYTES as u64 + MAPS;
        per_page * u64::from(self.num_pages) + per_place * u64::from(self.num_host_pages)
    }
}

/// Groups there may be: their numbers are kept in 16 bits.
const MOST_GROUPS: usize = 1 << 16;

/// Pages that a state may take: so are theirs.
const MOST_STATE_PAGES: u32 = 1 << 16;

/// States that a sequence keeps in a group with so many steps in flight: what the oldest of them reads, and what each writes.
pub(crate) fn ring(steps: usize) -> usize {
    steps.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Ahead = Ahead {
        positions: 64,
        steps: 2,
    };

    #[test]
    fn a_pool_that_cannot_exist_is_refused() {
        let pool = || KvConfig::new(4, 16);
        let with = |change: fn(&mut KvConfig)| {
            let mut config = pool();
            change(&mut config);
            config.validate()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|it| it.num_pages = 0), Err(KvError::ZeroPages));
        assert_eq!(with(|it| it.block_size = 0), Err(KvError::ZeroBlockSize));
        let too_many = KvError::TooManySlots {
            num_pages: 1 << 28,
            block_size: 16,
        };
        assert_eq!(with(|it| it.num_pages = 1 << 28), Err(too_many));
        assert_eq!(KvConfig::new(u32::MAX, 1).validate(), Ok(()));
        let none = KvError::WrongGroupCount { groups: 0 };
        assert_eq!(with(|it| it.groups.clear()), Err(none));
        let no_window = |it: &mut KvConfig| it.groups.push(KvSpec::Window(0));
        assert_eq!(with(no_window), Err(KvError::ZeroWindow { group: 1 }));
        let no_chunk = |it: &mut KvConfig| it.groups.push(KvSpec::Chunked(0));
        assert_eq!(with(no_chunk), Err(KvError::ZeroWindow { group: 1 }));
        let alone = |it: &mut KvConfig| (it.num_host_pages, it.prefix_cache) = (1, false);
        assert_eq!(with(alone), Err(KvError::HostTierAlone));
    }

    #[test]
    fn states_that_cannot_be_kept_are_refused() {
        let with = |pages, checkpoint_every| {
            let state = KvSpec::State {
                pages,
                checkpoint_every,
            };
            let groups = vec![KvSpec::Full, state];
            let pool = KvConfig {
                groups,
                ..KvConfig::new(4, 16)
            };
            pool.validate()
        };
        assert_eq!((with(1, 16), with(1 << 16, 1 << 20)), (Ok(()), Ok(())));
        for pages in [0, (1 << 16) + 1] {
            let wrong = KvError::WrongStatePages { group: 1, pages };
            assert_eq!(with(pages, 16), Err(wrong));
        }
        for checkpoint_every in [0, 8, 24] {
            let wrong = KvError::WrongCheckpoints {
                group: 1,
                checkpoint_every,
                block_size: 16,
            };
            assert_eq!(with(1, checkpoint_every), Err(wrong));
        }
    }

    #[test]
    fn a_chunk_begins_at_a_multiple() {
        let chunk = KvSpec::Chunked(32);
        assert_eq!((chunk.first_read(31), chunk.first_read(32)), (0, 32));
        assert_eq!(chunk.first_read(95), 64);
    }

    #[test]
    fn a_window_begins_so_many_positions_back() {
        let window = KvSpec::Window(32);
        assert_eq!((window.first_read(31), window.first_read(32)), (0, 1));
        assert_eq!(KvSpec::Full.first_read(1000), 0);
    }

    #[test]
    fn a_windowed_group_needs_its_window_and_what_is_ahead() {
        let groups = vec![KvSpec::Full, KvSpec::Window(30), KvSpec::Window(30)];
        let pool = KvConfig {
            groups,
            ..KvConfig::new(4, 16)
        };
        assert_eq!(pool.pages_for(33, AHEAD), 3 * 3);
        assert_eq!(pool.pages_for(1600, AHEAD), 100 + 2 * 7);
        assert_eq!(pool.pages_for(1600, Ahead::ONE_STEP), 3 * 100);
    }

    #[test]
    fn the_longest_sequence_leaves_windowed_groups_their_pages() {
        let longest = |groups| {
            let pool = KvConfig {
                groups,
                ..KvConfig::new(30, 16)
            };
            pool.longest_sequence(AHEAD)
        };
        let window = KvSpec::Window(30);
        assert_eq!(longest(vec![KvSpec::Full]), 30 * 16);
        assert_eq!(longest(vec![KvSpec::Full, window, window]), 16 * 16);
        assert_eq!(longest(vec![KvSpec::Full, KvSpec::Full]), 15 * 16);
        assert_eq!(longest(vec![window; 4]), usize::MAX);
        assert_eq!(longest(vec![window; 5]), 6 * 16);
        // Three states at a time.
        let state = |pages| KvSpec::State {
            pages,
            checkpoint_every: 32,
        };
        assert_eq!(longest(vec![KvSpec::Full, state(4)]), 18 * 16);
        assert_eq!(
            (longest(vec![state(10)]), longest(vec![state(11)])),
            (usize::MAX, 0)
        );
    }

    #[test]
    fn the_books_take_a_small_share_of_what_they_are_about() {
        let pool = KvConfig::new(1 << 20, 16);
        let per_page = pool.bookkeeping_bytes() >> 20;
        assert!((150..400).contains(&per_page), "{per_page} bytes");
        let plain = KvConfig {
            prefix_cache: false,
            ..pool
        };
        assert_eq!(plain.bookkeeping_bytes() >> 20, 16);
    }
}
