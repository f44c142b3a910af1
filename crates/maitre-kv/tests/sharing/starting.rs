//! What a new sequence gets of the [`Model`]: what is found of its prompt, or what its parent has, and pages for the rest.

use std::collections::BTreeMap;

use maitre_kv::KvSpec;

use crate::model::{Found, Hit, Model, Name, Reach, Sequence, Table, is_read, parts};
use crate::states::States;

impl Model {
    /// Where a table ends that begins at block `first` and has `held` blocks.
    fn end(&self, spec: KvSpec, first: usize, held: usize, reach: Reach) -> usize {
        let all = reach.reserve.div_ceil(self.block_size());
        let end = match spec.most_read() {
            None => all,
            Some(read) => {
                let positions = read as usize + reach.ahead.positions;
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
            if spec.is_state() {
                let state = self.find_state(namespace, group, tokens, hit.0, true);
                let found = state.unwrap_or_default();
                let end = (reach.ahead.steps + 1) * parts(spec);
                needed += end - found.iter().filter(|it| it.2.is_some()).count();
                ends.push((0, end));
                shared.push(found);
                continue;
            }
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
        let (mut tables, mut states) = (Vec::new(), Vec::new());
        for ((_, spec), ((first, end), found)) in self.groups().zip(ends.into_iter().zip(shared)) {
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
                    self.arrive(table.pages[&index]);
                    self.name(table.pages[&index], name);
                }
            }
            let at = blocks * self.block_size();
            states.push(States::of_pages(spec, reach.ahead, &mut table.pages, at));
            tables.push(if spec.is_state() {
                Table::default()
            } else {
                table
            });
        }
        let outdated = false;
        self.sequences.insert(
            sequence,
            Sequence {
                tables,
                states,
                outdated,
            },
        );
        Some(blocks * self.block_size() + agree)
    }

    pub(crate) fn fork(&mut self, parent: u64, child: u64, tokens: usize, reach: Reach) -> bool {
        let whole = tokens / self.block_size();
        let parent = self.sequences[&parent].clone();
        let mut ranges = Vec::new();
        for (_, spec) in self.groups() {
            let last = tokens.saturating_sub(1);
            let first = (0..=last).find(|&position| is_read(spec, last, position));
            let first = (first.unwrap() / self.block_size()).min(whole);
            let held = tokens.div_ceil(self.block_size());
            ranges.push((first, self.end(spec, first, held, reach)));
        }
        let shared: Vec<Vec<usize>> = parent.states.iter().map(|it| it.shared(tokens)).collect();
        let of_group = |((group, spec), &(_, end)): ((usize, KvSpec), &(usize, usize))| match spec
            .is_state()
        {
            true => (reach.ahead.steps + 1) * parts(spec) - shared[group].len(),
            false => end - whole,
        };
        let needed: usize = self.groups().zip(&ranges).map(of_group).sum();
        if needed > self.free() {
            return false;
        }
        let mut tables = Vec::new();
        for ((&(first, end), from), (_, spec)) in
            ranges.iter().zip(&parent.tables).zip(self.groups())
        {
            if spec.is_state() {
                tables.push(Table::default());
                continue;
            }
            let shared = (first..whole).map(|index| (index, from.pages[&index]));
            tables.push(Table {
                pages: shared.collect(),
                end,
                named: from.named.min(whole),
                has_left_others: from.has_left_others,
            });
        }
        let blocks = tables.iter().flat_map(|it| it.pages.values().copied());
        let held: Vec<usize> = blocks.chain(shared.iter().flatten().copied()).collect();
        held.into_iter().for_each(|id| self.hold(id));
        let mut states = Vec::new();
        let groups = self.groups().zip(ranges).zip(shared);
        let of_groups = groups.zip(tables.iter_mut().zip(&parent.tables));
        for ((((_, spec), (_, end)), shared), (table, from)) in of_groups {
            if spec.is_state() {
                let pages = (reach.ahead.steps + 1) * parts(spec);
                let mut all: BTreeMap<usize, usize> = shared.into_iter().enumerate().collect();
                all.extend((all.len()..pages).map(|index| (index, self.allocate())));
                states.push(States::of_pages(spec, reach.ahead, &mut all, tokens - 1));
                continue;
            }
            states.push(States::default());
            if !tokens.is_multiple_of(self.block_size()) {
                self.hold(from.pages[&whole]);
                self.pins.push(from.pages[&whole]);
            }
            table
                .pages
                .extend((whole..end).map(|index| (index, self.allocate())));
        }
        let outdated = parent.outdated;
        self.sequences.insert(
            child,
            Sequence {
                tables,
                states,
                outdated,
            },
        );
        true
    }
}
