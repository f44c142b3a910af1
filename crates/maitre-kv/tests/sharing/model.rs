//! What the KV manager should do, said the slow way: names are the tokens themselves, pages are never reused,
//! and everything is found by looking at everything.

use std::collections::BTreeMap;

use maitre_kv::{Ahead, KvConfig, KvSpec};

use crate::states::States;

/// The contents of a page: its namespace, its group with its part of a state ([`part_of`]), and all tokens up to its end.
pub(crate) type Name = (usize, usize, Vec<u32>);

/// A number for a group and a part of its states.
pub(crate) fn part_of(group: usize, part: usize) -> usize {
    group + 1000 * part
}

#[derive(Debug, Clone)]
struct Page {
    holders: usize,
    /// Its name, and the how-many-th naming that was.
    name: Option<(Name, usize)>,
    /// A step that is not settled copies it from the host tier: no sequence moves over to it.
    arriving: bool,
}

/// The blocks of a sequence in one group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// By their index in the sequence.
    pub(crate) pages: BTreeMap<usize, usize>,
    /// Blocks from the start, those behind the window among them.
    pub(crate) end: usize,
    pub(crate) named: usize,
    /// It moved over to an equal page while a fork held the same.
    pub(crate) has_left_others: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Sequence {
    pub(crate) tables: Vec<Table>,
    /// Those of each group; nothing where a group keeps none.
    pub(crate) states: Vec<States>,
    pub(crate) outdated: bool,
}

/// What a prompt finds: whole blocks, and tokens of one block more.
pub(crate) type Hit = (usize, usize);

/// Blocks of a prefix in one group: each with its name, and the page of the pool that has it.
pub(crate) type Found = Vec<(usize, Name, Option<usize>)>;

/// How far a new sequence may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) reserve: usize,
    pub(crate) ahead: Ahead,
    pub(crate) headroom: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) config: KvConfig,
    pub(crate) offload: bool,
    pages: BTreeMap<usize, Page>,
    /// Named pages that no sequence holds, least recently used first.
    pub(crate) idle: Vec<usize>,
    pub(crate) sequences: BTreeMap<u64, Sequence>,
    /// Names in the host tier, least recently used first.
    pub(crate) host: Vec<Name>,
    /// Places of the host tier that a step still reads.
    pub(crate) places_in_use: usize,
    pub(crate) pins: Vec<usize>,
    next: usize,
    namings: usize,
}

impl Model {
    pub(crate) fn new(config: &KvConfig) -> Self {
        Self {
            config: config.clone(),
            offload: true,
            pages: BTreeMap::new(),
            idle: Vec::new(),
            sequences: BTreeMap::new(),
            host: Vec::new(),
            places_in_use: 0,
            pins: Vec::new(),
            next: 0,
            namings: 0,
        }
    }

    fn num_pages(&self) -> usize {
        self.config.num_pages as usize
    }

    pub(crate) fn block_size(&self) -> usize {
        self.config.block_size as usize
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, KvSpec)> + use<> {
        self.config.groups.clone().into_iter().enumerate()
    }

