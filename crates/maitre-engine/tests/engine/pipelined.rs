//! An executor with several steps in flight, over a model that computes one batch at a time.
//!
//! A step is computed when it is submitted, when it is waited for, or in between when another is submitted: chance
//! decides, from a fixed seed. Only then is it known whether it fails.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use maitre_engine::{Executor, Forward};
use maitre_model::{
    Batch, CacheMoves, Draw, Drawn, Logits, ModelError, RowSink, RowWant, SampledToken, StepInput,
    StepOrderError, StepTicket,
};
use maitre_sampling::{Sampler, SamplingParams, TokenCounts};
use maitre_tensor::Heartbeat;

/// What an output row came to.
enum Row {
    Drawn(Drawn),
    Faulty,
    Logits(Vec<f32>),
}

enum State {
    /// Not computed yet.
    Queued,
    Computed(Vec<Row>),
    Failed(ModelError),
    Panicked(Box<dyn Any + Send>),
}

struct Step {
    ticket: StepTicket,
    batch: Batch,
    sampled: Vec<SampledToken>,
    wants: Vec<RowWant>,
    choosable: usize,
    state: State,
}

pub(crate) struct Pipelined<F> {
    inner: F,
    depth: usize,
    steps: VecDeque<Step>,
    /// Tokens that the last steps drew, those that were waited for among them.
    drawn: HashMap<(StepTicket, u32), u32>,
    next_ticket: u64,
    state: u64,
    sampler: Sampler,
}

impl<F: Forward> Pipelined<F> {
    pub(crate) fn new(inner: F, depth: usize) -> Self {
        Self {
            inner,
            depth,
            steps: VecDeque::new(),
            drawn: HashMap::new(),
            next_ticket: 0,
            state: 0x9e37_79b9_7f4a_7c15,
            sampler: Sampler::new(),
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.is_multiple_of(one_in)
    }

    /// Computes the first `count` steps in flight, as far as they are not.
    fn compute(&mut self, count: usize) {
        for index in 0..count {
            if matches!(self.steps[index].state, State::Queued) {
                let state = match catch_unwind(AssertUnwindSafe(|| self.compute_one(index))) {
                    Ok(Ok(rows)) => State::Computed(rows),
                    Ok(Err(error)) => State::Failed(error),
                    Err(panic) => State::Panicked(panic),
                };
                self.steps[index].state = state;
            }
        }
    }

    fn compute_one(&mut self, index: usize) -> Result<Vec<Row>, ModelError> {
        let step = &mut self.steps[index];
        for &SampledToken {
            row,
            step: from,
            output,
        } in &step.sampled
        {
            let token = self.drawn.get(&(from, output));
            let token = token.ok_or(StepOrderError::NotSampled { row, step: from })?;
            step.batch.tokens[row as usize] = *token;
        }
        self.inner.forward(&step.batch)?;
        let width = self.inner.vocab_size();
        let mut rows = Vec::new();
        for (row, want) in step.wants.iter().enumerate() {
            let logits = self.inner.logits(row..row + 1)?.values.to_vec();
            rows.push(match want {
                RowWant::Logits => Row::Logits(logits),
                RowWant::Token(draw) => {
                    match token(
                        &mut self.sampler,
                        &logits[..step.choosable.min(width)],
                        draw,
                    ) {
                        Some(token) => {
                            self.drawn.insert((step.ticket, row as u32), token);
                            Row::Drawn(Drawn {
                                token,
                                logprob: 0.0,
                            })
                        }
                        None => Row::Faulty,
                    }
                }
            });
        }
        Ok(rows)
    }
}

fn token(sampler: &mut Sampler, logits: &[f32], draw: &Draw) -> Option<u32> {
    let params = SamplingParams {
        temperature: draw.temperature,
        top_k: draw.top_k,
        top_p: draw.top_p,
        min_p: draw.min_p,
        seed: draw.seed,
        ..SamplingParams::default()
    };
    let counts = TokenCounts::new(&[]);
    let sampled = sampler.sample(logits, &params, &counts, draw.position, &[]);
    sampled.ok().map(|sampled| sampled.token)
}

impl<F: Forward> Executor for Pipelined<F> {
    fn depth(&self) -> usize {
        self.depth
    }

    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn heartbeat(&self) -> Heartbeat {
        self.inner.heartbeat()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        self.compute(self.steps.len());
        self.inner.move_blocks(moves)
    }

    fn submit(&mut self, step: &StepInput<'_>) -> Result<StepTicket, ModelError> {
        step.check(self.steps.len(), self.depth)?;
        let ticket = StepTicket(self.next_ticket);
        self.next_ticket += 1;
        self.steps.push_back(Step {
            ticket,
            batch: step.batch.clone(),
            sampled: step.sampled.to_vec(),
            wants: step.wants.to_vec(),
            choosable: step.choosable,
            state: State::Queued,
        });
        if self.chance(2) {
            let count = self.steps.len() - usize::from(self.chance(2));
            self.compute(count);
        }
        Ok(ticket)
    }

    fn wait(&mut self, ticket: StepTicket, sink: &mut dyn RowSink) -> Result<(), ModelError> {
        let oldest = self.steps.front().map(|step| step.ticket);
        if oldest != Some(ticket) {
            return Err(StepOrderError::NotOldest { ticket, oldest }.into());
        }
        let count = if self.chance(2) { 1 } else { self.steps.len() };
        self.compute(count);
        let step = self.steps.pop_front().unwrap();
        self.drawn.retain(|(of, _), _| of.0 + 8 > ticket.0);
        let rows = match step.state {
            State::Computed(rows) => rows,
            State::Failed(error) => return Err(error),
            State::Panicked(panic) => resume_unwind(panic),
            State::Queued => unreachable!(),
        };
        for (index, row) in rows.iter().enumerate() {
            let range: Range<usize> = index..index + 1;
            if !sink.wants(range.clone()) {
                continue;
            }
            match row {
                Row::Drawn(drawn) => sink.token(index, *drawn),
                Row::Faulty => sink.faulty(index),
                Row::Logits(values) => sink.logits(range, Logits { values, peaks: &[] }),
            }
        }
        Ok(())
    }

    fn discard(&mut self, ticket: StepTicket) {
        if self.steps.back().is_some_and(|step| step.ticket == ticket) {
            self.steps.pop_back();
        }
    }
}
