//! What the KV manager should do, said the slow way: names are the tokens themselves, pages are never reused,
//! and everything is found by looking at everything.

use std::collections::BTreeMap;

use maitre_kv::{KvConfig, KvSpec};

/// The contents of a page: its namespace, its group, and all tokens up to its end.
pub(crate) type Name = (usize, usize, Vec<u32>);

#[derive(Debug, Clone)]
struct Page {
    holders: usize,
    /// Its name, and the how-many-th naming that was.
    name: Option<(Name, usize)>,
}

/// The blocks of a sequence in one group.
#[derive(Debug, Clone, Default)]
struct Table {
    /// By their index in the sequence.
    pages: BTreeMap<usize, usize>,
    /// Blocks from the start, those behind the window among them.
    end: usize,
    named: usize,
    /// It moved over to an equal page while a fork held the same.
    has_left_others: bool,
}

#[derive(Debug, Clone, Default)]
struct Sequence {
    tables: Vec<Table>,
    outdated: bool,
}

/// What a prompt finds: whole blocks, and tokens of one block more.
pub(crate) type Hit = (usize, usize);

/// Blocks of a prefix in one group: each with its name, and the page of the pool that has it.
type Found = Vec<(usize, Name, Option<usize>)>;

/// How far a new sequence may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) reserve: usize,
    pub(crate) ahead: usize,
    pub(crate) headroom: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    config: KvConfig,
    pub(crate) offload: bool,
    pages: BTreeMap<usize, Page>,
    /// Named pages that no sequence holds, least recently used first.
    idle: Vec<usize>,
    sequences: BTreeMap<u64, Sequence>,
    /// Names in the host tier, least recently used first.
    host: Vec<Name>,
    /// Places of the host tier that a step still reads.
    places_in_use: usize,
    pins: Vec<usize>,
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

    fn block_size(&self) -> usize {
        self.config.block_size as usize
    }

    fn groups(&self) -> impl Iterator<Item = (usize, KvSpec)> + use<> {
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

    fn find(&self, name: &Name) -> Option<usize> {
        let named = |page: &Page| page.name.as_ref().is_some_and(|(it, _)| it == name);
        let mut pages = self.pages.iter();
        pages.find(|(_, page)| named(page)).map(|(&id, _)| id)
    }

    fn name_of(&self, namespace: usize, group: usize, tokens: &[u32], index: usize) -> Name {
        let end = (index + 1) * self.block_size();
        (namespace, group, tokens[..end].to_vec())
    }

    /// Of a prefix of `blocks` blocks and so many tokens more, the first block that the next token reads; the last one
    /// at least.
    fn first_read(&self, spec: KvSpec, (blocks, more): Hit, tokens: &[u32]) -> usize {
        let next = (blocks * self.block_size() + more).min(tokens.len() - 1);
        match spec {
            KvSpec::Full => 0,
            KvSpec::Window(window) => {
                let reads = (0..=next).filter(|position| next - position < window as usize);
                let first = reads.min().unwrap() / self.block_size();
                let begun = blocks + usize::from(more > 0);
                first.min(begun.saturating_sub(1))
            }
        }
    }

    /// The longest prefix that is kept, and the pages whose beginning comes next, one in each group.
    fn look(&self, namespace: usize, tokens: &[u32], host: bool) -> (Hit, Vec<usize>) {
        let full = tokens.len() / self.block_size();
        let is_kept = |group, index| {
            let name = self.name_of(namespace, group, tokens, index);
            self.find(&name).is_some() || host && self.host.contains(&name)
        };
        let is_enough = |&blocks: &usize| {
            self.groups().all(|(group, spec)| {
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
        match children.into_iter().max().filter(|child| child.0 > 0) {
            Some((agree, _, pages)) => ((blocks, agree), pages),
            None => ((blocks, 0), Vec::new()),
        }
    }

    pub(crate) fn hit(&self, namespace: usize, tokens: &[u32], host: bool) -> Hit {
        self.look(namespace, tokens, host).0
    }

    fn hold(&mut self, id: usize) {
        self.idle.retain(|&idle| idle != id);
        self.pages.get_mut(&id).unwrap().holders += 1;
    }

    fn let_go(&mut self, id: usize) {
        let page = self.pages.get_mut(&id).unwrap();
        page.holders -= 1;
        if page.holders == 0 {
            match page.name {
                Some(_) => self.idle.push(id),
                None => drop(self.pages.remove(&id)),
            }
        }
    }

    fn allocate(&mut self) -> usize {
        if self.pages.len() == self.num_pages() {
            let oldest = self.idle.remove(0);
            let (name, _) = self.pages.remove(&oldest).unwrap().name.unwrap();
            self.offload(name);
        }
        self.next += 1;
        let page = Page {
            holders: 1,
            name: None,
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

    fn name(&mut self, id: usize, name: Name) {
        self.namings += 1;
        self.pages.get_mut(&id).unwrap().name = Some((name, self.namings));
    }

    /// Where a table ends that begins at block `first` and has `held` blocks.
    fn end(&self, spec: KvSpec, first: usize, held: usize, reach: Reach) -> usize {
        let all = reach.reserve.div_ceil(self.block_size());
        let end = match spec {
            KvSpec::Full => all,
            KvSpec::Window(window) => {
                let positions = window as usize + reach.ahead;
                all.min(first + positions.div_ceil(self.block_size()) + 1)
            }
        };
        end.max(held)
    }

    /// Per group, the blocks of the prefix that a new sequence holds, each with its name and page, if it is in the pool;
    /// and the first block and the end of its table. Last, whether there are pages for all.
    fn found(
        &self,
        namespace: usize,
        tokens: &[u32],
        hit: Hit,
        partial: &[usize],
        reach: Reach,
    ) -> (Vec<Found>, Vec<(usize, usize)>, bool) {
        let (mut shared, mut ends, mut needed) = (Vec::new(), Vec::new(), reach.headroom);
        for (group, spec) in self.groups() {
            let first = self.first_read(spec, hit, tokens);
            let found = (first..hit.0).map(|index| {
                let name = self.name_of(namespace, group, tokens, index);
                let page = self.find(&name);
                (index, name, page)
            });
            let found: Found = found.collect();
            let end = self.end(spec, first, hit.0, reach);
            needed += end - first - found.iter().filter(|it| it.2.is_some()).count();
            ends.push((first, end));
            shared.push(found);
        }
        let held = shared.iter().flatten().filter_map(|it| it.2);
        let held = held.chain(partial.iter().copied());
        let idle = held.filter(|id| self.idle.contains(id)).count();
        (shared, ends, needed + idle <= self.free())
    }

    /// Returns the tokens it starts with, or nothing if there are too few pages.
    pub(crate) fn admit(
        &mut self,
        sequence: u64,
        namespace: usize,
        tokens: &[u32],
        host: bool,
        reach: Reach,
    ) -> Option<usize> {
        let (mut hit, mut partial) = self.look(namespace, tokens, host);
        let (mut found, mut ends, mut fits) = self.found(namespace, tokens, hit, &partial, reach);
        if !fits && hit.1 > 0 {
            (hit.1, partial) = (0, Vec::new());
            (found, ends, fits) = self.found(namespace, tokens, hit, &partial, reach);
        }
        if !fits {
            return None;
        }
        let (blocks, agree) = hit;
        let shared = found;
        let held: Vec<usize> = shared.iter().flatten().filter_map(|it| it.2).collect();
        held.iter().for_each(|&id| self.hold(id));
        for id in partial {
            self.hold(id);
            self.pins.push(id);
        }
        let back = shared.iter().flatten().filter(|it| it.2.is_none());
        let back: Vec<Name> = back.map(|it| it.1.clone()).collect();
        self.host.retain(|name| !back.contains(name));
        self.places_in_use += back.len();
        let mut tables = Vec::new();
        for ((first, end), found) in ends.into_iter().zip(shared) {
            let mut table = Table {
                end,
                named: blocks,
                ..Table::default()
            };
            for index in first..end {
                let known = found.get(index - first).and_then(|it| it.2);
                let page = known.unwrap_or_else(|| self.allocate());
                table.pages.insert(index, page);
            }
            for (index, name, page) in found {
                if page.is_none() {
                    self.name(table.pages[&index], name);
                }
            }
            tables.push(table);
        }
        let outdated = false;
        self.sequences
            .insert(sequence, Sequence { tables, outdated });
        Some(blocks * self.block_size() + agree)
    }

    pub(crate) fn fork(&mut self, parent: u64, child: u64, tokens: usize, reach: Reach) -> bool {
        let whole = tokens / self.block_size();
        let parent = self.sequences[&parent].clone();
        let mut ranges = Vec::new();
        for (_, spec) in self.groups() {
            let first = match spec {
                KvSpec::Full => 0,
                KvSpec::Window(window) => tokens.saturating_sub(window as usize),
            };
            let first = (first / self.block_size()).min(whole);
            let held = tokens.div_ceil(self.block_size());
            ranges.push((first, self.end(spec, first, held, reach)));
        }
        let needed: usize = ranges.iter().map(|&(_, end)| end - whole).sum();
        if needed > self.free() {
            return false;
        }
        let mut tables = Vec::new();
        for (&(first, end), from) in ranges.iter().zip(&parent.tables) {
            let shared = (first..whole).map(|index| (index, from.pages[&index]));
            tables.push(Table {
                pages: shared.collect(),
                end,
                named: from.named.min(whole),
                has_left_others: from.has_left_others,
            });
        }
        let shared: Vec<usize> = tables
            .iter()
            .flat_map(|it| it.pages.values().copied())
            .collect();
        shared.into_iter().for_each(|id| self.hold(id));
        for ((table, from), (_, end)) in tables.iter_mut().zip(&parent.tables).zip(ranges) {
            if !tokens.is_multiple_of(self.block_size()) {
                self.hold(from.pages[&whole]);
                self.pins.push(from.pages[&whole]);
            }
            table
                .pages
                .extend((whole..end).map(|index| (index, self.allocate())));
        }
        let outdated = parent.outdated;
        self.sequences.insert(child, Sequence { tables, outdated });
        true
    }

    pub(crate) fn grow(&mut self, sequence: u64, tokens: usize) -> bool {
        let target = tokens.div_ceil(self.block_size());
        let mut sequence_of = self.sequences.remove(&sequence).unwrap();
        let ends = sequence_of.tables.iter().map(|it| it.end);
        let needed: usize = ends.map(|end| target.saturating_sub(end)).sum();
        let fits = needed <= self.free();
        for table in sequence_of.tables.iter_mut().filter(|_| fits) {
            let new = table.end..target.max(table.end);
            table
                .pages
                .extend(new.map(|index| (index, self.allocate())));
            table.end = target.max(table.end);
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
            for index in table.named.max(first)..full {
                let name = self.name_of(namespace, group, tokens, index);
                let own = table.pages[&index];
                let is_shared = self.pages[&own].holders > 1;
                match self.find(&name) {
                    None if table.has_left_others && is_shared => break,
                    None => self.name(own, name),
                    Some(known) if known == own => {}
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
        left.into_iter().for_each(|id| self.let_go(id));
        self.sequences.insert(sequence, it);
    }

    /// Gives back what the token at `position` and later ones do not read.
    pub(crate) fn release_behind(&mut self, sequence: u64, position: usize) {
        let mut it = self.sequences.remove(&sequence).unwrap();
        let mut gone = Vec::new();
        for ((_, spec), table) in self.groups().zip(&mut it.tables) {
            if let KvSpec::Window(window) = spec {
                let first = (position + 1).saturating_sub(window as usize) / self.block_size();
                let kept = table.pages.split_off(&first);
                gone.extend(std::mem::replace(&mut table.pages, kept).into_values());
            }
        }
        gone.into_iter().rev().for_each(|id| self.let_go(id));
        self.sequences.insert(sequence, it);
    }

    pub(crate) fn release(&mut self, sequence: u64) {
        let Some(Sequence { tables, .. }) = self.sequences.remove(&sequence) else {
            return;
        };
        let end = tables.iter().map(|table| table.end).max().unwrap_or(0);
        for index in (0..end).rev() {
            let of_block = tables.iter().filter_map(|table| table.pages.get(&index));
            of_block.for_each(|&id| self.let_go(id));
        }
    }

    pub(crate) fn settle(&mut self) {
        self.places_in_use = 0;
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
