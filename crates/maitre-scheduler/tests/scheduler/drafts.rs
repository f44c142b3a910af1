//! Drafts, case by case: what is granted, what a commit may bring, and what is left behind.

use maitre_kv::KvConfig;
use maitre_scheduler::{
    Call, NewRequest, Outcome, PlannedSpan, RequestId, SchedulerConfig, SchedulerError, StepPlan,
    Time,
};

use crate::drafting::Drafting;
use crate::life::{Case, Event};
use crate::world::{World, request};

/// A configuration of `max_seqs`, a token budget, and a pool of blocks of four tokens.
fn config(max_seqs: usize, budget: usize, num_blocks: u32) -> SchedulerConfig {
    SchedulerConfig::new(
        max_seqs,
        budget,
        4 * num_blocks as usize,
        KvConfig::new(num_blocks, 4),
    )
}

/// Commits the oldest step: each request that samples accepts up to `accepted` drafts, and wants `wish` next
/// time.
fn commit(world: &mut World, accepted: usize, wish: impl Fn(RequestId) -> usize) {
    let plan = world.in_flight.front().unwrap().plan.clone();
    let outcomes = plan.spans.iter().map(|span| Outcome {
        next_drafts: wish(span.request),
        ..outcome(world, span, accepted)
    });
    let call = Call::Commit {
        step: plan.step_id,
        outcomes: outcomes.collect(),
    };
    world.make(call);
}

/// What a span yields if up to `accepted` of its drafts are right.
fn outcome(world: &World, span: &PlannedSpan, accepted: usize) -> Outcome {
    let entry = &world.live[&span.request];
    let tokens = match span.samples {
        true => &entry.answer[entry.known..][..=accepted.min(span.drafts)],
        false => &[],
    };
    Outcome {
        request: span.request,
        tokens: tokens.to_vec(),
        next_drafts: 0,
        finished: false,
        failed: false,
        deferred: false,
    }
}

fn drafts(plan: &StepPlan) -> Vec<usize> {
    plan.spans.iter().map(|span| span.drafts).collect()
}

/// A world whose requests, of these prompt lengths, have all computed their prompts.
fn decoding(
    config: SchedulerConfig,
    prompts: &[usize],
    wish: impl Fn(RequestId) -> usize,
) -> World {
    let mut world = World::new(config);
    for (id, &len) in (1..).zip(prompts) {
        let prompt: Vec<u32> = (0..len as u32).map(|i| 100 * id as u32 + i).collect();
        world.add(request(id, &prompt, 12)).unwrap();
    }
    world.schedule();
    commit(&mut world, 0, wish);
    world
}

#[test]
fn what_the_budget_leaves_is_dealt_evenly() {
    let wishes = [1, usize::MAX, 8];
    let cases = [
        (3, [0, 0, 0]),
        (4, [1, 0, 0]),
        (5, [1, 1, 0]),
        (12, [1, 4, 4]),
        (13, [1, 5, 4]),
        (60, [1, 10, 8]),
    ];
    for (budget, expected) in cases {
        let mut world = decoding(config(3, budget, 20), &[1, 1, 1], |id| {
            wishes[id.0 as usize - 1]
        });
        assert_eq!(
            drafts(&world.schedule()),
            expected,
            "with a budget of {budget}"
        );
    }
}

#[test]
fn prompts_come_first() {
    let mut world = decoding(config(2, 8, 20), &[3], |_| 8);
    world.add(request(2, &[7; 20], 2)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let plan = world.schedule();
        seen.push((plan.num_tokens(), plan.num_drafts()));
        commit(&mut world, 0, |_| 8);
    }
    // Of the prompt 7, 7 and 6 tokens; then request 2 has one token left, which needs no draft.
    assert_eq!(seen, [(8, 0), (8, 0), (7, 1), (2, 6)]);
}

