//! Granting drafts: how many drafted tokens a decode may verify in the same step as its own token (speculative
//! decoding: Leviathan et al. 2023).
//!
//! The scheduler never sees a drafted token. Each outcome says how many tokens the request's next step may
//! draft. When decodes, prompts and admissions are planned, the decodes share what is left:
//!
//! - **Tokens** of the budget, also under the latency target, and no request more than it may still generate
//!   beside the token that it gets in any case.
//! - **Blocks** that are free, and in a recurrent model a state for each place. No request is preempted for a draft. A grant takes
//!   pages only if those of one block stay free for each *other* admitted request, for its next tokens. Should one need a second block while this step is in
//!   flight, it waits until the drafts are back.
//! - **Evenly**: one place to each, then a second one to each, by arrival, until nothing is left. A request that
//!   needs a block and gets none drops out; the others go on with what their blocks hold.
//!
//! The commit gives back the blocks that only rejected drafts needed. So between two steps each request holds
//! the blocks it would hold without drafts, and drafts change neither admission nor preemption.

use maitre_kv::KvManager;

use crate::Scheduler;
use crate::request::{Place, Request};
use crate::schedule::Sketch;

/// A decode of the plan that wants to draft.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Which of the plan's spans.
    span: usize,
    place: Place,
    /// Most places it can use, at least one.
    most: usize,
    /// Those that are granted.
    granted: usize,
    /// Those that its blocks hold, the ones it is about to get among them.
    space: usize,
}

impl Wish {
    /// What a request whose next token span `span` computes wants, if it wants anything.
    pub(crate) fn new(span: usize, place: Place, request: &Request) -> Option<Self> {
        let left = request.full_len.saturating_sub(request.tokens.len() + 1);
        let most = request.next_drafts.min(left);
        (most > 0).then_some(Self {
            span,
            place,
            most,
            granted: 0,
            space: 0,
        })
    }
}

impl Scheduler {
    /// Shares what the plan leaves among the decodes that want to draft.
    pub(crate) fn grant_drafts(&mut self, sketch: &mut Sketch) {
        let mut wishes = std::mem::take(&mut sketch.wishes);
        if wishes.is_empty() {
            return;
        }
        let block_size = self.config.kv.block_size as usize;
        for wish in &mut wishes {
            let covered = self.kv.covered(wish.place.sequence());
            wish.space = covered.saturating_sub(sketch.plan.spans[wish.span].context_len);
        }
        let (kv, others) = (&self.config.kv, self.num_admitted() - 1);
        let block = kv.num_block_groups();
        let spare = self.kv.free_pages().saturating_sub(others * block);
        let prices = Prices {
            block_size,
            block,
            place: kv.pages_per_state(),
        };
        share(&mut wishes, sketch.budget, spare, prices);
        for wish in wishes.into_iter().filter(|wish| wish.granted > 0) {
            sketch.add_drafts(&mut self.kv, &wish);
        }
    }
}

/// What drafts take, in pages.
#[derive(Debug, Clone, Copy)]
struct Prices {
    /// Places of a block.
    block_size: usize,
    /// A block, in all groups.
    block: usize,
    /// What each place takes beside its block: a state, in all groups that keep states.
    place: usize,
}

/// Deals `budget` places out, one to each in turn, as long as there are `spare` pages for them. A request whose blocks are
/// full takes a new one.
fn share(wishes: &mut [Wish], mut budget: usize, mut spare: usize, prices: Prices) {
    let mut goes_on = true;
    while goes_on {
        goes_on = false;
        for wish in wishes.iter_mut().filter(|wish| wish.granted < wish.most) {
            if budget == 0 {
                return;
            }
            let is_full = wish.granted == wish.space;
            let price = prices.place + if is_full { prices.block } else { 0 };
            if spare < price {
                continue;
            }
            spare -= price;
            if is_full {
                wish.space += prices.block_size;
            }
            wish.granted += 1;
            budget -= 1;
            goes_on = true;
        }
    }
}

impl Sketch {
    /// Extends a span's slots and block table by the places that were granted.
    fn add_drafts(&mut self, kv: &mut KvManager, wish: &Wish) {
        let (sequence, span) = (wish.place.sequence(), &mut self.plan.spans[wish.span]);
        let (start, end) = (span.first_position, span.context_len + wish.granted);
        // There are enough pages by the count of them. If there were not, the tables would reach less far, and
        // so would the drafts.
        let states = kv.reserve_states(sequence, wish.granted);
        let _ = kv.grow(sequence, end);
        let reach = end.min(kv.covered(sequence)).max(span.context_len);
        let reach = states.map_or(span.context_len, |()| reach);
        span.drafts = reach - span.context_len;
        let drafted = span.context_len..reach;
        for (group, (table, slots)) in
            span.groups
                .iter_mut()
                .zip(kv.take_deltas(sequence, reach, drafted.clone()))
        {
            group.slots.extend(slots);
            // It goes on where the delta of the span ended.
            group.table.blocks.extend(table.blocks);
        }
        for (group, span) in span.groups.iter_mut().enumerate() {
            if let Some(state) = &mut span.state {
                let drafted = kv.plan_draft_states(sequence, group, start, drafted.clone());
                state.writes.extend(drafted);
            }
        }
        self.spans[wish.span].drafts = span.drafts;
        self.budget -= span.drafts;
    }
}
