//! Lesson 6: whose turn it is.
//!
//! Lets a long prompt enter while others are in the middle of their answers, with larger and larger steps,
//! and with a target for the time between tokens; then serves one mixed load under each policy. Run it with
//! `cargo run --release --example lesson06_scheduling`; the page is `docs/src/lessons/lesson06_scheduling.md`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use maitre::{Engine, EngineBuilder, GenerateRequest, Input};
use maitre_examples::dry_run::DryRun;
use maitre_examples::picture::{self, Line};
use maitre_examples::timed::{TimedAnswer, ask, ms, quantile, read};
use maitre_examples::{quick, table};
use maitre_scheduler::{
    ExpiredWhy, KvConfig, NewRequest, PolicyKind, RequestId, SchedulerConfig, TenantId, Time,
};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<()> {
    long_prompt().await?;
    policies()
}

// ---- A long prompt among running answers.

const USERS: usize = 8;
const LONG_PROMPT: usize = 1536;

/// Tokens that every user has when the long prompt comes.
const SETTLED: usize = 24;

/// A budget that takes the whole prompt in one step.
const WHOLE: usize = 2048;

/// The same scene under one setting.
struct Scene {
    name: String,
    budget: usize,
    users: Vec<TimedAnswer>,
    long: TimedAnswer,
}

impl Scene {
    /// Gaps between tokens of all users into which some of the long prompt's reading fell.
    fn gaps(&self) -> Vec<Duration> {
        let (came, read) = (self.long.asked, self.long.asked + self.long.ttft());
        let pairs = self.users.iter().flat_map(|user| user.tokens.windows(2));
        let during = pairs.filter(|pair| pair[1] > came && pair[0] < read);
        during.map(|pair| pair[1] - pair[0]).collect()
    }

    fn worst_gap(&self) -> Duration {
        self.gaps().into_iter().max().unwrap_or_default()
    }

    /// Mean time between tokens before the long prompt came; the median of the users.
    fn undisturbed(&self) -> Duration {
        let mean = |user: &TimedAnswer| {
            let before = user.tokens.iter().filter(|token| **token < self.long.asked);
            let (first, last, gaps) = (
                before.clone().min()?,
                before.clone().max()?,
                before.count() - 1,
            );
            Some((*last - *first) / u32::try_from(gaps).ok()?.max(1))
        };
        quantile(self.users.iter().filter_map(mean).collect(), 0.5)
    }
}

fn request(seed: u32, prompt: usize, output: u32) -> GenerateRequest {
    let ids = (0..prompt as u32).map(|i| 300 + (seed * 577 + i * 13 + i * i % 97) % 3000);
    let mut request = GenerateRequest::new(Input::Tokens(ids.collect()));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(output);
    request.stopping.ignore_eos = true;
    request
}

fn builder(budget: usize) -> EngineBuilder {
    // The same prompts come again and again; a cache would take the long one away.
    let builder = Engine::builder(maitre::bundled()).prefix_cache(false);
    builder.max_seqs(16).max_batched_tokens(budget)
}

/// Eight users in the middle of their answers; then comes the long prompt.
async fn play(engine: &Engine, name: &str, budget: usize) -> Result<Scene> {
    let (settled, mut all_settled) = mpsc::channel(USERS);
    let mut readers = Vec::new();
    for user in 0..USERS {
        let asked = Instant::now();
        let generation = engine.generate(request(user as u32, 16, 192)).await?;
        let settled = settled.clone();
        let tell = move |tokens| {
            if tokens == SETTLED {
                // The channel has space for all users; it is closed only if the lesson has failed.
                let _ = settled.try_send(());
            }
        };
        readers.push(tokio::spawn(read(asked, generation, tell)));
    }
    drop(settled);
    for _ in 0..USERS {
        all_settled.recv().await;
    }
    let long = ask(engine, request(99, LONG_PROMPT, 8)).await?;
    let mut users = Vec::new();
    for reader in readers {
        users.push(reader.await??);
    }
    Ok(Scene {
        name: name.into(),
        budget,
        users,
        long,
    })
}

/// Plays the scene several times and keeps the one with the median worst gap.
async fn measure(engine: &Engine, name: &str, budget: usize, rounds: usize) -> Result<Scene> {
    // Also what the latency target's estimate of a step's cost is learnt from.
    ask(engine, request(50, LONG_PROMPT, 8)).await?;
    let mut scenes = Vec::new();
    for _ in 0..rounds {
        scenes.push(play(engine, name, budget).await?);
    }
    scenes.sort_by_key(Scene::worst_gap);
    Ok(scenes.swap_remove(rounds / 2))
}