#[test]
fn nobody_drafts_more_than_it_may_still_generate() {
    let mut world = World::new(config(1, 40, 10));
    world.add(request(1, &[1, 2, 3], 4)).unwrap();
    world.schedule();
    commit(&mut world, 0, |_| usize::MAX);
    assert_eq!(drafts(&world.schedule()), [2]);
    commit(&mut world, 2, |_| usize::MAX);
    assert!(
        !world.scheduler.has_work(),
        "three tokens in one step were the last ones"
    );
    assert_eq!(world.completed[&RequestId(1)].len(), 7);
}

#[test]
fn a_wish_holds_for_one_step() {
    let mut world = decoding(config(1, 8, 10), &[3], |_| 2);
    assert_eq!(drafts(&world.schedule()), [2]);
    commit(&mut world, 1, |_| 0);
    assert_eq!(drafts(&world.schedule()), [0]);
}

/// Two requests fill a block each, and two of four are free: one for a draft, one for the other's next token.
#[test]
fn drafts_leave_a_block_for_everybody_else_and_give_theirs_back() {
    let mut world = decoding(config(2, 40, 4), &[3, 3], |_| 8);
    let plan = world.schedule();
    assert_eq!(drafts(&plan), [4, 0]);
    assert_eq!(world.scheduler.kv_usage().used, 3);
    assert_eq!(plan.spans[0].groups[0].slots.len(), 5);
    assert_eq!(
        plan.spans[0].groups[0].table.blocks.len(),
        1,
        "the delta covers the drafts"
    );
    commit(&mut world, 0, |_| 0);
    assert_eq!(
        world.scheduler.kv_usage().used,
        2,
        "nothing is left of rejected drafts"
    );
    world.run_to_quiescence();
    assert_eq!(
        world.scheduler.counts().preemptions,
        1,
        "as many as without drafts"
    );
}

#[test]
fn who_is_alone_may_use_the_last_block() {
    let mut world = decoding(config(1, 40, 4), &[3], |_| usize::MAX);
    assert_eq!(drafts(&world.schedule()), [10]);
    assert_eq!(world.scheduler.kv_usage().used, 4);
}

#[test]
fn drafts_keep_the_latency_target() {
    let target = Some(Time::from_millis(60));
    let mut world = decoding(
        SchedulerConfig {
            itl_target: target,
            ..config(2, 80, 40)
        },
        &[3, 4],
        |_| usize::MAX,
    );
    assert_eq!(
        world.schedule().num_drafts(),
        2 * 10,
        "nothing is known yet"
    );
    for tokens in 1..20 {
        let took = Time::from_millis(20 + 2 * tokens as u64);
        world.observe(tokens, took, 0, Time::ZERO);
    }
    commit(&mut world, 0, |_| usize::MAX);
    let plan = world.schedule();
    assert_eq!(plan.num_tokens() + plan.num_drafts(), 20);
    assert_eq!(drafts(&plan), [9, 9]);
}

/// Of a request that has computed eight positions, two blocks are found again; of one with seven, one.
#[test]
fn accepted_drafts_are_remembered_and_rejected_ones_are_not() {
    for (accepted, found) in [(0, 4), (3, 4), (4, 8), (7, 8)] {
        let mut world = decoding(config(1, 40, 10), &[3], |_| 7);
        let mut prompt = world.live[&RequestId(1)].answer[..9].to_vec();
        prompt.push(5);
        assert_eq!(drafts(&world.schedule()), [7]);
        commit(&mut world, accepted, |_| 0);
        world.cancel(RequestId(1));
        world.add(request(2, &prompt, 3)).unwrap();
        let plan = world.schedule();
        assert_eq!(plan.admitted[0].cached_tokens, found, "{accepted} accepted");
        world.run_to_quiescence();
    }
}

#[test]
fn a_request_whose_drafts_are_in_flight_is_not_in_the_next_step() {
    let mut world = decoding(config(2, 12, 20), &[3], |_| 4);
    world.add(request(2, &[9; 16], 4)).unwrap();
    let first = world.schedule();
    assert_eq!(first.spans.len(), 2);
    let second = world.schedule();
    assert_eq!(second.spans.len(), 1);
    assert_eq!(second.spans[0].request, RequestId(2));
    commit(&mut world, 4, |_| 4);
    commit(&mut world, 4, |_| 4);
    world.run_to_quiescence();
}

