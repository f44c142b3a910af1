//! `maitre chat`: the model in the terminal.
//!
//! [`input`] reads whole messages ([`message`]), [`commands`] tells those for the program from those for the model, and
//! [`session`] carries both out on a [`conversation`]. Text that is piped in takes the same way, so that a chat can be
//! scripted and tested.

mod answer;
mod commands;
mod conversation;
mod input;
mod message;
mod session;
mod settings;
mod stats;
mod terminal;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use maitre::server::Startup;

use self::input::{Entered, Input};
use self::session::{Next, Session};
use self::settings::Settings;
use self::terminal::TerminalSettings;
use super::model::ModelArgs;
use super::sampling::SamplingArgs;
use super::signals::Signals;

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The system prompt [default: none, or what the model's chat template has].
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Go on from each message as it stands, without chat template and conversation, as with a model that has no
    /// template; control tokens in it count.
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Keep what is typed in this file, for the arrow keys of the next chat [default: not kept].
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// A TOML file of flags; flags given by hand override it.
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "read before parsing, see config_file")]
    config: Option<PathBuf>,
}

pub(crate) async fn run(args: ChatArgs, startup: &Startup, signals: &Signals) -> Result<()> {
    let engine = args.model.engine(startup).await?;
    let mut input = Input::open(args.history)?;
    let is_terminal = input.is_terminal();
    let settings = Settings::new(args.sampling, args.model.seed);
    let mut session = Session::new(engine, settings, args.system, args.raw, is_terminal)?;
    // A terminal sends SIGINT between two answers too: it is no reason to lose the conversation.
    let mut interrupts = is_terminal.then(|| signals.interrupts());
    if let Some(settings) = TerminalSettings::now().filter(|_| is_terminal) {
        signals.at_end(move || settings.restore());
    }
    session.greet()?;
    loop {
        // All that goes on meanwhile is on other threads.
        let typed = match tokio::task::block_in_place(|| input.next())? {
            Entered::Typed(typed) => typed,
            Entered::Interrupted => {
                writeln!(std::io::stdout(), "(Ctrl-D or /exit leaves)")?;
                continue;
            }
            Entered::End => break,
        };
        let mut of_this_answer;
        let interrupts = match &mut interrupts {
            Some(interrupts) => interrupts,
            None => {
                of_this_answer = signals.interrupts();
                &mut of_this_answer
            }
        };
        interrupts.forget();
        if session.take(&typed, interrupts).await? == Next::Leave {
            break;
        }
    }
    let failed = session.failed();
    ensure!(
        is_terminal || failed == 0,
        "{failed} of the messages and commands failed"
    );
    Ok(())
}
