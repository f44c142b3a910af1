//! Numbers in the order of their last use: a doubly linked list inside two arrays.
//!
//! Every operation is O(1), and nothing is allocated after the start.

const NONE: u32 = u32::MAX;

/// A list of distinct numbers below a fixed bound, least recently used first.
#[derive(Debug, Clone)]
pub(crate) struct Lru {
    /// Per number, its neighbours: before (used earlier) and after. `links[bound]` is the ring's head.
    links: Vec<Link>,
    len: usize,
}

/// Bytes of a number's place in the list.
pub(crate) const LINK_BYTES: usize = size_of::<Link>();

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

impl Lru {
    /// An empty list for the numbers below `bound`.
    pub(crate) fn new(bound: u32) -> Self {
        let absent = Link {
            before: NONE,
            after: NONE,
        };
        let mut links = vec![absent; bound as usize + 1];
        links[bound as usize] = Link {
            before: bound,
            after: bound,
        };
        Self { links, len: 0 }
    }

    fn head(&self) -> u32 {
        self.links.len() as u32 - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.links[number as usize].after != NONE
    }

    /// Adds `number` as the most recently used. It must not be in the list.
    pub(crate) fn push(&mut self, number: u32) {
        debug_assert!(!self.contains(number), "{number} is in the list already");
        let head = self.head();
        let last = self.links[head as usize].before;
        self.links[number as usize] = Link {
            before: last,
            after: head,
        };
        self.links[last as usize].after = number;
        self.links[head as usize].before = number;
        self.len += 1;
    }

    /// Takes `number` out; nothing happens if it is not in the list.
    pub(crate) fn remove(&mut self, number: u32) {
        let Link { before, after } = self.links[number as usize];
        if after == NONE {
            return;
        }
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
        self.links[number as usize] = Link {
            before: NONE,
            after: NONE,
        };
        self.len -= 1;
    }

    /// Takes out the least recently used.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let first = self.iter().next()?;
        self.remove(first);
        Some(first)
    }

    /// Least recently used first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let head = self.head();
        let mut at = head;
        std::iter::from_fn(move || {
            at = self.links[at as usize].after;
            (at != head).then_some(at)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue_whose_members_can_leave_from_the_middle(calls in prop::collection::vec((0..3u8, 0..8u32), 0..80)) {
            let mut lru = Lru::new(8);
            let mut model: Vec<u32> = Vec::new();
            for (call, number) in calls {
                match call {
                    0 if !model.contains(&number) => {
                        lru.push(number);
                        model.push(number);
                    }
                    1 => {
                        lru.remove(number);
                        model.retain(|&other| other != number);
                    }
                    _ => {
                        let expected = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(lru.pop(), expected);
                    }
                }
                prop_assert_eq!(lru.iter().collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(lru.len(), model.len());
                prop_assert_eq!(lru.contains(number), model.contains(&number));
            }
        }
    }
}