#[test]
fn an_outcome_brings_one_token_and_at_most_one_more_for_each_draft() {
    let too_many = |world: &World, plan: &StepPlan| {
        let entry = &world.live[&RequestId(1)];
        Outcome {
            tokens: entry.answer[entry.known..][..4].to_vec(),
            ..outcome(world, &plan.spans[0], 0)
        }
    };
    let cases: [fn(&mut Outcome); 4] = [
        |_| (),
        |it| it.failed = true,
        |it| it.finished = true,
        |it| it.tokens.clear(),
    ];
    for change in cases {
        let mut world = decoding(config(1, 40, 10), &[3], |_| 2);
        let plan = world.schedule();
        let mut bad = too_many(&world, &plan);
        change(&mut bad);
        let error = SchedulerError::WrongTokenCount {
            step: plan.step_id,
            request: RequestId(1),
            expected: 1..=3,
            got: bad.tokens.len(),
        };
        assert_eq!(world.scheduler.commit(plan.step_id, &[bad]), Err(error));
        world.check_books();
        commit(&mut world, 2, |_| 0);
        world.run_to_quiescence();
        assert!(world.completed.contains_key(&RequestId(1)));
    }
}

/// Without a prefix cache, because drafts may evict idle blocks from one. With one step in flight, because the
/// drafts of that step may hold blocks that a new request in the next step would take.
#[test]
fn drafts_that_are_all_rejected_change_nothing_else() {
    let mut drafted = 0;
    for seed in 0..200 {
        let mut case = Case::random(seed, 100);
        case.config.itl_target = None;
        case.config.steps_in_flight = 1;
        case.config.kv = KvConfig {
            prefix_cache: false,
            num_host_pages: 0,
            ..case.config.kv
        };
        for event in &mut case.events {
            if matches!(event, Event::Schedule | Event::Commit(_)) {
                *event = Event::Rounds(1);
            }
        }
        let plans = |drafting| {
            let case = Case {
                drafting,
                ..case.clone()
            };
            let world = case.run();
            (without_places(&world.log), world.tally.drafted)
        };
        let (plain, _) = plans(None);
        let (with_drafts, count) = plans(Some(Drafting { seed, lucky: false }));
        for (plain, with_drafts) in plain.iter().zip(&with_drafts) {
            assert_eq!(plain, with_drafts, "seed {seed}");
        }
        assert_eq!(plain.len(), with_drafts.len(), "seed {seed}");
        drafted += count;
    }
    assert!(drafted > 1000, "{drafted}");
}

/// The text of plans without what drafts are free to change: their own number, and which blocks are taken.
fn without_places(log: &str) -> Vec<String> {
    let lines = log.lines().map(|line| {
        let cut = match line.split_whitespace().next() {
            Some("run" | "transfer") => " blocks ",
            Some("copy") => " block ",
            _ => " drafts ",
        };
        let kept = line.split(cut).next().unwrap_or_default();
        kept.split(" state ").next().unwrap_or_default().to_owned()
    });
    lines.collect()
}

/// A fork shares the block that its parent drafts behind, and gets a copy of its own.
#[test]
fn a_fork_of_somebody_who_drafts_is_not_disturbed() {
    let mut world = decoding(config(3, 40, 20), &[6], |_| 8);
    let prompt = world.live[&RequestId(1)].request.prompt.clone();
    let fork = NewRequest {
        fork_of: Some(RequestId(1)),
        ..request(2, &prompt, 12)
    };
    world.add(fork).unwrap();
    let plan = world.schedule();
    assert_eq!(plan.moves.copies.len(), 1);
    assert_eq!(drafts(&plan), [8, 0]);
    commit(&mut world, 3, |_| 8);
    world.run_to_quiescence();
    assert_eq!(world.completed.len(), 2);
}
