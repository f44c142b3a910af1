//! A chat under way: carries out a message or a command at a time, and says what came of it.
//!
//! Answers, and what commands are asked for, go to stdout; what goes wrong goes to stderr and is counted, and the
//! conversation goes on as it was.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Result, ensure};
use maitre::{Engine, FinishReason, GenerateRequest, Input};

use super::answer::{self, Answer, End};
use super::commands::{self, Command, Line};
use super::conversation::Conversation;
use super::settings::Settings;
use super::stats::{Context, Stats};
use crate::cli::signals::Interrupts;

/// Whether the chat goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Leave,
}

pub(super) struct Session {
    engine: Engine,
    settings: Settings,
    conversation: Conversation,
    /// Each message is continued as it stands.
    is_raw: bool,
    is_terminal: bool,
    /// The last message, and after how many exchanges it was asked.
    asked: Option<(String, usize)>,
    stats: Option<Stats>,
    failed: usize,
}

impl Session {
    /// # Errors
    /// A system prompt for a model that can't have one.
    pub(super) fn new(
        engine: Engine,
        settings: Settings,
        system: Option<String>,
        is_raw: bool,
        is_terminal: bool,
    ) -> Result<Self> {
        let has_template = engine.info().has_chat_template;
        ensure!(
            has_template || system.is_none(),
            "--system: the model has no chat template, which would say where a system prompt stands; leave it out"
        );
        if !has_template && !is_raw {
            tracing::warn!(
                "the model has no chat template: it goes on from each message as it stands, without those before it"
            );
        }
        Ok(Self {
            engine,
            settings,
            conversation: Conversation::new(system),
            is_raw: is_raw || !has_template,
            is_terminal,
            asked: None,
            stats: None,
            failed: 0,
        })
    }

