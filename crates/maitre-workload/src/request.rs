//! A request, and where requests come from.
//!
//! A [`Request`] has no text and no tokens; its user makes a prompt of the right length from it. Two prompts begin
//! alike exactly as far as their [`SharedPrefix`]es name the same blocks.

use std::sync::Arc;

use crate::{Random, Time, mix};

/// A request on its way to a server, or to a fleet of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Counted from 0 in the order in which its source made it.
    pub number: u64,
    /// When it comes, since the beginning of the workload.
    pub arrival: Time,
    /// Tokens of its prompt, at least 1.
    pub prompt_tokens: u32,
    /// Tokens of its answer, at least 1.
    pub output_tokens: u32,
    /// The beginning of its prompt that other prompts may share; `None`: no other prompt begins like it.
    pub prefix: Option<SharedPrefix>,
    /// What it has in common with the other turns of a conversation, if anything is known of that.
    pub session: Option<u64>,
    /// The user of a closed loop who sends the next request when this one is answered.
    pub user: Option<u32>,
}

/// The leading blocks of a prompt, by what they contain: prompts with the same first `n` ids have the same first `n`
/// blocks. The last block may be cut off by the end of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPrefix {
    /// Tokens of a block.
    pub block_tokens: u32,
    /// The contents of each block.
    pub ids: Arc<[u64]>,
}

/// Marks the token that no other prompt has in its place.
const OWN: u32 = 1 << 31;

impl Request {
    /// Tokens of prompt and answer together.
    #[must_use]
    pub fn full_length(&self) -> usize {
        (self.prompt_tokens as usize).saturating_add(self.output_tokens as usize)
    }

    /// A prompt for it that no model reads: its tokens are zeros but for those that tell blocks apart, so a long one costs
    /// little more than its memory. There is room behind it for the answer.
    #[must_use]
    pub fn prompt(&self) -> Vec<u32> {
        let mut prompt = Vec::with_capacity(self.full_length());
        prompt.resize(self.prompt_tokens as usize, 0);
        let (block_tokens, ids) = match &self.prefix {
            Some(prefix) => (prefix.block_tokens.max(1) as usize, &prefix.ids[..]),
            None => (1, &[][..]),
        };
        for (&id, block) in ids.iter().zip(prompt.chunks_mut(block_tokens)) {
            // 31 bits each, as the highest one marks what is not shared.
            let parts = [id as u32 & !OWN, (id >> 31) as u32 & !OWN];
            for (token, part) in block.iter_mut().zip(parts) {
                *token = part;
            }
        }
        if let Some(first_own) = prompt.get_mut(ids.len() * block_tokens) {
            *first_own = OWN | self.number as u32;
        }
        prompt
    }

    /// A prompt for it that a model reads: tokens below `vocab_size`, all of them as likely. Blocks with the same id have
    /// the same tokens under one seed, and what is behind them no other request's prompt repeats.
    #[must_use]
    pub fn random_tokens(&self, vocab_size: usize, seed: u64) -> Vec<u32> {
        let length = self.prompt_tokens as usize;
        let draw = |random: &mut Random| random.below(vocab_size as u64) as u32;
        let mut prompt = Vec::with_capacity(length);
        if let Some(prefix) = &self.prefix {
            for &id in prefix.ids.iter() {
                let mut random = Random::new(mix(seed ^ SHARED), id);
                let tokens = (length - prompt.len()).min(prefix.block_tokens as usize);
                prompt.extend((0..tokens).map(|_| draw(&mut random)));
            }
        }
        let mut random = Random::new(seed, self.number);
        prompt.resize_with(length, || draw(&mut random));
        prompt
    }
}

/// Tells the tokens of shared blocks from those of requests.
const SHARED: u64 = 0x7368_6172_6564_2121;

/// A source of requests, in the order of their arrival.
pub trait Arrivals {
    /// When the next request comes. `None`: none comes before one that is under way has ended, or none at all.
    fn next_at(&mut self) -> Option<Time>;

    /// Takes the request that comes [next](Self::next_at).
    fn take(&mut self) -> Option<Request>;

    /// Whether arrivals do not depend on answers.
    fn is_open(&self) -> bool {
        false
    }

    /// Whether prompts may begin alike. If none do, a simulation need not remember what they begin with.
    fn shares_prefixes(&self) -> bool {
        true
    }

    /// The request of this user has ended, or may be tried again, at `at`.
    fn ended(&mut self, user: u32, at: Time) {
        let _ = (user, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64, prompt_tokens: u32, ids: &[u64]) -> Request {
        Request {
            number,
            arrival: Time::ZERO,
            prompt_tokens,
            output_tokens: 1,
            prefix: (!ids.is_empty()).then(|| SharedPrefix {
                block_tokens: 4,
                ids: ids.into(),
            }),
            session: None,
            user: None,
        }
    }

    fn agree(a: &Request, b: &Request) -> usize {
        let (a, b) = (a.prompt(), b.prompt());
        a.iter().zip(&b).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn prompts_begin_alike_as_far_as_their_blocks_are_the_same() {
        let first = request(0, 14, &[7, 8, 9]);
        assert_eq!(first.prompt().len(), 14);
        assert_eq!(agree(&first, &request(1, 14, &[7, 8, 9])), 12);
        assert_eq!(agree(&first, &request(1, 14, &[7, 8, 10])), 8);
        assert_eq!(agree(&first, &request(1, 14, &[7 + (1 << 40), 8])), 1);
        assert_eq!(agree(&first, &request(1, 14, &[])), 0);
        assert_eq!(agree(&request(0, 14, &[]), &request(1, 14, &[])), 0);
    }

    #[test]
    fn random_prompts_share_what_their_blocks_share() {
        let tokens = |request: &Request, seed| request.random_tokens(50, seed);
        let (first, second) = (request(0, 400, &[7, 8, 9]), request(1, 402, &[7, 8, 10]));
        let (a, b) = (tokens(&first, 3), tokens(&second, 3));
        assert_eq!((a.len(), b.len()), (400, 402));
        assert_eq!(a[..8], b[..8]);
        assert_ne!(a[8..12], b[8..12]);
        assert_ne!(a[12..], b[12..400]);
        assert_eq!(a, tokens(&first, 3));
        assert_ne!(a[..8], tokens(&first, 4)[..8]);
        for id in 0..50 {
            let times = a.iter().filter(|&&found| found == id).count();
            assert!(times < 30, "{id}: {times} of 400");
        }
        assert!(a.iter().all(|&id| id < 50));
        let cut = tokens(&request(2, 10, &[7, 8, 9]), 3);
        assert_eq!(cut, a[..10]);
    }

    #[test]
    fn a_block_that_the_end_of_the_prompt_cuts_off_is_shared_as_far_as_it_goes() {
        let whole = request(0, 12, &[7, 8, 9]);
        let cut = request(1, 10, &[7, 8, 9]);
        assert_eq!((cut.prompt().len(), agree(&whole, &cut)), (10, 10));
        assert_eq!(request(5, 1, &[]).prompt(), [OWN | 5]);
    }
}
