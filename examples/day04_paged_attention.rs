//! Day 4: memory in blocks.
//!
//! Draws which request holds which block of a small KV pool, step by step, with a prefix that several share;
//! then measures what paging wastes, and what it would cost to reserve the longest sequence for each request.
//! There is no model in it: the scheduler and its block tables are enough. Run it with `cargo run --release
//! --example day04_paged_attention`; the page is `docs/src/lessons/day04_paged_attention.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use maitre_examples::block_map::{self, Cell, Frame};
use maitre_examples::dry_run::DryRun;
use maitre_examples::numbers::normal;
use maitre_examples::picture::{self, Line};
use maitre_examples::{quick, table};
use maitre_scheduler::{KvConfig, NewRequest, RequestId, SchedulerConfig, StepPlan};

fn main() -> Result<()> {
    small_pool()?;
    let count = if quick() { 100 } else { 2000 };
    let mut loads = vec![Load::drawn(count)];
    if let Some(folder) = std::env::var_os("MAITRE_TEST_DATA") {
        let file = Path::new(&folder).join("traces/AzureLLMInferenceTrace_conv.csv");
        loads.push(Load::trace(&file, count)?);
    } else {
        println!("(set MAITRE_TEST_DATA to measure a recorded trace, too)\n");
    }
    let mut lines = Vec::new();
    for load in &loads {
        lines.push(waste(load)?);
    }
    let path = picture::lines(
        "day04_waste",
        "Memory held for nothing",
        "positions per block",
        "percent of what is held",
        &lines,
    )?;
    println!("picture: {}", path.display());
    Ok(())
}

// ---- A pool that fits on a page.

const BLOCKS: u32 = 24;
const BLOCK_SIZE: u32 = 4;

/// Tokens that several requests begin with.
const SYSTEM_PROMPT: u32 = 8;

struct Arrival {
    name: &'static str,
    /// The step before which it comes.
    comes: u64,
    knows_system_prompt: bool,
    /// Tokens of its own in the prompt.
    own: u32,
    wants: usize,
}

const fn arrival(name: &'static str, comes: u64, system: bool, own: u32, wants: usize) -> Arrival {
    Arrival {
        name,
        comes,
        knows_system_prompt: system,
        own,
        wants,
    }
}

const ARRIVALS: [Arrival; 5] = [
    arrival("A", 0, true, 5, 7),
    arrival("B", 2, true, 3, 9),
    arrival("C", 3, false, 10, 9),
    arrival("D", 5, true, 6, 8),
    arrival("E", 14, false, 46, 9),
];

/// The blocks that each request holds, as the plans tell it.
#[derive(Default)]
struct Tables {
    of: BTreeMap<RequestId, (Vec<u32>, usize)>,
    /// Full blocks of requests that are gone.
    kept: BTreeSet<u32>,
}

impl Tables {
    fn follow(&mut self, plan: &StepPlan) {
        for span in &plan.spans {
            let (table, positions) = self.of.entry(span.request).or_default();
            table.truncate(span.groups[0].table.keep);
            table.extend(span.groups[0].table.blocks.iter().map(|block| block.0));
            *positions = span.context_len;
        }
    }

