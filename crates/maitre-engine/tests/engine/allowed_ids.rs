//! A constraint that allows some tokens and no others, and does what the test wants of it: waits at a door, comes late,
//! ends, panics.

use std::sync::{Arc, Condvar, Mutex};

use maitre_engine::{Constraint, ConstraintSource, TokenMask};

use crate::toy::Gate;

/// What constraints wait at until the test opens it.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// Whether it is shut, and how many constraints stand before it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Door {
    pub(crate) fn shut() -> Arc<Self> {
        let door = Self::default();
        door.state.lock().unwrap().0 = true;
        Arc::new(door)
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    pub(crate) fn is_waited_at(&self) -> bool {
        self.state.lock().unwrap().1 > 0
    }
}

/// What becomes of a constraint when so many tokens have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Never,
    Complete(usize),
    Impossible(usize),
    Panic(usize),
    /// It cannot even be made.
    PanicAtStart,
    /// It panics when it is dropped.
    PanicInDrop,
}

/// Only some tokens may come.
#[derive(Clone)]
pub(crate) struct Only {
    pub(crate) ids: Vec<u32>,
    pub(crate) end: End,
    /// Whether it says what has to come where there is one token only.
    pub(crate) forces: bool,
    pub(crate) door: Option<Arc<Door>>,
    /// Masks come only after a step has been computed.
    pub(crate) late: Option<Arc<Gate>>,
    pub(crate) came: usize,
}

impl std::fmt::Debug for Only {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.ids)
    }
}

pub(crate) fn only(ids: &[u32]) -> Only {
    Only {
        ids: ids.to_vec(),
        end: End::Never,
        forces: false,
        door: None,
        late: None,
        came: 0,
    }
}

impl ConstraintSource for Only {
    fn start(&self) -> Box<dyn Constraint> {
        assert_ne!(self.end, End::PanicAtStart, "injected panic");
        match self.end {
            End::PanicInDrop => Box::new(Bomb(self.clone())),
            _ => Box::new(self.clone()),
        }
    }
}

/// As the constraint in it, but it panics when it is dropped.
struct Bomb(Only);

impl Constraint for Bomb {
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
        self.0.masks(drafts, masks);
    }

    fn advance(&mut self, tokens: &[u32]) {
        self.0.advance(tokens);
    }

    fn forced(&self) -> Vec<u32> {
        self.0.forced()
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("injected panic");
    }
}

impl Only {
    /// A list of tokens that forces is a text to be said again and again.
    fn allowed(&self, came: usize) -> &[u32] {
        match self.end {
            End::Complete(at) | End::Impossible(at) if came >= at => &[],
            _ if self.forces => &self.ids[came % self.ids.len()..][..1],
            _ => &self.ids,
        }
    }
}

impl Constraint for Only {
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
        assert_eq!(masks.len(), drafts.len() + 1);
        assert!(masks.iter().all(TokenMask::is_empty), "masks come cleared");
        if let Some(door) = &self.door {
            door.pass();
        }
        if let Some(gate) = &self.late {
            let before = gate.computed();
            while gate.computed() == before {
                std::thread::yield_now();
            }
        }
        if let End::Panic(at) = self.end
            && self.came >= at
        {
            panic!("injected panic");
        }
        for (index, mask) in masks.iter_mut().enumerate() {
            let allowed = self.allowed(self.came + index);
            allowed.iter().for_each(|&token| mask.allow(token));
            if drafts.get(index).is_some_and(|it| !allowed.contains(it)) {
                return;
            }
        }
    }

    fn advance(&mut self, tokens: &[u32]) {
        assert!(!tokens.is_empty());
        for token in tokens {
            assert!(self.allowed(self.came).contains(token), "{token}");
            self.came += 1;
        }
    }

    fn forced(&self) -> Vec<u32> {
        let count = if self.forces { 8 } else { 0 };
        let places = self.came..self.came + count;
        places
            .flat_map(|came| self.allowed(came).to_vec())
            .collect()
    }

    fn is_complete(&self) -> bool {
        matches!(self.end, End::Complete(at) if self.came >= at)
    }
}
