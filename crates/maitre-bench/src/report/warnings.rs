//! What makes the figures of a report mean something else than they seem to.
//!
//! A server that has been asked the same before has the prompts in its prefix cache, and does not compute them: a measurement that is
//! repeated with its seed may look several times as fast as the first.

use crate::{Load, Questions, Run, Settings};

/// The largest share of new prompts that chance, or a template of the server's own, lets a prefix cache have.
const CHANCE: f64 = 0.05;

/// Of a measurement, one for each run where need be; `again`: how often a prompt of a file or a recorded conversation was asked once more.
pub(crate) fn warnings(settings: &Settings, runs: &[Run], again: usize) -> Vec<String> {
    let loads = settings.loads.iter().zip(runs);
    let known = loads.filter_map(|(load, run)| {
        let known = known_prompts(settings, load, &[run])?;
        Some(format!("{load}: {known}"))
    });
    let runs: Vec<&Run> = runs.iter().collect();
    known.chain(asked_again(settings, &runs, again)).collect()
}

/// Says so if what was recorded or written in a file did not suffice, unless the server tells that it had nothing of it in its prefix cache.
pub(crate) fn asked_again(settings: &Settings, runs: &[&Run], again: usize) -> Option<String> {
    let (what, more) = match settings.questions {
        Questions::Chats(_) => (
            "recorded conversations were asked a second time",
            "record more",
        ),
        Questions::InTurn(_) => (
            "requests asked a prompt of the file once more",
            "give a file of more prompts",
        ),
        Questions::Random | Questions::Trace(_) => return None,
    };
    let may_be_known = cached(runs).is_none_or(|share| share > CHANCE);
    (again > 0 && may_be_known).then(|| {
        format!(
            "{again} {what}, when the server could have them in its prefix cache: ask for fewer requests or loads, or {more}"
        )
    })
}

/// Says so if prompts that ought to be new to the server were in its prefix cache.
pub(crate) fn known_prompts(settings: &Settings, load: &Load, runs: &[&Run]) -> Option<String> {
    let ought_to_be_new = match settings.questions {
        Questions::Random => settings.workload.turns.is_none(),
        // Played at its times it has its own shared beginnings.
        Questions::Trace(_) => !matches!(load, Load::Replay { .. }),
        Questions::InTurn(_) | Questions::Chats(_) => false,
    };
    let share = cached(runs).filter(|share| ought_to_be_new && *share > CHANCE)?;
    Some(format!(
        "{:.0} % of the random prompts' tokens were in the server's prefix cache, from a measurement with the same --seed, and were not computed: \
         the server is slower than this. Ask with another --seed or with none, or a server that has just been started",
        share * 100.0
    ))
}

/// By what answers say, or by what the server counts where they do not; `None` where neither does.
fn cached(runs: &[&Run]) -> Option<f64> {
    let (mut cached, mut tokens) = (0.0, 0.0);
    for run in runs {
        let told = run.cached_tokens.map(|it| it as f64);
        let counted = run.server.and_then(|server| server.prefix_hit_share);
        let counted = counted.map(|share| share * run.input_tokens as f64);
        if let Some(of_run) = told.or(counted) {
            cached += of_run;
            tokens += run.input_tokens as f64;
        }
    }
    (tokens > 0.0).then(|| cached / tokens)
}
