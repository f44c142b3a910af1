//! What the KV manager should do, said the slow way: names are the tokens themselves, blocks are never reused,
//! and everything is found by looking at everything.

use std::collections::BTreeMap;

/// The contents of a block: its namespace, and all tokens up to its end.
pub(crate) type Name = (usize, Vec<u32>);

#[derive(Debug, Clone)]
struct Block {
    holders: usize,
    /// Its name, and the how-many-th naming that was.
    name: Option<(Name, usize)>,
}

#[derive(Debug, Clone, Default)]
struct Sequence {
    blocks: Vec<usize>,
    named: usize,
    outdated: bool,
    /// It moved over to an equal block while a fork held the same.
    has_left_others: bool,
}

/// What a prompt finds: blocks of the pool, blocks of the host tier, tokens of one block more.
pub(crate) type Hit = (usize, usize, usize);

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) num_blocks: usize,
    pub(crate) block_size: usize,
    pub(crate) num_host_blocks: usize,
    pub(crate) offload: bool,
    blocks: BTreeMap<usize, Block>,
    /// Named blocks that no sequence holds, least recently used first.
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
    pub(crate) fn new(num_blocks: usize, block_size: usize, num_host_blocks: usize) -> Self {
        Self {
            num_blocks,
            block_size,
            num_host_blocks,
            offload: true,
            blocks: BTreeMap::new(),
            idle: Vec::new(),
            sequences: BTreeMap::new(),
            host: Vec::new(),
            places_in_use: 0,
            pins: Vec::new(),
            next: 0,
            namings: 0,
        }
    }

    pub(crate) fn free(&self) -> usize {
        self.num_blocks - self.blocks.len() + self.idle.len()
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn blocks_of(&self, sequence: u64) -> usize {
        self.sequences
            .get(&sequence)
            .map_or(0, |it| it.blocks.len())
    }

    pub(crate) fn names_in_pool(&self) -> Vec<&Name> {
        let names = self.blocks.values().filter_map(|block| block.name.as_ref());
        names.map(|(name, _)| name).collect()
    }

    pub(crate) fn names_in_host(&self) -> &[Name] {
        &self.host
    }

    fn find(&self, name: &Name) -> Option<usize> {
        let named = |block: &Block| block.name.as_ref().is_some_and(|(it, _)| it == name);
        let mut blocks = self.blocks.iter();
        blocks.find(|(_, block)| named(block)).map(|(&id, _)| id)
    }

    fn name_of(&self, namespace: usize, tokens: &[u32], index: usize) -> Name {
        (namespace, tokens[..(index + 1) * self.block_size].to_vec())
    }

    /// The longest kept prefix, and the block whose beginning comes next.
    fn look(&self, namespace: usize, tokens: &[u32], host: bool) -> (Hit, Option<usize>) {
        let full = tokens.len() / self.block_size;
        let name = |index| self.name_of(namespace, tokens, index);
        let pool = (0..full).take_while(|&index| self.find(&name(index)).is_some());
        let pool = pool.count();
        let in_host = (pool..full).take_while(|&index| host && self.host.contains(&name(index)));
        let in_host = in_host.count();
        let found = (pool + in_host) * self.block_size;
        let next = tokens.get(found..tokens.len() - 1).unwrap_or(&[]);
        let mut children: Vec<(usize, usize, usize)> = Vec::new();
        for (&id, block) in &self.blocks {
            if let Some(((of, all), naming)) = &block.name
                && *of == namespace
                && all.len() == found + self.block_size
                && all[..found] == tokens[..found]
            {
                let agree = all[found..].iter().zip(next).take_while(|(a, b)| a == b);
                children.push((agree.count(), *naming, id));
            }
        }
        match children.into_iter().max().filter(|child| child.0 > 0) {
            Some((agree, _, id)) => ((pool, in_host, agree), Some(id)),
            None => ((pool, in_host, 0), None),
        }
    }

    pub(crate) fn hit(&self, namespace: usize, tokens: &[u32], host: bool) -> Hit {
        self.look(namespace, tokens, host).0
    }

    fn hold(&mut self, id: usize) {
        self.idle.retain(|&idle| idle != id);
        self.blocks.get_mut(&id).unwrap().holders += 1;
    }

    fn let_go(&mut self, id: usize) {
        let block = self.blocks.get_mut(&id).unwrap();
        block.holders -= 1;
        if block.holders == 0 {
            match block.name {
                Some(_) => self.idle.push(id),
                None => drop(self.blocks.remove(&id)),
            }
        }
    }

    fn allocate(&mut self) -> usize {
        if self.blocks.len() == self.num_blocks {
            let oldest = self.idle.remove(0);
            let (name, _) = self.blocks.remove(&oldest).unwrap().name.unwrap();
            self.offload(name);
        }
        self.next += 1;
        let block = Block {
            holders: 1,
            name: None,
        };
        self.blocks.insert(self.next, block);
        self.next
    }

    fn offload(&mut self, name: Name) {
        if let Some(known) = self.host.iter().position(|known| *known == name) {
            self.host.remove(known);
            self.host.push(name);
        } else if self.offload && self.places_in_use < self.num_host_blocks {
            if self.host.len() + self.places_in_use == self.num_host_blocks {
                self.host.remove(0);
            }
            self.host.push(name);
        }
    }

    fn name(&mut self, id: usize, name: Name) {
        self.namings += 1;
        self.blocks.get_mut(&id).unwrap().name = Some((name, self.namings));
    }

    /// Returns the tokens it starts with, or nothing if there are too few blocks.
    pub(crate) fn admit(
        &mut self,
        sequence: u64,
        namespace: usize,
        tokens: &[u32],
        host: bool,
        headroom: usize,
    ) -> Option<usize> {
        let ((pool, in_host, mut agree), mut partial) = self.look(namespace, tokens, host);
        let names: Vec<Name> = (0..pool + in_host)
            .map(|index| self.name_of(namespace, tokens, index))
            .collect();
        let shared: Vec<usize> = names[..pool]
            .iter()
            .filter_map(|it| self.find(it))
            .collect();
        let needed = (tokens.len() + 1).div_ceil(self.block_size) - pool;
        let idle = shared.iter().filter(|id| self.idle.contains(id)).count();
        let free = self.free() - idle;
        if needed + headroom > free {
            return None;
        }
        if partial.is_some_and(|id| needed + headroom == free && self.idle.contains(&id)) {
            (agree, partial) = (0, None);
        }
        shared.iter().for_each(|&id| self.hold(id));
        if let Some(id) = partial {
            self.hold(id);
            self.pins.push(id);
        }
        self.host.retain(|name| !names[pool..].contains(name));
        self.places_in_use += in_host;
        let mut blocks = shared;
        blocks.extend((0..needed).map(|_| self.allocate()));
        for (index, name) in names.into_iter().enumerate().skip(pool) {
            self.name(blocks[index], name);
        }
        let named = pool + in_host;
        let sequence_blocks = Sequence {
            blocks,
            named,
            ..Sequence::default()
        };
        self.sequences.insert(sequence, sequence_blocks);
        Some(named * self.block_size + agree)
    }

    pub(crate) fn fork(&mut self, parent: u64, child: u64, tokens: usize, reserve: usize) -> bool {
        let whole = tokens / self.block_size;
        let needed = reserve.div_ceil(self.block_size) - whole;
        if needed > self.free() {
            return false;
        }
        let parent = self.sequences[&parent].clone();
        let mut blocks = parent.blocks[..whole].to_vec();
        blocks.iter().for_each(|&id| self.hold(id));
        blocks.extend((0..needed).map(|_| self.allocate()));
        if !tokens.is_multiple_of(self.block_size) {
            self.hold(parent.blocks[whole]);
            self.pins.push(parent.blocks[whole]);
        }
        let sequence = Sequence {
            blocks,
            named: parent.named.min(whole),
            outdated: parent.outdated,
            has_left_others: parent.has_left_others,
        };
        self.sequences.insert(child, sequence);
        true
    }

    pub(crate) fn grow(&mut self, sequence: u64, tokens: usize) -> bool {
        let target = tokens.div_ceil(self.block_size);
        let needed = target.saturating_sub(self.blocks_of(sequence));
        if needed > self.free() {
            return false;
        }
        for _ in 0..needed {
            let block = self.allocate();
            self.sequences
                .get_mut(&sequence)
                .unwrap()
                .blocks
                .push(block);
        }
        true
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
            computed / self.block_size
        };
        for index in it.named..full {
            let name = self.name_of(namespace, tokens, index);
            let own = it.blocks[index];
            let is_shared = self.blocks[&own].holders > 1;
            match self.find(&name) {
                None if it.has_left_others && is_shared => break,
                None => self.name(own, name),
                Some(known) if known == own => {}
                Some(known) => {
                    it.has_left_others |= is_shared;
                    self.hold(known);
                    self.let_go(own);
                    it.blocks[index] = known;
                }
            }
            it.named = index + 1;
        }
        self.sequences.insert(sequence, it);
    }

    pub(crate) fn release(&mut self, sequence: u64) {
        let blocks = self.sequences.remove(&sequence).unwrap_or_default().blocks;
        blocks.into_iter().rev().for_each(|id| self.let_go(id));
    }

    pub(crate) fn settle(&mut self) {
        self.places_in_use = 0;
        for id in std::mem::take(&mut self.pins) {
            self.let_go(id);
        }
    }

    pub(crate) fn reset(&mut self) {
        for block in self.blocks.values_mut() {
            block.name = None;
        }
        for id in std::mem::take(&mut self.idle) {
            self.blocks.remove(&id);
        }
        for sequence in self.sequences.values_mut() {
            sequence.outdated = true;
        }
        self.host.clear();
    }
}
