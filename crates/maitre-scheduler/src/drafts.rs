//! Granting drafts: how many drafted tokens a decode may verify in the same step as its own token (speculative
//! decoding: Leviathan et al. 2023).
//!
//! The scheduler never sees a drafted token. Each outcome says how many tokens the request's next step may
//! draft. When decodes, prompts and admissions are planned, the decodes share what is left:
//!
//! - **Tokens** of the budget, also under the latency target, and no request more than it may still generate
//!   beside the token that it gets in any case.
//! - **Blocks** that are free. No request is preempted for a draft. A grant takes a block, a page in each KV group, only if one stays
//!   free for each *other* admitted request, for its next tokens. Should one need a second block while this step is in
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
        let others = self.num_admitted() - 1;
        // A block takes a page in each group.
        let spare = (self.kv.free_pages() / self.kv.num_groups()).saturating_sub(others);
        share(&mut wishes, sketch.budget, spare, block_size);
        for wish in wishes {
            sketch.add_drafts(&mut self.kv, &wish);
        }
    }
}

/// Deals `budget` places out, one to each in turn. A request whose blocks are full takes a new block of
/// `block_size` places, as long as there are `spare` ones.
fn share(wishes: &mut [Wish], mut budget: usize, mut spare: usize, block_size: usize) {
    let mut goes_on = true;
    while goes_on {
        goes_on = false;
        for wish in wishes.iter_mut().filter(|wish| wish.granted < wish.most) {
            if budget == 0 {
                return;
            }
            if wish.granted == wish.space {
                if spare == 0 {
                    continue;
                }
                spare -= 1;
                wish.space += block_size;
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
        let end = span.context_len + wish.granted;
        // There are enough blocks by the count of them. If there were not, the tables would reach less far, and
        // so would the drafts.
        let _ = kv.grow(sequence, end);
        let reach = end.min(kv.covered(sequence)).max(span.context_len);
        span.drafts = reach - span.context_len;
        let drafted = span.context_len..reach;
        for (group, (table, slots)) in span
            .groups
            .iter_mut()
            .zip(kv.take_deltas(sequence, reach, drafted))
        {
            group.slots.extend(slots);
            // It goes on where the delta of the span ended.
            group.table.blocks.extend(table.blocks);
        }
        self.spans[wish.span].drafts = span.drafts;
        self.budget -= span.drafts;
    }
}
