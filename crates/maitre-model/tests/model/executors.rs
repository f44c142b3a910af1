//! Executors: steps that are submitted, waited for and discarded, and tokens that go from one to the next.

use std::ops::Range;

use crate::support::{Host, Part, batch, bundled, fixture, greedy, in_dtype, whole_cache};
use maitre_model::{
    Batch, Draw, Drawn, Executor, LoadOptions, Logits, ModelError, ModelSource, Queued, RowSink,
    RowWant, SampledToken, StepInput, StepOrderError, StepTicket, Synchronous,
};
use maitre_tensor::WeightFormat;

/// Gathers tokens; logits become their largest.
#[derive(Default)]
struct Tokens {
    drawn: Vec<u32>,
    from_logits: Vec<u32>,
}

impl RowSink for Tokens {
    fn wants(&self, _rows: Range<usize>) -> bool {
        true
    }

    fn token(&mut self, _row: usize, drawn: Drawn) {
        self.drawn.push(drawn.token);
    }

    fn logits(&mut self, rows: Range<usize>, logits: Logits<'_>) {
        let width = logits.values.len() / rows.len();
        for row in logits.values.chunks(width) {
            let better = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
            self.from_logits.push((0..row.len()).fold(0, better) as u32);
        }
    }

    fn faulty(&mut self, row: usize) {
        panic!("row {row} is faulty");
    }
}

fn draw(position: u64) -> RowWant {
    RowWant::Token(Draw {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 1,
        position,
    })
}

/// Submits one span of `table`, whose last row is wanted.
fn submit(
    executor: &mut dyn Executor,
    batch: &Batch,
    sampled: &[SampledToken],
    wants: &[RowWant],
) -> Result<StepTicket, ModelError> {
    executor.submit(&StepInput {
        batch,
        sampled,
        wants,
        choosable: executor.vocab_size(),
    })
}

fn last_row(mut batch: Batch) -> Batch {
    batch.output_rows = vec![batch.tokens.len() as u32 - 1];
    batch
}

fn wait(executor: &mut dyn Executor, ticket: StepTicket) -> Tokens {
    let mut tokens = Tokens::default();
    executor.wait(ticket, &mut tokens).unwrap();
    tokens
}

/// Each step is submitted before the token is known that it begins with.
#[test]
fn a_token_goes_from_one_step_to_the_next_on_the_device() {
    let source = bundled(&maitre_bundled::TARGET);
    let Some(host) = Host::on_gpu(&source, &in_dtype(WeightFormat::F32)) else {
        return;
    };
    let (prompt, count) = ([5, 70, 9, 300, 41], 10);
    let expected = greedy(&mut host.runner(), &prompt, 100, count, &[]);
    let runner = host.runner();
    let table = whole_cache(&runner);
    let mut executor = Queued::new(runner).unwrap();
    let part = |tokens, start| {
        let table = &table;
        last_row(batch(
            &[Part {
                tokens,
                start,
                table,
            }],
            16,
        ))
    };
    let mut newest = submit(&mut executor, &part(&prompt, 0), &[], &[draw(0)]).unwrap();
    let mut found = Vec::new();
    for step in 1..count {
        // A token that no answer has: it must not be used.
        let next = part(&[7], prompt.len() + step - 1);
        let from = SampledToken {
            row: 0,
            step: newest,
            output: 0,
        };
        let ticket = submit(&mut executor, &next, &[from], &[draw(step as u64)]).unwrap();
        found.extend(wait(&mut executor, newest).drawn);
        newest = ticket;
    }
    found.extend(wait(&mut executor, newest).drawn);
    assert_eq!(found, expected);
}

#[test]
fn calls_out_of_order_are_refused_and_lose_nothing() {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    let cpu = Host::new(&source, &LoadOptions::default(), 1);
    let mut executors: Vec<Box<dyn Executor>> = vec![Box::new(Synchronous::new(cpu.runner()))];
    if let Some(gpu) = Host::on_gpu(&source, &LoadOptions::default()) {
        executors.push(Box::new(Queued::new(gpu.runner()).unwrap()));
    }
    let table = whole_cache(&cpu.runner());
    let part = Part {
        tokens: &[3, 1, 4],
        start: 0,
        table: &table,
    };
    let step = last_row(batch(&[part], 16));
    for executor in &mut executors {
        let executor = executor.as_mut();
        let depth = executor.depth();
        let wants = [draw(0)];
        let none_wanted = submit(executor, &step, &[], &[]);
        assert!(matches!(none_wanted, Err(ModelError::BatchLength { .. })));
        let tickets: Vec<StepTicket> = (0..depth)
            .map(|_| submit(executor, &step, &[], &wants).unwrap())
            .collect();
        let order = |result: Result<_, ModelError>| match result {
            Err(ModelError::StepOrder(error)) => error,
            other => panic!("{:?}", other.map(drop)),
        };
        let one_more = submit(executor, &step, &[], &wants).map(drop);
        assert_eq!(order(one_more), StepOrderError::TooMany { depth });
        let (oldest, newest) = (tickets[0], tickets[depth - 1]);
        if depth > 1 {
            let early = executor.wait(newest, &mut Tokens::default());
            let expected = StepOrderError::NotOldest {
                ticket: newest,
                oldest: Some(oldest),
            };
            assert_eq!(order(early), expected);
        }
        executor.discard(newest);
        // Only the newest can be discarded, once.
        executor.discard(StepTicket(u64::MAX));
        for &ticket in &tickets[..depth - 1] {
            wait(executor, ticket);
        }
        let gone = executor.wait(newest, &mut Tokens::default());
        let expected = StepOrderError::NotOldest {
            ticket: newest,
            oldest: None,
        };
        assert_eq!(order(gone), expected);
        let again = submit(executor, &step, &[], &wants).unwrap();
        let tokens = wait(executor, again);
        assert_eq!(tokens.drawn.len() + tokens.from_logits.len(), 1);
    }
}

/// What a step behind would overwrite is waited for first; a token that no step draws is not made up.
#[test]
fn a_step_whose_logits_are_wanted_is_not_followed() {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    let Some(host) = Host::on_gpu(&source, &LoadOptions::default()) else {
        return;
    };
    let runner = host.runner();
    let table = whole_cache(&runner);
    let mut executor = Queued::new(runner).unwrap();
    let part = Part {
        tokens: &[3, 1, 4],
        start: 0,
        table: &table,
    };
    let step = last_row(batch(&[part], 16));
    let ticket = submit(&mut executor, &step, &[], &[RowWant::Logits]).unwrap();
    let behind = submit(&mut executor, &step, &[], &[draw(0)]);
    let expected = StepOrderError::TooMany { depth: 1 };
    assert!(matches!(behind, Err(ModelError::StepOrder(error)) if error == expected));
    assert_eq!(wait(&mut executor, ticket).from_logits.len(), 1);
    let from = SampledToken {
        row: 0,
        step: ticket,
        output: 0,
    };
    let late = submit(&mut executor, &step, &[from], &[draw(0)]);
    let expected = StepOrderError::NotSampled {
        row: 0,
        step: ticket,
    };
    assert!(matches!(late, Err(ModelError::StepOrder(error)) if error == expected));
}
