//! The host tier: blocks that had to leave the pool and wait in ordinary memory.
//!
//! The tier holds a block under its name or not at all. A block that moves back leaves it; its place can be
//! taken again only when the step that reads it is done.

use crate::index::Contents;
use crate::lru::Lru;
use crate::name::Name;
use crate::numbers::NumberMap;

/// What became of a block that was offered to the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It has to be copied to this place, and the name that was there is forgotten.
    Copy {
        place: u32,
        forgotten: Option<Contents>,
    },
    /// It is there already.
    Present,
    /// Every place is being read by a step in flight.
    NoPlace,
}

/// The places of the tier.
#[derive(Debug, Clone)]
pub(crate) struct HostTier {
    by_name: NumberMap<Name, u32>,
    /// Per place, what it holds.
    contents: Vec<Option<Contents>>,
    empty: Vec<u32>,
    used: Lru,
}

impl HostTier {
    pub(crate) fn new(num_places: u32) -> Self {
        Self {
            by_name: NumberMap::with_capacity_and_hasher(num_places as usize, Default::default()),
            contents: vec![None; num_places as usize],
            empty: (0..num_places).rev().collect(),
            used: Lru::new(num_places),
        }
    }

    /// Blocks it holds.
    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }

    pub(crate) fn contains(&self, name: Name) -> bool {
        self.by_name.contains_key(&name)
    }

    /// Finds a place for a block that leaves the pool.
    pub(crate) fn store(&mut self, contents: Contents) -> Stored {
        if let Some(&place) = self.by_name.get(&contents.name()) {
            self.used.remove(place);
            self.used.push(place);
            return Stored::Present;
        }
        let (place, forgotten) = match self.empty.pop() {
            Some(place) => (place, None),
            None => match self.used.pop() {
                Some(place) => (place, self.contents[place as usize].take()),
                None => return Stored::NoPlace,
            },
        };
        if let Some(forgotten) = forgotten {
            self.by_name.remove(&forgotten.name());
        }
        self.contents[place as usize] = Some(contents);
        self.by_name.insert(contents.name(), place);
        self.used.push(place);
        Stored::Copy { place, forgotten }
    }

    /// Finds a block that is about to be taken out. Until it is, its place is not given to another.
    pub(crate) fn keep(&mut self, name: Name) -> Option<u32> {
        let place = *self.by_name.get(&name)?;
        self.used.remove(place);
        Some(place)
    }

    /// Takes a block out. Its place stays as it is until [`HostTier::vacate`].
    pub(crate) fn take(&mut self, name: Name) -> Option<u32> {
        let place = self.by_name.remove(&name)?;
        self.contents[place as usize] = None;
        self.used.remove(place);
        Some(place)
    }

    /// A block that was taken out, and whose place still holds it, is back.
    pub(crate) fn put_back(&mut self, contents: Contents, place: u32) {
        self.contents[place as usize] = Some(contents);
        self.by_name.insert(contents.name(), place);
        self.used.push(place);
    }

    /// Nothing reads this place any more.
    pub(crate) fn vacate(&mut self, place: u32) {
        self.empty.push(place);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        while let Some(place) = self.used.pop() {
            self.contents[place as usize] = None;
            self.empty.push(place);
        }
        self.by_name.clear();
    }

    /// Whether names and places agree, and each place is counted once; `in_use` are being read.
    pub(crate) fn is_consistent(&self, in_use: usize) -> bool {
        let named = self.contents.iter().flatten().count();
        let found = self.by_name.iter().all(|(&name, &place)| {
            let contents = self.contents[place as usize];
            contents.is_some_and(|it| it.name() == name) && self.used.contains(place)
        });
        found
            && named == self.by_name.len()
            && named == self.used.len()
            && self.empty.len() + named + in_use == self.contents.len()
    }
}