    pub(crate) fn free(&self) -> usize {
        self.num_pages() - self.pages.len() + self.idle.len()
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn held_by(&self, sequence: u64, group: usize) -> usize {
        let tables = self.sequences.get(&sequence).map(|it| &it.tables);
        tables.map_or(0, |tables| tables[group].pages.len())
    }

    pub(crate) fn names_in_pool(&self) -> Vec<&Name> {
        let names = self.pages.values().filter_map(|page| page.name.as_ref());
        names.map(|(name, _)| name).collect()
    }

    pub(crate) fn names_in_host(&self) -> &[Name] {
        &self.host
    }

    pub(crate) fn find(&self, name: &Name) -> Option<usize> {
        let named = |page: &Page| page.name.as_ref().is_some_and(|(it, _)| it == name);
        let mut pages = self.pages.iter();
        pages.find(|(_, page)| named(page)).map(|(&id, _)| id)
    }

    pub(crate) fn name_of(
        &self,
        namespace: usize,
        group: usize,
        tokens: &[u32],
        index: usize,
    ) -> Name {
        let end = (index + 1) * self.block_size();
        (namespace, group, tokens[..end].to_vec())
    }

    /// Of a prefix of `blocks` blocks and so many tokens more, the first block that the next token reads; the last one
    /// at least.
    pub(crate) fn first_read(&self, spec: KvSpec, (blocks, more): Hit, tokens: &[u32]) -> usize {
        let next = (blocks * self.block_size() + more).min(tokens.len() - 1);
        let reads = (0..=next).filter(|&position| is_read(spec, next, position));
        let first = reads.min().unwrap() / self.block_size();
        let begun = blocks + usize::from(more > 0);
        first.min(begun.saturating_sub(1))
    }

    /// The longest prefix that is kept, and the pages whose beginning comes next, one in each group.
    pub(crate) fn look(&self, namespace: usize, tokens: &[u32], host: bool) -> (Hit, Vec<usize>) {
        let full = tokens.len() / self.block_size();
        let is_kept = |group, index| {
            let name = self.name_of(namespace, group, tokens, index);
            self.find(&name).is_some() || host && self.host.contains(&name)
        };
        let is_enough = |&blocks: &usize| {
            self.groups().all(|(group, spec)| {
                if spec.is_state() {
                    let state = self.find_state(namespace, group, tokens, blocks, host);
                    return blocks == 0 || state.is_some();
                }
                let first = self.first_read(spec, (blocks, 0), tokens);
                (first..blocks).all(|index| is_kept(group, index))
            })
        };
        let blocks = (0..=full).rev().find(is_enough).unwrap();
        let found = blocks * self.block_size();
        let next = tokens.get(found..tokens.len() - 1).unwrap_or(&[]);
        let mut children: Vec<(usize, usize, Vec<usize>)> = Vec::new();
        for page in self.pages.values() {
            if let Some(((of, 0, all), naming)) = &page.name
                && *of == namespace
                && all.len() == found + self.block_size()
                && all[..found] == tokens[..found]
            {
                let agree = all[found..].iter().zip(next).take_while(|(a, b)| a == b);
                let in_group = |(group, _)| self.find(&(namespace, group, all.clone()));
                let of_all: Option<Vec<usize>> = self.groups().map(in_group).collect();
                children.extend(of_all.map(|pages| (agree.count(), *naming, pages)));
            }
        }
        children.retain(|child| child.0 > 0 && !self.config.has_state());
        match children.into_iter().max() {
            Some((agree, _, pages)) => ((blocks, agree), pages),
            None => ((blocks, 0), Vec::new()),
        }
    }

    pub(crate) fn is_named(&self, id: usize) -> bool {
        self.pages[&id].name.is_some()
    }

    /// Whether one sequence holds a page alone, and no other can find it.
    pub(crate) fn is_own(&self, id: usize) -> bool {
        self.pages[&id].holders == 1 && !self.is_named(id)
    }

    pub(crate) fn hit(&self, namespace: usize, tokens: &[u32], host: bool) -> Hit {
        self.look(namespace, tokens, host).0
    }

    pub(crate) fn hold(&mut self, id: usize) {
        self.idle.retain(|&idle| idle != id);
        self.pages.get_mut(&id).unwrap().holders += 1;
    }

    pub(crate) fn let_go(&mut self, id: usize) {
        let page = self.pages.get_mut(&id).unwrap();
        page.holders -= 1;
        if page.holders == 0 {
            match page.name {
                Some(_) => self.idle.push(id),
                None => drop(self.pages.remove(&id)),
            }
        }
    }

    pub(crate) fn allocate(&mut self) -> usize {
        if self.pages.len() == self.num_pages() {
            let oldest = self.idle.remove(0);
            let (name, _) = self.pages.remove(&oldest).unwrap().name.unwrap();
            self.offload(name);
        }
        self.next += 1;
        let page = Page {
            holders: 1,
            name: None,
            arriving: false,
        };
        self.pages.insert(self.next, page);
        self.next
    }

    fn offload(&mut self, name: Name) {
        let places = self.config.num_host_pages as usize;
        if let Some(known) = self.host.iter().position(|known| *known == name) {
            self.host.remove(known);
            self.host.push(name);
        } else if self.offload && self.places_in_use < places {
            if self.host.len() + self.places_in_use == places {
                self.host.remove(0);
            }
            self.host.push(name);
        }
    }

    pub(crate) fn arrive(&mut self, id: usize) {
        self.pages.get_mut(&id).unwrap().arriving = true;
    }

    pub(crate) fn name(&mut self, id: usize, name: Name) {
        self.namings += 1;
        self.pages.get_mut(&id).unwrap().name = Some((name, self.namings));
    }

    pub(crate) fn grow(&mut self, sequence: u64, tokens: usize) -> bool {
        let target = tokens.div_ceil(self.block_size());
        let mut sequence_of = self.sequences.remove(&sequence).unwrap();
        let groups = self.groups().zip(&sequence_of.tables);
        let ends = groups.filter(|((_, spec), _)| !spec.is_state());
        let needed: usize = ends.map(|(_, it)| target.saturating_sub(it.end)).sum();
        let fits = needed + self.missing_states(&sequence_of, 1) <= self.free();
        let groups = self.groups().zip(&mut sequence_of.tables);
        for (_, table) in groups.filter(|((_, spec), _)| fits && !spec.is_state()) {
            let new = table.end..target.max(table.end);
            table
                .pages
                .extend(new.map(|index| (index, self.allocate())));
            table.end = target.max(table.end);
        }
        if fits {
            self.add_states(&mut sequence_of, 1);
        }
        self.sequences.insert(sequence, sequence_of);
        fits
    }

    pub(crate) fn commit(
        &mut self,
        sequence: u64,
        namespace: usize,
        tokens: &[u32],
        computed: usize,
    ) {
        let mut it = self.sequences.remove(&sequence).unwrap();
        let full = if it.outdated {
            0
        } else {
            computed / self.block_size()
        };
        let mut left = Vec::new();
        for (group, table) in it.tables.iter_mut().enumerate() {
            let first = table.pages.keys().next().copied().unwrap_or(table.end);
            for index in table.named.max(first)..full.min(table.end) {
                let name = self.name_of(namespace, group, tokens, index);
                let own = table.pages[&index];
                let is_shared = self.pages[&own].holders > 1;
                match self.find(&name) {
                    None if table.has_left_others && is_shared => break,
                    None => self.name(own, name),
                    Some(known) if known == own => {}
                    Some(known) if self.pages[&known].arriving => break,
                    Some(known) => {
                        table.has_left_others |= is_shared;
                        self.hold(known);
                        left.push(own);
                        table.pages.insert(index, known);
                    }
                }
                table.named = index + 1;
            }
        }
        self.name_states(&it, namespace, tokens, full);
        left.into_iter().for_each(|id| self.let_go(id));
        self.sequences.insert(sequence, it);
    }

    /// Gives back what the token at `position` and later ones do not read.
    pub(crate) fn release_behind(&mut self, sequence: u64, position: usize) {
        let mut it = self.sequences.remove(&sequence).unwrap();
        self.drop_states_before(&mut it, position);
        let mut gone = Vec::new();
        for ((_, spec), table) in self.groups().zip(&mut it.tables) {
            if !spec.is_state() {
                let first = (0..=position).find(|&it| is_read(spec, position, it));
                let first = first.unwrap() / self.block_size();
                let kept = table.pages.split_off(&first);
                gone.extend(std::mem::replace(&mut table.pages, kept).into_values());
            }
        }
        gone.into_iter().rev().for_each(|id| self.let_go(id));
        self.sequences.insert(sequence, it);
    }

    pub(crate) fn release(&mut self, sequence: u64) {
        let Some(Sequence { tables, states, .. }) = self.sequences.remove(&sequence) else {
            return;
        };
        for id in states.iter().flat_map(States::held) {
            self.let_go(id);
        }
        let end = tables.iter().map(|table| table.end).max().unwrap_or(0);
        for index in (0..end).rev() {
            let of_block = tables.iter().filter_map(|table| table.pages.get(&index));
            of_block.for_each(|&id| self.let_go(id));
        }
    }

    pub(crate) fn settle(&mut self) {
        self.places_in_use = 0;
        self.pages
            .values_mut()
            .for_each(|page| page.arriving = false);
        for id in std::mem::take(&mut self.pins) {
            self.let_go(id);
        }
    }

    pub(crate) fn reset(&mut self) {
        for page in self.pages.values_mut() {
            page.name = None;
        }
        for id in std::mem::take(&mut self.idle) {
            self.pages.remove(&id);
        }
        for sequence in self.sequences.values_mut() {
            sequence.outdated = true;
        }
        self.host.clear();
    }
}

/// Whether a token at `from` reads the one at `position`, which is not behind it.
pub(crate) fn is_read(spec: KvSpec, from: usize, position: usize) -> bool {
    match spec {
        KvSpec::Window(window) => from - position < window as usize,
        KvSpec::Chunked(chunk) => from / chunk as usize == position / chunk as usize,
        _ => true,
    }
}

/// Pages of a block, or of a state.
pub(crate) fn parts(spec: KvSpec) -> usize {
    match spec {
        KvSpec::State { pages, .. } => pages as usize,
        _ => 1,
    }
}