async fn long_prompt() -> Result<()> {
    let (budgets, rounds): (&[usize], usize) = if quick() {
        (&[128, WHOLE], 1)
    } else {
        (&[32, 64, 128, 256, 512, 1024, WHOLE], 3)
    };
    let mut scenes = Vec::new();
    for &budget in budgets {
        let engine = builder(budget).build()?;
        let name = if budget == WHOLE {
            "whole".into()
        } else {
            budget.to_string()
        };
        scenes.push(measure(&engine, &name, budget, rounds).await?);
    }
    let with_budget = scenes.len();
    let alone = scenes
        .iter()
        .map(Scene::undisturbed)
        .min()
        .unwrap_or_default();
    for times in if quick() { &[4][..] } else { &[3, 6, 12] } {
        let target = alone * *times;
        let engine = builder(WHOLE).itl_target(Some(target)).build()?;
        let name = format!("target {} ms", ms(target));
        scenes.push(measure(&engine, &name, WHOLE, rounds).await?);
    }
    let first = &scenes[0];
    for scene in &scenes {
        let same = scene
            .users
            .iter()
            .zip(&first.users)
            .all(|(a, b)| a.ids == b.ids);
        ensure!(
            same && scene.long.ids == first.long.ids,
            "{}: the answers must not depend on how prompts are cut",
            scene.name
        );
    }
    println!(
        "\n{USERS} users in the middle of their answers, a prompt of {LONG_PROMPT} tokens comes; without it a token \
         every {} ms\n",
        ms(alone)
    );
    print(&scenes, with_budget);
    draw(&scenes, with_budget)
}

fn print(scenes: &[Scene], with_budget: usize) {
    let rows: Vec<Vec<String>> = scenes
        .iter()
        .enumerate()
        .map(|(index, scene)| {
            let steps = LONG_PROMPT.div_ceil(scene.budget - USERS);
            vec![
                scene.name.clone(),
                if index < with_budget {
                    steps.to_string()
                } else {
                    String::new()
                },
                ms(scene.worst_gap()),
                ms(quantile(scene.gaps(), 0.5)),
                ms(scene.long.ttft()),
            ]
        })
        .collect();
    table::print(
        &[
            "tokens a step",
            "steps for it",
            "worst gap (ms)",
            "median gap (ms)",
            "its first token (ms)",
        ],
        &rows,
    );
}

fn draw(scenes: &[Scene], with_budget: usize) -> Result<()> {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let line = |name: &str, value: &dyn Fn(&Scene) -> Duration| {
        let scenes = scenes.iter().take(with_budget);
        // The largest step computes the whole prompt and one token of each user.
        let tokens = |scene: &Scene| scene.budget.min(LONG_PROMPT + USERS) as f64;
        Line {
            name: name.into(),
            points: scenes
                .map(|scene| (tokens(scene), millis(value(scene))))
                .collect(),
        }
    };
    let trade = picture::lines(
        "lesson06_budget",
        "What a long prompt costs, and whom",
        "tokens a step",
        "milliseconds",
        &[
            line("worst gap of the others", &Scene::worst_gap),
            line("its own first token", &|scene| scene.long.ttft()),
        ],
    )?;
    let gaps = |scene: &Scene| {
        let user = scene.users.first().map_or(&[][..], |user| &user.tokens);
        let gaps = user
            .windows(2)
            .map(|pair| (pair[1] - scene.long.asked, pair[1] - pair[0]));
        // What came before the long prompt has no time after it.
        let after = gaps.filter(|(after, _)| !after.is_zero());
        Line {
            name: format!("{} tokens a step", scene.name),
            points: after
                .map(|(after, gap)| (millis(after), millis(gap)))
                .collect(),
        }
    };
    let chosen = scenes.iter().take(with_budget);
    let chosen = chosen.filter(|scene| [64, 256, WHOLE].contains(&scene.budget));
    let over_time = picture::lines(
        "lesson06_gaps",
        "One user's gaps between tokens",
        "milliseconds since the long prompt came",
        "gap in milliseconds",
        &chosen.map(gaps).collect::<Vec<_>>(),
    )?;
    println!("pictures: {}, {}\n", trade.display(), over_time.display());
    Ok(())
}

// ---- One load under each policy.

/// Requests of one kind.
struct Group {
    name: &'static str,
    tenant: u32,
    priority: i32,
    count: u64,
    /// The step at which the first comes, and how many later the next.
    comes: u64,
    every: u64,
    prompt: usize,
    output: usize,
    /// Steps after which an answer is worth nothing.
    patience: Option<u64>,
}

