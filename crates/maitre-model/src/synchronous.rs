//! An executor of depth 1 over anything that computes a batch while its caller waits.

use maitre_tensor::Heartbeat;

use crate::executor::{Executor, RowSink, RowWant, StepInput, StepOrderError, StepTicket};
use crate::{CacheMoves, Draw, Drawn, Forward, ModelError};

/// Computes each step within [`submit`](Executor::submit), and the logits of its rows within
/// [`wait`](Executor::wait): a processor's executor.
#[derive(Debug)]
pub struct Synchronous<F> {
    forward: F,
    next_ticket: u64,
    in_flight: Option<StepTicket>,
    /// How each output row of the step in flight is drawn from; reused.
    draws: Vec<Option<Draw>>,
    choosable: usize,
}

impl<F: Forward> Synchronous<F> {
    /// An executor of what `forward` computes.
    pub fn new(forward: F) -> Self {
        Self {
            forward,
            next_ticket: 0,
            in_flight: None,
            draws: Vec::new(),
            choosable: 0,
        }
    }
}

/// Hands out the output rows of the last `forward`: drawn from as `draws` says, or as logits where it says nothing or
/// the model does not draw.
pub(crate) fn hand_out(
    forward: &mut dyn Forward,
    draws: &[Option<Draw>],
    choosable: usize,
    sink: &mut dyn RowSink,
) -> Result<(), ModelError> {
    let tile = forward.logits_tile().max(1);
    for (index, draws) in draws.chunks(tile).enumerate() {
        let first = index * tile;
        if sink.wants(first..first + draws.len()) {
            match forward.draw(first, draws, choosable)? {
                Some(drawn) => hand_out_tile(forward, first, &drawn, sink)?,
                None => {
                    let rows = first..first + draws.len();
                    sink.logits(rows.clone(), forward.logits(rows)?);
                }
            }
        }
    }
    Ok(())
}

fn hand_out_tile(
    forward: &mut dyn Forward,
    first: usize,
    drawn: &[Option<Drawn>],
    sink: &mut dyn RowSink,
) -> Result<(), ModelError> {
    let mut at = first;
    for run in drawn.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let rows = at..at + run.len();
        at = rows.end;
        if run.iter().any(Option::is_none) {
            let logits = forward.logits(rows.clone())?;
            sink.logits(rows, logits);
            continue;
        }
        for (row, drawn) in rows.zip(run.iter().flatten()) {
            sink.token(row, *drawn);
        }
    }
    Ok(())
}

/// How each of these rows is drawn from, where that is wanted.
pub(crate) fn draws_of(wants: &[RowWant]) -> impl Iterator<Item = Option<Draw>> {
    wants.iter().map(|want| match want {
        RowWant::Token(draw) => Some(*draw),
        RowWant::Logits => None,
    })
}

impl<F: Forward> Executor for Synchronous<F> {
    fn depth(&self) -> usize {
        1
    }

    fn vocab_size(&self) -> usize {
        self.forward.vocab_size()
    }

    fn heartbeat(&self) -> Heartbeat {
        self.forward.heartbeat()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        self.forward.move_blocks(moves)
    }

    fn submit(&mut self, step: &StepInput<'_>) -> Result<StepTicket, ModelError> {
        step.check(usize::from(self.in_flight.is_some()), self.depth())?;
        self.forward.forward(step.batch)?;
        self.draws.clear();
        self.draws.extend(draws_of(step.wants));
        self.choosable = step.choosable;
        let ticket = StepTicket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight = Some(ticket);
        Ok(ticket)
    }

    fn wait(&mut self, ticket: StepTicket, sink: &mut dyn RowSink) -> Result<(), ModelError> {
        if self.in_flight != Some(ticket) {
            let oldest = self.in_flight;
            return Err(StepOrderError::NotOldest { ticket, oldest }.into());
        }
        self.in_flight = None;
        hand_out(&mut self.forward, &self.draws, self.choosable, sink)
    }

    fn discard(&mut self, ticket: StepTicket) {
        if self.in_flight == Some(ticket) {
            self.in_flight = None;
        }
    }
}
