//! The process that does the work: one line of JSON on stdout for whatever the supervisor should know.

use std::any::Any;
use std::error::Error;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use maitre_tensor::TensorError;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::item::{Item, Outcome, items};
use super::site::{Facts, Site};
use super::{GpuCheckError, Options, Resume};

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// There is no such device.
    Refused { device: String, reason: String },
    /// The device is open.
    Facts(Facts),
    /// An item begins.
    Begun { item: usize },
    /// An item is over.
    Ended {
        item: usize,
        took_s: f64,
        outcome: Outcome,
    },
    /// Nothing more can be done in this process.
    GaveUp { why: String },
    /// There is nothing left to do.
    Done,
}

/// How an error and its causes are told in one line.
type Tell = fn(&(dyn Error + 'static)) -> String;

/// Works off the list from `resume` on, and says on stdout what became of each item, for [`supervise`](crate::supervise)
/// to read. `handle` runs what engines wait for, so the calling thread may be none of its workers; `tell` makes one
/// line of an error.
///
/// # Errors
/// [`GpuCheckError::Io`] if the supervisor no longer reads. Whatever else goes wrong is a row.
pub fn work(
    options: &Options,
    resume: &Resume,
    handle: Handle,
    tell: Tell,
) -> Result<(), GpuCheckError> {
    let told = work_off(options, resume, handle, tell);
    told.map_err(GpuCheckError::while_doing("telling the supervisor"))
}

fn work_off(options: &Options, resume: &Resume, handle: Handle, tell: Tell) -> io::Result<()> {
    let mut site = match Site::open(options, resume, handle) {
        Ok(site) => site,
        Err(TensorError::NoDevice { device, reason }) => {
            return say(&Message::Refused { device, reason });
        }
        Err(error) => {
            let why = format!("the device could not be opened: {error}");
            return say(&Message::GaveUp { why });
        }
    };
    say(&Message::Facts(site.facts.clone()))?;
    for (item, work) in items(options).iter().enumerate().skip(resume.first) {
        say(&Message::Begun { item })?;
        let began = Instant::now();
        let outcome = attempt(work, &mut site, tell);
        let has_failed = matches!(outcome, Outcome::Failed { .. });
        say(&Message::Ended {
            item,
            took_s: began.elapsed().as_secs_f64(),
            outcome,
        })?;
        if has_failed && !site.answers() {
            let why = "the device no longer answers".to_owned();
            return say(&Message::GaveUp { why });
        }
    }
    say(&Message::Done)
}

/// Does one item, whatever comes of it.
fn attempt(item: &Item, site: &mut Site, tell: Tell) -> Outcome {
    if Instant::now() + Duration::from_secs_f64(item.most_s) > site.deadline {
        return Outcome::NotRun {
            reason: "out of time".to_owned(),
        };
    }
    // Unwind safety: a panic leaves a model or less behind, and each item makes its buffers anew.
    let result = catch_unwind(AssertUnwindSafe(|| (item.work)(site)));
    let failed = |message| Outcome::Failed { message };
    match result {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => failed(tell(error.as_ref())),
        Err(panic) => failed(format!("panicked: {}", message_of(panic.as_ref()))),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    text.or(owned).unwrap_or("it did not say why")
}

fn say(message: &Message) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(message)?)?;
    out.flush()
}