    /// Removes the tables of requests that have left.
    fn leave(&mut self, gone: impl Fn(RequestId) -> bool) {
        let leaving: Vec<RequestId> = self.of.keys().copied().filter(|id| gone(*id)).collect();
        for request in leaving {
            let (table, positions) = self.of.remove(&request).unwrap_or_default();
            let full = positions / BLOCK_SIZE as usize;
            for (index, block) in table.into_iter().enumerate() {
                if index < full {
                    self.kept.insert(block);
                } else {
                    self.kept.remove(&block);
                }
            }
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let cell = |block| {
            let mut holders = self
                .of
                .iter()
                .filter(|(_, (table, _))| table.contains(&block));
            match (holders.next(), holders.next()) {
                (Some(_), Some(_)) => Cell::Shared,
                (Some((request, _)), None) => Cell::Held(request.0 as usize),
                (None, _) if self.kept.contains(&block) => Cell::Kept,
                (None, _) => Cell::Empty,
            }
        };
        (0..BLOCKS).map(cell).collect()
    }
}

fn small_pool() -> Result<()> {
    let kv = KvConfig::new(BLOCKS, BLOCK_SIZE);
    let mut run = DryRun::new(SchedulerConfig::new(8, 64, 96, kv))?;
    let (mut tables, mut frames, mut rows) = (Tables::default(), Vec::new(), Vec::new());
    let mut shared = false;
    while run.steps() == 0 || run.scheduler.has_work() || run.steps() <= ARRIVALS[4].comes {
        for (id, arrival) in ARRIVALS.iter().enumerate() {
            if arrival.comes == run.steps() {
                run.scheduler.add(arrival.request(id as u64))?;
            }
        }
        let name = format!("step {}", run.steps());
        let plan = run.plan();
        tables.follow(&plan);
        let cells = tables.cells();
        let usage = run.scheduler.kv_usage();
        let count = |kind: fn(&Cell) -> bool| cells.iter().filter(|cell| kind(cell)).count();
        let held = count(|cell| matches!(cell, Cell::Held(_) | Cell::Shared));
        let kept = count(|cell| *cell == Cell::Kept);
        ensure!(
            (held, kept) == (usage.used, usage.cached),
            "{name}: {held} blocks are drawn as held and {kept} as kept, the scheduler says {usage:?}"
        );
        shared |= count(|cell| *cell == Cell::Shared) == (SYSTEM_PROMPT / BLOCK_SIZE) as usize;
        rows.push(vec![
            name.clone(),
            cells.iter().map(|cell| cell.letter()).collect(),
            plan.num_tokens().to_string(),
            plan.admitted
                .iter()
                .map(|who| ARRIVALS[who.request.0 as usize].name)
                .collect(),
            plan.admitted
                .iter()
                .map(|who| who.cached_tokens)
                .sum::<usize>()
                .to_string(),
        ]);
        frames.push(Frame { name, cells });
        run.commit(&plan)?;
        let scheduler = &run.scheduler;
        tables.leave(|request| scheduler.tokens(request).is_none());
    }
    ensure!(
        shared,
        "the blocks of the system prompt are held by several at some step"
    );
    ensure!(
        run.scheduler.counts().kv.evicted > 0,
        "the last request takes blocks that were kept"
    );
    println!(
        "\n{BLOCKS} blocks of {BLOCK_SIZE} positions. A letter: its holder. #: held by several. -: kept.\n"
    );
    table::print(&["", "blocks", "tokens", "admitted", "found"], &rows);
    let names: Vec<&str> = ARRIVALS.iter().map(|arrival| arrival.name).collect();
    let title = format!("{BLOCKS} blocks of {BLOCK_SIZE} positions, and their holders");
    let path = block_map::draw("day04_blocks", &title, &names, &frames)?;
    println!("picture: {}\n", path.display());
    Ok(())
}

impl Arrival {
    fn request(&self, id: u64) -> NewRequest {
        let system = if self.knows_system_prompt {
            SYSTEM_PROMPT
        } else {
            0
        };
        let own = (0..self.own).map(|i| 1000 * (id as u32 + 1) + i);
        let mut request = NewRequest::new(id, (0..system).chain(own).collect(), self.wants);
        request.arrival = std::time::Duration::from_millis(self.comes);
        request
    }
}

// ---- Waste.

/// Requests, all of which are there from the beginning, and a pool.
struct Load {
    name: String,
    /// Prompt and output of each.
    lengths: Vec<(usize, usize)>,
    /// Most positions a sequence may have: what a contiguous reservation has to hold.
    longest: usize,
    /// Positions in the pool.
    pool: usize,
}

impl Load {
    /// Prompts of 180 tokens and answers of 120 in the median, both log-normal.
    fn drawn(count: usize) -> Self {
        let longest = 2048;
        let lengths = |seed, median: f32, spread: f32| {
            let drawn = normal(seed, count).into_iter();
            drawn.map(move |z| (median * (spread * z).exp()).clamp(1.0, 1000.0) as usize)
        };
        Self {
            name: "drawn".into(),
            lengths: lengths(1, 180.0, 0.8).zip(lengths(2, 120.0, 0.7)).collect(),
            longest,
            pool: 32 * longest,
        }
    }