    /// Messages and commands that failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    pub(super) fn greet(&self) -> Result<()> {
        let info = self.engine.info();
        self.confirm(format_args!(
            "{} ({:.2} M parameters, {} on {}), {} tokens of context. /help lists the commands, Ctrl-D leaves.",
            info.model,
            info.parameters as f64 / 1e6,
            info.dtype,
            info.device,
            self.context_size(),
        ))
    }

    /// Carries out what was typed.
    ///
    /// # Errors
    /// Only those of stdout and stderr.
    pub(super) async fn take(&mut self, typed: &str, interrupts: &mut Interrupts) -> Result<Next> {
        match Line::of(typed) {
            Line::Blank => {}
            Line::Message(message) => {
                self.ask(message, self.conversation.len(), interrupts)
                    .await?;
            }
            Line::Command(Command::Exit) => return Ok(Next::Leave),
            Line::Command(command) => self.run(command, interrupts).await?,
            Line::Unknown(problem) => self.fail(problem)?,
        }
        Ok(Next::GoOn)
    }

    async fn run(&mut self, command: Command, interrupts: &mut Interrupts) -> Result<()> {
        match command {
            Command::Help => say(commands::help().trim_end()),
            Command::Stats => self.show_stats(),
            Command::Clear => {
                self.conversation.clear();
                self.asked = None;
                self.confirm("the conversation is forgotten")
            }
            Command::System(text) => self.system(text),
            Command::Retry => match self.last_asked() {
                Some((message, before)) => self.ask(message, before, interrupts).await,
                None => self.fail("/retry: there is no message to answer again"),
            },
            Command::Undo => match self.conversation.undo() {
                Some(message) => {
                    self.asked = None;
                    self.confirm(format_args!("taken back: {message}"))
                }
                None => self.fail("/undo: there is nothing to take back"),
            },
            Command::Set(None) => say(&self.settings),
            Command::Set(Some((name, value))) => self.set(&name, &value).await,
            Command::Save(file) => self.save(&file),
            Command::Exit => Ok(()),
        }
    }

    /// Asks `message` after the first `before` exchanges.
    async fn ask(
        &mut self,
        message: String,
        before: usize,
        interrupts: &mut Interrupts,
    ) -> Result<()> {
        self.asked = Some((message.clone(), before));
        let prompt = match self.prompt(&message, before) {
            Ok(prompt) => prompt,
            Err(problem) => return self.fail(problem),
        };
        let prompt_tokens = prompt.len();
        let mut request = GenerateRequest::new(Input::Tokens(prompt));
        self.settings.apply(&mut request);
        let left = self.context_size() - prompt_tokens;
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        request.stopping.max_tokens = self.settings.max_tokens().map(|most| most.min(left));
        let is_terminal = self.is_terminal;
        let mut out = io::stdout().lock();
        let show = |text: &str| {
            if is_terminal {
                out.write_all(printable(text).as_bytes())?;
            } else {
                out.write_all(text.as_bytes())?;
            }
            out.flush()
        };
        let answer = answer::stream(&self.engine, request, interrupts, show).await?;
        if !answer.text.is_empty() && !answer.text.ends_with('\n') {
            writeln!(out)?;
        }
        if is_terminal {
            writeln!(out)?;
        }
        drop(out);
        self.stats = Some(Stats::of(&answer, prompt_tokens));
        self.conclude(message, before, answer)
    }

    /// The tokens of `message` after the first `before` exchanges.
    ///
    /// They are counted here, and not by the engine, to tell of a full context before anything is sent.
    ///
    /// # Errors
    /// What to say of a message that can't be sent.
    fn prompt(&self, message: &str, before: usize) -> Result<Vec<u32>, String> {
        let tokenizer = self.engine.tokenizer();
        let tokens = match self.is_raw {
            true => tokenizer.encode(message),
            false => tokenizer.encode_chat(&self.conversation.asking(before, message)),
        };
        let tokens = tokens.map_err(|error| format!("the message was not sent: {error}"))?;
        let (count, context) = (tokens.len(), self.context_size());
        if count < context {
            return Ok(tokens);
        }
        let advice = match self.is_raw || self.conversation.is_empty() {
            true => "shorten it",
            false => {
                "/clear forgets the conversation, /undo its last exchange, /save keeps it in a file"
            }
        };
        Err(format!(
            "the message was not sent: with what was said before it has {count} tokens, and the context of {context} \
             has no space left for an answer; {advice}"
        ))
    }

    /// Keeps the answer, or says why not.
    fn conclude(&mut self, message: String, before: usize, answer: Answer) -> Result<()> {
        match &answer.end {
            End::Failed(error) => {
                return self.fail(format_args!("{error}; the conversation is as before"));
            }
            End::Finished(_) | End::Interrupted if answer.text.trim().is_empty() => {
                return tell("the answer is empty, and the conversation is as before");
            }
            End::Finished(finished) if finished.reason == FinishReason::Length => {
                let tokens = finished.usage.completion_tokens;
                if self.settings.max_tokens() == Some(tokens) {
                    tell(format_args!("the answer ends here, at {tokens} tokens"))?;
                } else {
                    let context = self.context_size();
                    tell(format_args!(
                        "the answer ends here: the context of {context} tokens is full; /clear forgets the conversation"
                    ))?;
                }
            }
            End::Finished(_) | End::Interrupted => {}
        }
        if !self.is_raw {
            self.conversation.answered(before, message, answer.text);
        }
        Ok(())
    }

    /// What `/retry` asks again.
    fn last_asked(&self) -> Option<(String, usize)> {
        self.asked.clone().or_else(|| {
            let message = self.conversation.last_message()?;
            Some((message.to_owned(), self.conversation.len() - 1))
        })
    }

    fn show_stats(&self) -> Result<()> {
        match &self.stats {
            Some(stats) => say(stats)?,
            None => say("no message was answered yet")?,
        }
        let used = match (self.is_raw, self.conversation.so_far()) {
            (true, _) => None,
            (false, None) => Some(0),
            (false, Some(so_far)) => {
                let tokens = self.engine.tokenizer().encode_chat(&so_far);
                tokens.ok().map(|tokens| tokens.len())
            }
        };
        let size = self.context_size();
        say(Context { used, size })
    }

    fn system(&mut self, text: Option<String>) -> Result<()> {
        if self.is_raw {
            return self.fail("/system: without a chat template there is no system prompt");
        }
        match text.as_deref() {
            None => {
                return say(self
                    .conversation
                    .system
                    .as_deref()
                    .unwrap_or("there is no system prompt"));
            }
            Some("none") => self.conversation.system = None,
            Some(_) => self.conversation.system = text,
        }
        self.confirm("the system prompt holds from the next message on")
    }

    async fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let mut settings = self.settings.clone();
        if let Err(problem) = settings.set(name, value) {
            return self.fail(problem);
        }
        // Out of range is told now, and not with the next message.
        let mut request = GenerateRequest::new(Input::Tokens(vec![0]));
        settings.apply(&mut request);
        if let Some(tokens) = &mut request.stopping.max_tokens {
            // More than fits is cut to what fits.
            *tokens = (*tokens).min(1);
        }
        match self.engine.check(request).await {
            Ok(()) => self.settings = settings,
            Err(error) => return self.fail(format_args!("/set: {error}")),
        }
        self.confirm(format_args!("{name} is {value}"))
    }

    fn save(&mut self, file: &str) -> Result<()> {
        let text = format!("{:#}\n", self.conversation.as_json());
        let written =
            std::fs::File::create_new(file).and_then(|mut to| to.write_all(text.as_bytes()));
        match written {
            Ok(()) => self.confirm(format_args!("written to {file}")),
            Err(error) => self.fail(format_args!("/save: {file} could not be written: {error}")),
        }
    }

    /// Tokens that prompt and answer may have together.
    fn context_size(&self) -> usize {
        let limits = self.engine.info().limits;
        limits.max_model_len.min(limits.kv_tokens())
    }

    /// What only a person who looks on wants to know.
    fn confirm(&self, text: impl Display) -> Result<()> {
        if self.is_terminal { say(text) } else { Ok(()) }
    }

    fn fail(&mut self, problem: impl Display) -> Result<()> {
        self.failed += 1;
        tell(format_args!("error: {problem}"))
    }
}

/// What was asked for.
fn say(text: impl Display) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// What is no part of an answer. Not logged: it is for the person who chats, whatever RUST_LOG says.
fn tell(text: impl Display) -> Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}

/// The text without what would steer the terminal.
fn printable(text: &str) -> String {
    let is_harmless = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(is_harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_does_not_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\u{7}\tb\r\nc\u{9b}1m"), "a[2J\tb\nc1m");
    }
}