/// A tenant that sends everything at once, another that asks now and then, and some of the first one's that
/// are urgent.
const LOAD: [Group; 3] = [
    Group {
        name: "bulk",
        tenant: 1,
        priority: 0,
        count: 32,
        comes: 0,
        every: 0,
        prompt: 32,
        output: 48,
        patience: None,
    },
    Group {
        name: "light",
        tenant: 2,
        priority: 0,
        count: 6,
        comes: 10,
        every: 30,
        prompt: 16,
        output: 16,
        patience: None,
    },
    Group {
        name: "urgent",
        tenant: 1,
        priority: 1,
        count: 4,
        comes: 20,
        every: 40,
        prompt: 16,
        output: 16,
        patience: Some(150),
    },
];

/// What one group got.
#[derive(Default)]
struct Service {
    /// Steps in the queue of each that was admitted.
    waits: Vec<u64>,
    missed: usize,
}

impl Service {
    fn mean(&self) -> f64 {
        self.waits.iter().sum::<u64>() as f64 / self.waits.len().max(1) as f64
    }
}

/// Serves the load with at most four requests at a time and 64 tokens a step.
fn serve(policy: PolicyKind) -> Result<BTreeMap<&'static str, Service>> {
    let config = SchedulerConfig {
        policy,
        ..SchedulerConfig::new(4, 64, 128, KvConfig::new(256, 16))
    };
    let mut dry_run = DryRun::new(config)?;
    let mut coming: Vec<(u64, &Group)> = LOAD
        .iter()
        .flat_map(|group| (0..group.count).map(move |n| (group.comes + n * group.every, group)))
        .collect();
    coming.sort_by_key(|(step, _)| *step);
    let mut coming = coming.into_iter().enumerate().peekable();
    let mut known: BTreeMap<RequestId, (u64, &str)> = BTreeMap::new();
    let mut services: BTreeMap<&str, Service> = BTreeMap::new();
    while coming.peek().is_some() || dry_run.scheduler.has_work() {
        let now = dry_run.steps();
        while let Some((id, (_, group))) = coming.next_if(|(_, (step, _))| *step <= now) {
            let mut request =
                NewRequest::new(id as u64, vec![id as u32; group.prompt], group.output);
            request.tenant = TenantId(group.tenant.into());
            request.priority = group.priority;
            request.arrival = dry_run.now();
            request.deadline = group
                .patience
                .map(|steps| dry_run.now() + Time::from_millis(steps));
            known.insert(request.id, (now, group.name));
            dry_run.scheduler.add(request)?;
        }
        let plan = dry_run.step()?;
        for who in plan.admitted.iter().filter(|who| !who.again) {
            if let Some((came, group)) = known.get(&who.request) {
                services.entry(group).or_default().waits.push(now - came);
            }
        }
        for who in plan
            .expired
            .iter()
            .filter(|who| who.why == ExpiredWhy::Deadline)
        {
            if let Some((_, group)) = known.get(&who.request) {
                services.entry(group).or_default().missed += 1;
            }
        }
    }
    Ok(services)
}

fn policies() -> Result<()> {
    let mut rows = Vec::new();
    let mut all = BTreeMap::new();
    for &policy in PolicyKind::ALL {
        let services = serve(policy)?;
        let mut row = vec![policy.to_string()];
        for group in &LOAD {
            let service = services.get(group.name);
            let longest = service.and_then(|service| service.waits.iter().max());
            row.push(match (service, longest) {
                (Some(service), Some(longest)) => format!("{:.0} ({longest})", service.mean()),
                _ => "never".into(),
            });
        }
        let missed = services
            .values()
            .map(|service| service.missed)
            .sum::<usize>();
        row.push(format!("{missed} of {}", LOAD[2].count));
        rows.push(row);
        all.insert(policy.to_string(), services);
    }
    println!(
        "{} requests of one tenant at once (four of them urgent, later), {} of another now and then; at most four run: \
         steps in the queue, mean (longest)\n",
        LOAD[0].count + LOAD[2].count,
        LOAD[1].count
    );
    table::print(
        &["policy", "bulk", "light", "urgent", "deadlines missed"],
        &rows,
    );
    let wait = |policy: PolicyKind, group: &str| {
        let services = all.get(&policy.to_string());
        services
            .and_then(|services| services.get(group))
            .map_or(0.0, Service::mean)
    };
    let missed = |policy: PolicyKind| {
        let services = all.get(&policy.to_string());
        services
            .and_then(|services| services.get("urgent"))
            .map_or(0, |service| service.missed)
    };
    ensure!(
        wait(PolicyKind::Fair, "light") * 4.0 < wait(PolicyKind::Fcfs, "light"),
        "fair service shortens the wait of the tenant that asks for little"
    );
    ensure!(
        missed(PolicyKind::Fcfs) == 4
            && missed(PolicyKind::Priority) == 0
            && missed(PolicyKind::Deadline) == 0,
        "urgent requests are late under fcfs, and in time where urgency counts"
    );
    Ok(())
}