    /// The first requests of the Azure trace of conversations (Patel et al. 2024, Splitwise), as they are.
    fn trace(file: &Path, count: usize) -> Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let lengths = text.lines().skip(1).take(count).map(|line| {
            let mut fields = line.split(',').skip(1).map(|field| field.trim().parse());
            match (fields.next(), fields.next()) {
                (Some(Ok(prompt)), Some(Ok(output))) => Ok((prompt, output)),
                _ => anyhow::bail!(
                    "{} has a line {line:?}; expected TIME,PROMPT,OUTPUT",
                    file.display()
                ),
            }
        });
        let longest = 16_384;
        Ok(Self {
            name: "Azure conversations".into(),
            lengths: lengths.collect::<Result<_>>()?,
            longest,
            pool: 16 * longest,
        })
    }
}

/// What came of serving a load.
struct Served {
    /// Of the positions held, the part without a token, over all steps.
    waste: f64,
    /// Requests that ran at a time, on average.
    running: f64,
    steps: u64,
    preemptions: u64,
}

/// Serves a load from blocks of `block_size`, with at most `slots` requests at a time.
fn serve(load: &Load, block_size: usize, num_blocks: usize, slots: usize) -> Result<Served> {
    let kv = KvConfig {
        // Nothing is shared here: what one request wastes is to be seen.
        prefix_cache: false,
        ..KvConfig::new(num_blocks as u32, block_size as u32)
    };
    let mut run = DryRun::new(SchedulerConfig::new(slots, 2048, load.longest, kv))?;
    for (id, &(prompt, output)) in load.lengths.iter().enumerate() {
        let prompt = vec![id as u32; prompt];
        run.scheduler
            .add(NewRequest::new(id as u64, prompt, output.max(1)))?;
    }
    let (mut filled, mut held, mut running) = (0, 0, 0);
    while run.scheduler.has_work() {
        let plan = run.plan();
        let positions = run.scheduler.filled_positions();
        filled += positions.0;
        held += positions.1;
        running += run.scheduler.num_running();
        run.commit(&plan)?;
    }
    Ok(Served {
        waste: 1.0 - filled as f64 / held as f64,
        running: running as f64 / run.steps() as f64,
        steps: run.steps(),
        preemptions: run.scheduler.counts().preemptions,
    })
}

/// One row per block size and one for contiguous reservation; returns the line of the waste.
fn waste(load: &Load) -> Result<Line> {
    let tokens: usize = load
        .lengths
        .iter()
        .map(|(prompt, output)| prompt + output)
        .sum();
    println!(
        "{}: {} requests of {} tokens on average, a pool of {} positions\n",
        load.name,
        load.lengths.len(),
        tokens / load.lengths.len().max(1),
        load.pool
    );
    let (mut rows, mut points) = (Vec::new(), Vec::new());
    let row = |name: String, served: &Served| {
        vec![
            name,
            format!("{:.1} %", 100.0 * served.waste),
            format!("{:.1}", served.running),
            served.steps.to_string(),
            served.preemptions.to_string(),
        ]
    };
    for block_size in [4, 8, 16, 32, 64, 128, 256] {
        let served = serve(load, block_size, load.pool / block_size, 256)?;
        if block_size == 16 {
            ensure!(
                served.waste < 0.04,
                "{}: blocks of 16 waste {:.1} %, expected less than 4 %",
                load.name,
                100.0 * served.waste
            );
        }
        rows.push(row(format!("blocks of {block_size}"), &served));
        points.push((block_size as f64, 100.0 * served.waste));
    }
    // A reservation of the longest sequence is a block of that length. Twice as many blocks as requests at a
    // time, because the scheduler keeps one free for each that runs, and here no request needs a second one.
    let slots = load.pool / load.longest;
    let contiguous = serve(load, load.longest, 2 * slots, slots)?;
    ensure!(
        contiguous.waste > 0.5,
        "contiguous reservation wastes most of what it holds"
    );
    rows.push(row(format!("{} for each", load.longest), &contiguous));
    table::print(
        &[
            "held in",
            "waste",
            "running at a time",
            "steps",
            "preemptions",
        ],
        &rows,
    );
    Ok(Line {
        name: load.name.clone(),
        points,
    })
}
