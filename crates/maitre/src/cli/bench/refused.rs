//! Flags that would do nothing are refused: who is told figures of something else than was asked for does not notice.
//!
//! What depends on two flags alone stands at the flags (`conflicts_with`, `requires`). Here is what depends on the value of one, or
//! leaves few others of any use. It is checked while the command line is parsed.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use maitre::bench::Address;

use super::capacity::DimensionArg;
use crate::cli::model::ModelArgs;

/// Flags that say where flags come from, and what is logged.
const ALWAYS: [&str; 2] = ["config", "verbose"];

/// What `--line-by-line` goes by, beside the flags of the model: its lines say the rest.
const LINE_BY_LINE: [&str; 8] = [
    "line_by_line",
    "target",
    "served_model",
    "vocab_size",
    "prompts",
    "timeout",
    "threads",
    "seed",
];

/// What a calibration sets by itself: nothing drafts, and nothing is refused or bounds a step but its size.
const CALIBRATION_SETS: [&str; 7] = [
    "draft_model",
    "draft_tokens",
    "accept",
    "max_queue",
    "max_queued_tokens",
    "max_queue_wait_ms",
    "itl_target_ms",
];

/// Parsed from no flag: it only refuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused;

impl Args for Refused {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for Refused {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match reason(&Given::of(matches)) {
            Some(reason) => Err(clap::Error::raw(ErrorKind::ArgumentConflict, reason + "\n")),
            None => Ok(Self),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|_| ())
    }
}

/// The flags that were given, by hand or in a file.
struct Given<'a> {
    matches: &'a ArgMatches,
    names: Vec<&'a str>,
    of_model: Vec<String>,
}

impl<'a> Given<'a> {
    fn of(matches: &'a ArgMatches) -> Self {
        let by_hand = |name: &&str| {
            // Beside the flags there are groups of them, named as types are.
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && matches.value_source(name) == Some(ValueSource::CommandLine)
        };
        let of_model = ModelArgs::augment_args(Command::new("model"));
        let of_model = of_model
            .get_arguments()
            .map(|it| it.get_id().as_str().to_owned());
        Self {
            matches,
            names: matches
                .ids()
                .map(clap::Id::as_str)
                .filter(by_hand)
                .collect(),
            of_model: of_model.collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    fn any(&self, names: &[&str]) -> Option<&str> {
        let mut given = self.names.iter().copied();
        given.find(|name| names.contains(name))
    }

    /// The first flag that is none of these, of those that are looked at.
    fn other_than(&self, names: &[&str], looked_at: impl Fn(&str) -> bool) -> Option<&str> {
        let mut given = self.names.iter().copied();
        given.find(|name| !ALWAYS.contains(name) && !names.contains(name) && looked_at(name))
    }

    fn is_of_model(&self, name: &str) -> bool {
        self.of_model.iter().any(|it| it == name)
    }
}

/// Why what was given cannot all count.
fn reason(given: &Given<'_>) -> Option<String> {
    given
        .beside_compare()
        .or_else(|| given.beside_line_by_line())
        .or_else(|| given.beside_calibrate())
        .or_else(|| given.of_another_target())
        .or_else(|| given.of_no_one_who_thinks())
}

impl Given<'_> {
    fn target(&self) -> &Address {
        let target = self.matches.get_one("target");
        target.unwrap_or(&Address::InProcess)
    }

    fn beside_compare(&self) -> Option<String> {
        if !self.has("compare") {
            return None;
        }
        let flag = flag(self.other_than(&["compare"], |_| true)?);
        Some(format!(
            "--compare reads two reports and measures nothing: leave {flag} out"
        ))
    }

    fn beside_line_by_line(&self) -> Option<String> {
        if !self.has("line_by_line") {
            return None;
        }
        // Flags of the model beside a server are told by the next one.
        let other = self.other_than(&LINE_BY_LINE, |name| !self.is_of_model(name));
        let flag = flag(other?);
        Some(format!(
            "--line-by-line is told by each line what to measure: leave {flag} out"
        ))
    }

    fn beside_calibrate(&self) -> Option<String> {
        if !self.has("calibrate") {
            return None;
        }
        let is_drafting = self.has("speculate") && !self.is_off("speculate");
        let speculate = is_drafting.then_some("speculate");
        let flag = flag(speculate.or_else(|| self.any(&CALIBRATION_SETS))?);
        Some(format!(
            "--calibrate measures steps that nothing drafts for and nothing bounds but their size: leave {flag} out"
        ))
    }

    fn is_off(&self, name: &str) -> bool {
        let values = self.matches.get_raw(name);
        values.is_some_and(|mut values| values.all(|value| value == "off"))
    }

    /// What goes with another kind of target.
    fn of_another_target(&self) -> Option<String> {
        let target = self.target();
        if !matches!(target, Address::OpenAi(_))
            && let Some(name) = self.any(&["served_model", "vocab_size"])
        {
            let flag = flag(name);
            return Some(format!(
                "{flag} goes with --target http://HOST:PORT/v1; other targets say what they serve"
            ));
        }
        if *target == Address::InProcess {
            let asks_none = "--metrics-url goes with a server as --target";
            return self.has("metrics_url").then(|| asks_none.to_owned());
        }
        // Prompts have a seed, and the limits that --line-by-line tells have threads.
        let of_client: &[&str] = match self.has("line_by_line") {
            true => &["seed", "threads"],
            false => &["seed"],
        };
        let flag = flag(self.other_than(of_client, |name| self.is_of_model(name))?);
        Some(format!(
            "{flag} goes with an engine in this process; a server as --target has its own: give it to the server, or leave it out"
        ))
    }

    fn of_no_one_who_thinks(&self) -> Option<String> {
        let is_idle = match self.matches.get_one("find_capacity") {
            // A search asks no recorded conversations.
            Some(DimensionArg::Rate) => !self.has("turns"),
            // Of a trace, its file says whether it holds some.
            _ => {
                self.any(&["rate", "arrivals"]).is_some() && self.any(&["turns", "trace"]).is_none()
            }
        };
        (self.has("think_time") && is_idle).then(|| THINKING.to_owned())
    }
}

/// Where no user waits for an answer.
pub(super) const THINKING: &str = "--think-time goes with users who wait (--concurrency) or with conversations (--turns); requests that \
                                   come at their times have no user who thinks";

fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}
