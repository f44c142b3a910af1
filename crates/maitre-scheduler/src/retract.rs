//! Taking a step back: what was planned to be computed is not, what was decided on the way stands.

use crate::in_flight::{SpanInFlight, StepInFlight};
use crate::{Scheduler, SchedulerError, StepId};

impl Scheduler {
    /// Takes the newest step in flight back, as if it had not been planned: what its spans were to compute is
    /// planned again by a later step. The requests that it admitted are running, those that it preempted or that
    /// expired stay so, and the changes of block tables that its spans told of have been told.
    ///
    /// Its [moves](crate::StepPlan::moves) come again with the next plan that has spans, before the newer ones, but
    /// for those that no request needs any more. If the caller has made some of them already, then those into
    /// the pool and within it are to be made again. Those out of the pool are not: they would read what was
    /// written over it since.
    ///
    /// Nothing that the step still does may come after what later steps or the transfers of later plans do: the caller has
    /// discarded it.
    ///
    /// # Errors
    ///
    /// [`SchedulerError::NotNewestStep`]. Nothing has changed then.
    pub fn retract(&mut self, step: StepId) -> Result<(), SchedulerError> {
        let newest = self.in_flight.newest().map(|newest| newest.step);
        if newest != Some(step) {
            return Err(SchedulerError::NotNewestStep { step, newest });
        }
        let Some(retracted) = self.in_flight.retract_newest() else {
            return Ok(());
        };
        for span in &retracted.spans {
            self.unschedule(span);
        }
        self.let_go_of(retracted);
        debug_assert_eq!(self.check_invariants(), Ok(()));
        Ok(())
    }

    fn unschedule(&mut self, span: &SpanInFlight) {
        let Some(request) = self.running.get_mut(&span.place) else {
            return;
        };
        request.scheduled -= span.num_tokens;
        if span.samples {
            request.sampled_in = span.sampled_before;
        }
        // Not even a request with nothing in flight has blocks for more than its next token.
        let kept = request.reserved(self.config.kv.block_size as usize);
        let kept = kept.max(request.scheduled + 1);
        self.kv.shrink(span.place.sequence(), kept);
        self.kv
            .rewind_states(span.place.sequence(), request.scheduled);
    }

    /// What waited for the step waits for those before it as far as they need it.
    fn let_go_of(&mut self, retracted: StepInFlight) {
        self.kv.give_back(retracted.moves);
        for (place, block) in retracted.replaced {
            let unread = self.in_flight.keep_for(place, vec![block]);
            self.kv.let_go_replaced(&unread);
        }
        for place in retracted.release_after {
            let in_use = self.in_flight.runs(place) || self.kv.awaits_moves(place.sequence());
            if !(in_use && self.in_flight.release_after_newest(place)) {
                self.kv.release(place.sequence());
            }
        }
    }
}
