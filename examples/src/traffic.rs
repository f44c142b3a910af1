//! Requests for simulated fleets: loads that rise and fall, and conversations.
//!
//! All is drawn from a seed, so a lesson sees the same requests on every machine and under every setting.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use maitre_sim::workload::{Arrivals, Request, SharedPrefix};
use maitre_sim::{EngineSettings, Hardware, ModelShape, Simulation};

use crate::quick;

/// Llama 3.1 8B in bf16 on one H100, with the KV cache that fits beside it.
///
/// # Errors
///
/// None, as both are known.
pub fn llama_on_h100() -> Result<Simulation> {
    let model = ModelShape::known("llama-3.1-8b").context("a model of the table")?;
    let hardware = Hardware::known("h100").context("hardware of the table")?;
    let blocks = match quick() {
        // Debug builds check every block after every step.
        true => 1000,
        false => EngineSettings::kv_blocks_beside(&model, &hardware, 16)?,
    };
    let engine = EngineSettings::new(blocks, 8192);
    Ok(Simulation::new(&model, &hardware, engine)?)
}

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, never 0.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + (self.unit() * f64::from(high - low + 1)).ceil() as u32 - 1
    }
}

/// Requests that are known beforehand, in the order of their arrival.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    requests: VecDeque<Request>,
    shares_prefixes: bool,
}

impl Traffic {
    /// A Poisson process whose rate is `rate(seconds)`, never above `peak`, for so many seconds (by thinning: Lewis and Shedler 1979). Prompts
    /// and answers have lengths within these bounds.
    #[must_use]
    pub fn varying(
        rate: impl Fn(f64) -> f64,
        peak: f64,
        seconds: f64,
        prompt: (u32, u32),
        output: (u32, u32),
        seed: u64,
    ) -> Self {
        let mut dice = Dice::new(seed);
        let mut traffic = Self::default();
        let mut at = dice.exponential() / peak;
        while at < seconds {
            let (prompt, output) = (
                dice.between(prompt.0, prompt.1),
                dice.between(output.0, output.1),
            );
            if dice.unit() * peak <= rate(at) {
                traffic.add(at, prompt, output);
            }
            at += dice.exponential() / peak;
        }
        traffic
    }

    /// Conversations that begin at this rate. A turn's prompt is all that was said before, behind instructions of 512 tokens that one of ten applications
    /// gives to all its users; the next turn comes half a minute after the one before, on average.
    #[must_use]
    pub fn conversations(count: u64, rate: f64, turns: u32, seed: u64) -> Self {
        const BLOCK: u32 = 64;
        let mut dice = Dice::new(seed);
        let mut traffic = Self {
            shares_prefixes: true,
            ..Self::default()
        };
        let mut begins = 0.0;
        let mut requests = Vec::new();
        for chat in 0..count {
            begins += dice.exponential() / rate;
            let application = u64::from(dice.between(0, 9));
            let mut ids: Vec<u64> = (0..8).map(|block| application << 8 | block).collect();
            let mut at = begins;
            for turn in 0..turns {
                // What the user says, and what the turn before answered.
                let said = dice.between(1, 6);
                ids.extend(
                    (0..u64::from(said))
                        .map(|block| (chat + 1) << 32 | u64::from(turn) << 8 | block),
                );
                requests.push(Request {
                    number: 0,
                    arrival: Duration::from_secs_f64(at),
                    prompt_tokens: ids.len() as u32 * BLOCK + dice.between(1, BLOCK),
                    output_tokens: dice.between(50, 250),
                    prefix: Some(SharedPrefix {
                        block_tokens: BLOCK,
                        ids: ids.clone().into(),
                    }),
                    session: Some(chat),
                    user: None,
                });
                at += 5.0 + 25.0 * dice.exponential();
            }
        }
        requests.sort_by_key(|request| request.arrival);
        for (number, request) in (0..).zip(&mut requests) {
            request.number = number;
        }
        traffic.requests = requests.into();
        traffic
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// One more, which comes after all others.
    pub fn add(&mut self, at: f64, prompt_tokens: u32, output_tokens: u32) {
        self.requests.push_back(Request {
            number: self.requests.len() as u64,
            arrival: Duration::from_secs_f64(at),
            prompt_tokens,
            output_tokens,
            prefix: None,
            session: None,
            user: None,
        });
    }
}

impl Arrivals for Traffic {
    fn next_at(&mut self) -> Option<Duration> {
        self.requests.front().map(|request| request.arrival)
    }

    fn take(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn is_open(&self) -> bool {
        true
    }

    fn shares_prefixes(&self) -> bool {
        self.shares_prefixes
    }
}
