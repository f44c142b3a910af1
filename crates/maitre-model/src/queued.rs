//! A GPU's executor: a step is queued while the GPU computes the one before it.
//!
//! ```text
//! host   plan, submit 1 | plan, submit 2 | wait 1, commit | plan, submit 3 | wait 2, commit ..
//! GPU                     [--- step 1 ---------------------][--- step 2 --------------------][--- step 3 ..
//! ```
//!
//! The tokens of step 1 go to step 2 on the device ([`Draws`]). A step with a row whose logits the host wants is
//! computed alone: the next step would overwrite them.

use std::collections::VecDeque;

use maitre_tensor::{DrawnTokens, Draws, GpuMemoryProbe, Heartbeat, MOST_CHOOSABLE, SampledRow};

use crate::executor::{
    Executor, RowSink, RowWant, SampledToken, StepInput, StepOrderError, StepTicket,
};
use crate::runner::sample_row;
use crate::synchronous::{draws_of, hand_out};
use crate::{CacheMoves, Draw, Drawn, ModelError, Runner};

/// Queues the steps of a [`Runner`] on a GPU, two at a time.
#[derive(Debug)]
pub struct Queued {
    runner: Runner,
    in_flight: VecDeque<InFlight>,
    /// Those that no step in flight uses.
    unused: Vec<Draws>,
    next_ticket: u64,
    /// What was received; reused.
    received: Vec<SampledRow>,
}

#[derive(Debug)]
struct InFlight {
    ticket: StepTicket,
    rows: Rows,
}

/// The output rows of a step in flight.
#[derive(Debug)]
enum Rows {
    /// All were drawn from on the device.
    Drawn(Draws),
    /// The host draws from some of them.
    Host {
        draws: Vec<Option<Draw>>,
        choosable: usize,
    },
}

impl Queued {
    /// Steps in flight at most.
    pub const DEPTH: usize = 2;

    /// An executor of `runner`, which runs on a GPU.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] for a runner on the processor, and if there is too little memory.
    pub fn new(runner: Runner) -> Result<Self, ModelError> {
        let most = runner.limits().max_output_rows;
        let unused = (0..Self::DEPTH).map(|_| runner.backend().draws(most));
        Ok(Self {
            unused: unused.collect::<Result<_, _>>()?,
            runner,
            in_flight: VecDeque::with_capacity(Self::DEPTH),
            next_ticket: 0,
            received: Vec::new(),
        })
    }

    /// Draws from the rows of the step that was just begun, on the device if it can draw from all of them.
    fn begin_drawing(&mut self, step: &StepInput<'_>) -> Result<Rows, ModelError> {
        let choosable = step.choosable.min(self.runner.limits().vocab_size);
        let is_token = |want: &RowWant| matches!(want, RowWant::Token(_));
        let can_draw = choosable <= MOST_CHOOSABLE && step.wants.iter().all(is_token);
        if !can_draw {
            return Ok(Rows::Host {
                draws: draws_of(step.wants).collect(),
                choosable,
            });
        }
        let mut draws = match self.unused.pop() {
            Some(draws) => draws,
            // A panic has cost one.
            None => {
                let most = self.runner.limits().max_output_rows;
                self.runner.backend().draws(most)?
            }
        };
        let wanted = draws_of(step.wants).flatten();
        let rows: Vec<_> = wanted.map(|draw| sample_row(&draw)).collect();
        match self.runner.draw_all(&rows, choosable, &mut draws) {
            Ok(()) => Ok(Rows::Drawn(draws)),
            Err(error) => {
                self.unused.push(draws);
                Err(error)
            }
        }
    }

    /// Takes the memory of a step that is no longer in flight back.
    fn recover(&mut self, rows: Rows) {
        if let Rows::Drawn(draws) = rows {
            self.unused.push(draws);
        }
    }
}

/// Who has drawn tokens of the step, which are noted in `pairs`: rows of this step and of that one. At this depth it is
/// one step.
fn drawn_by<'a>(
    in_flight: &'a VecDeque<InFlight>,
    sampled: &[SampledToken],
    pairs: &mut Vec<[u32; 2]>,
) -> Result<Option<&'a Draws>, ModelError> {
    let draws_in = |step: StepTicket| {
        let of_step = in_flight.iter().find(|flight| flight.ticket == step)?;
        match &of_step.rows {
            Rows::Drawn(draws) => Some(draws),
            Rows::Host { .. } => None,
        }
    };
    let Some(first) = sampled.first() else {
        return Ok(None);
    };
    let draws = draws_in(first.step);
    for &SampledToken { row, step, output } in sampled {
        if step != first.step || draws.is_none() {
            return Err(StepOrderError::NotSampled { row, step }.into());
        }
        pairs.push([row, output]);
    }
    Ok(draws)
}

impl Executor for Queued {
    fn depth(&self) -> usize {
        // Rows of more logits are drawn from by the host, as no vocabulary that is known asks for.
        match self.vocab_size() {
            ..=MOST_CHOOSABLE => Self::DEPTH,
            _ => 1,
        }
    }

    fn vocab_size(&self) -> usize {
        self.runner.limits().vocab_size
    }

    fn heartbeat(&self) -> Heartbeat {
        self.runner.heartbeat().clone()
    }

    fn memory_probe(&self) -> Option<GpuMemoryProbe> {
        self.runner.backend().gpu_memory_probe()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        self.runner.move_blocks(moves)
    }

    fn submit(&mut self, step: &StepInput<'_>) -> Result<StepTicket, ModelError> {
        step.check(self.in_flight.len(), self.depth())?;
        let newest = self.in_flight.back().map(|flight| &flight.rows);
        if let Some(Rows::Host { .. }) = newest {
            return Err(StepOrderError::TooMany { depth: 1 }.into());
        }
        let mut pairs = Vec::with_capacity(step.sampled.len());
        let drawn = drawn_by(&self.in_flight, step.sampled, &mut pairs)?.map(|draws| DrawnTokens {
            draws,
            pairs: &pairs,
        });
        self.runner.forward_drawn(step.batch, drawn)?;
        let rows = self.begin_drawing(step)?;
        let ticket = StepTicket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight.push_back(InFlight { ticket, rows });
        Ok(ticket)
    }

    fn wait(&mut self, ticket: StepTicket, sink: &mut dyn RowSink) -> Result<(), ModelError> {
        let oldest = self.in_flight.front().map(|flight| flight.ticket);
        let flight = self
            .in_flight
            .pop_front_if(|flight| flight.ticket == ticket);
        let Some(InFlight { rows, .. }) = flight else {
            return Err(StepOrderError::NotOldest { ticket, oldest }.into());
        };
        let draws = match rows {
            Rows::Drawn(draws) => draws,
            Rows::Host { draws, choosable } => {
                return hand_out(&mut self.runner, &draws, choosable, sink);
            }
        };
        let backend = self.runner.backend();
        let received = backend.receive_draws(&draws, &mut self.received);
        // Before the sink is called, which may panic.
        self.unused.push(draws);
        received?;
        for (row, drawn) in self.received.iter().enumerate() {
            match *drawn {
                SampledRow::Token { id, logprob } => sink.token(row, Drawn { token: id, logprob }),
                _ => sink.faulty(row),
            }
        }
        Ok(())
    }

    fn discard(&mut self, ticket: StepTicket) {
        let newest = self.in_flight.pop_back_if(|flight| flight.ticket == ticket);
        if let Some(flight) = newest {
            self.recover(flight.rows);
        }
    }
}
