//! What a hostile client may try, one entry each, with a bound on its time and on what it opens.
//!
//! An attack runs until its time is over and is then cut: none has to watch the clock. It counts what it gets in
//! the arena's tally.

mod calls;
mod cancels;
mod connections;
mod control;
mod floods;
mod heavy;
mod ids;
mod messages;
mod predicted;
mod schemas;
mod scrapes;
mod tenants;
mod unruly;
mod watches;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

use super::door::{Door, RETRY};
use super::process;
use super::tally::{Gains, Tally};

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the attacker does.
    pub what: &'static str,
    /// Flags that the server needs for it.
    pub(crate) flags: &'static [&'static str],
    run: fn(Arena) -> Attacking,
    /// The same work as well-behaved clients ask for it, where the attack is work that any client may ask for: the
    /// neighbours are compared with themselves beside that.
    legal: Option<fn(Arena) -> Attacking>,
}

/// An attack under way.
pub(crate) type Attacking = Pin<Box<dyn Future<Output = Result<()>>>>;

impl Attack {
    const fn new(name: &'static str, what: &'static str, run: fn(Arena) -> Attacking) -> Self {
        Self {
            name,
            what,
            flags: &[],
            run,
            legal: None,
        }
    }

    const fn beside(self, legal: fn(Arena) -> Attacking) -> Self {
        Self {
            legal: Some(legal),
            ..self
        }
    }

    const fn with_flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    /// Whether [`Conduct::Legal`] differs from no attack.
    #[must_use]
    pub fn has_legal_load(&self) -> bool {
        self.legal.is_some()
    }

    /// Attacks for so long, from this process, and returns what it got.
    ///
    /// # Errors
    ///
    /// If the attack could not be made at all.
    pub async fn run(&self, target: Target, conduct: Conduct, length: Duration) -> Result<Gains> {
        let run = match conduct {
            Conduct::Hostile => self.run,
            Conduct::Legal => self.legal.context("this attack has no legal load")?,
        };
        let arena = Arena {
            target,
            length,
            tally: Tally::default(),
        };
        let tally = arena.tally.clone();
        if let Ok(ended) = timeout(length, run(arena)).await {
            ended.with_context(|| format!("attacking with {}", self.name))?;
        }
        tenants::judge(&tally);
        let mut gains = tally.gains();
        gains.cpu_s = process::cpu_seconds();
        Ok(gains)
    }
}

/// Whether a load is the attack or what well-behaved clients would do in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// The attack.
    Hostile,
    /// The same work, asked for and read as usual.
    Legal,
}

/// Where a server answers.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its gRPC address.
    pub grpc: SocketAddr,
    /// Its HTTP address.
    pub http: SocketAddr,
    /// How many neighbours it serves beside.
    pub neighbours: usize,
}

/// What an attack has to do with.
#[derive(Debug, Clone)]
pub(crate) struct Arena {
    pub(crate) target: Target,
    pub(crate) length: Duration,
    pub(crate) tally: Tally,
}

impl Arena {
    /// As many of `wanted` connections as the system lets this process have.
    pub(crate) fn connections(&self, wanted: usize) -> usize {
        let most = process::open_files_limit().saturating_sub(64);
        if wanted > most {
            self.tally
                .note(format!("{most} of {wanted} connections (ulimit -n)"));
        }
        wanted.min(most)
    }

    /// A connection to the gRPC port; failures are counted and tried again, for ever.
    pub(crate) async fn door(&self, window: u32) -> Door {
        loop {
            match Door::open(self.target.grpc, window).await {
                Ok(door) => return door,
                Err(_refused) => {
                    self.tally.count("connection refused");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// All attacks, in the order in which they are made.
#[must_use]
pub fn all() -> Vec<Attack> {
    let mut attacks = vec![control::ATTACK];
    attacks.extend(heavy::ATTACKS);
    attacks.extend(connections::ATTACKS);
    attacks.extend(calls::ATTACKS);
    attacks.extend(watches::ATTACKS);
    attacks.push(ids::ATTACK);
    attacks.push(cancels::ATTACK);
    attacks.extend(scrapes::ATTACKS);
    attacks.extend(schemas::ATTACKS);
    attacks.extend(floods::ATTACKS);
    attacks.extend(messages::ATTACKS);
    attacks.push(tenants::ATTACK);
    attacks.push(unruly::ATTACK);
    attacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_fit_a_command_line() {
        let attacks = all();
        for (at, attack) in attacks.iter().enumerate() {
            let fits = |letter: char| letter.is_ascii_lowercase() || letter == '-';
            assert!(attack.name.chars().all(fits), "{}", attack.name);
            let same = attacks.iter().position(|other| other.name == attack.name);
            assert_eq!(same, Some(at), "{}", attack.name);
        }
    }
}
