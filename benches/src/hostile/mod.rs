//! Hostile clients beside honest ones: what the neighbours of an attacker notice.
//!
//! A server of the bundled model, in a process of its own, streams answers to honest clients while both of its
//! listeners are asked for their health. Each [`Attack`] comes from another process: a quiet phase, the attack, the
//! time until everything it took is free. A [`Report`] has one row for each, and says which bounds did not hold.
//! A server that failed an attack is replaced, so that the next row speaks of its own attack.

mod attacks;
mod bed;
mod budget;
mod door;
mod frames;
mod honest;
mod probes;
mod process;
mod report;
mod samples;
mod tally;

use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

pub use attacks::{Attack, Conduct, Target, all};
pub(crate) use process::Server;
pub use process::Usage;
pub use report::{Bounds, Held, Report, Row};
pub use samples::{Phase, Wait};
pub use tally::Gains;

use bed::{Bed, Phases};

/// What to measure, and with what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's program.
    pub maitre: PathBuf,
    /// The attackers' program; it is called with `attack NAME [--legal] --grpc ADDR --http ADDR --neighbours N
    /// --seconds S` and prints [`Gains`] as JSON.
    pub attacker: PathBuf,
    /// Honest clients.
    pub clients: usize,
    /// How long all of it may take, if everything is free at once after each attack.
    pub length: Duration,
    /// How many times each attack is made, one after the other. What fills once, such as the caches and the
    /// allocator's arenas, fills in the first half of them; in the second half memory at rest must stay the same.
    pub rounds: usize,
    /// Names of the attacks to make; empty = all.
    pub only: Vec<String>,
}

/// Attacks that are shorter show nothing.
const SHORTEST_ATTACK: Duration = Duration::from_secs(2);

/// Makes all attacks in turn; `progress` hears of each.
///
/// # Errors
///
/// If a name is unknown, or server or attackers can't be started. A bound that does not hold is no error, but a
/// part of the report.
pub async fn measure(settings: &Settings, progress: impl Fn(&str)) -> Result<Report> {
    let attacks = chosen(&settings.only)?;
    let rounds = settings.rounds.max(1);
    let phases = phases(settings.length, attacks.len() * rounds);
    let mut report = Report::default();
    // A server, and how it came out of its last attack.
    let mut bed: Option<(Bed, Last)> = None;
    let settled = (rounds - 1) / 2;
    let rounds = attacks
        .iter()
        .flat_map(|attack| (0..rounds).map(move |round| (attack, round)));
    let mut settled_at_rest = 0;
    for (attack, round) in rounds {
        progress(&format!("{}: {}", attack.name, attack.what));
        // All rounds of an attack are made on one server, or its memory could not be compared.
        let kept = bed
            .take()
            .filter(|(bed, last)| (last.holds || round > 0 && last.lives) && bed.suits(attack));
        let mut current = match kept {
            Some((bed, _)) => bed,
            None => {
                let (maitre, attacker) = (&settings.maitre, &settings.attacker);
                Bed::start(maitre, attacker, settings.clients, attack.flags).await?
            }
        };
        let mut row = current.attack(attack, phases, &report.bounds).await?;
        match round.cmp(&settled) {
            Ordering::Less => {}
            Ordering::Equal => settled_at_rest = row.at_rest,
            Ordering::Greater => row.settled_at_rest = settled_at_rest,
        }
        let violations = row.violations(&report.bounds);
        for violation in &violations {
            progress(&format!("  {violation}"));
        }
        let last = Last {
            holds: violations.is_empty(),
            lives: row.death.is_none(),
        };
        bed = Some((current, last));
        report.rows.push(row);
    }
    if let Some((mut bed, _)) = bed {
        progress(
            "recovery: the neighbours by themselves again, beside those before the first attack",
        );
        report.recovery = Some(bed.recovery(phases, &report.bounds).await?);
    }
    Ok(report)
}

/// How a server came out of an attack.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// All bounds held.
    holds: bool,
    /// It has not ended.
    lives: bool,
}

fn chosen(only: &[String]) -> Result<Vec<Attack>> {
    let all = all();
    for name in only {
        let is_known = all.iter().any(|attack| attack.name == name);
        ensure!(is_known, "no attack `{name}`; --list shows all");
    }
    let is_chosen = |attack: &Attack| only.is_empty() || only.iter().any(|it| it == attack.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Each attack's share of the time: a third for the quiet phase, half for the attack, the rest for freeing.
fn phases(length: Duration, attacks: usize) -> Phases {
    let share = length / u32::try_from(attacks.max(1)).unwrap_or(u32::MAX);
    Phases {
        quiet: (share / 3).max(SHORTEST_ATTACK / 2),
        attack: (share / 2).max(SHORTEST_ATTACK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), all().len());
        let two = chosen(&["cancels".into(), "control".into()]).unwrap();
        assert_eq!(two.len(), 2);
        let error = chosen(&["tea".into()]).unwrap_err().to_string();
        assert!(
            error.contains("`tea`") && error.contains("--list"),
            "{error}"
        );
    }

    #[test]
    fn the_time_is_shared_among_the_attacks() {
        let phases = phases(Duration::from_secs(600), 30);
        assert_eq!(phases.attack, Duration::from_secs(10));
        assert!(phases.quiet + phases.attack <= Duration::from_secs(20));
    }
}
