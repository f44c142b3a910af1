//! The lines that are for the program and not for the model: `/help`, `/stats` and so on.

use super::message;

/// A line that begins with a slash.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help,
    Stats,
    Clear,
    /// Show the system prompt, set it, or with `none` have none.
    System(Option<String>),
    Retry,
    Undo,
    /// Show the sampling parameters, or set one.
    Set(Option<(String, String)>),
    Save(String),
    Exit,
}

/// A whole message, with what it is for.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Blank,
    /// For the model.
    Message(String),
    /// For the program.
    Command(Command),
    /// For the program, which does not know it; what to say.
    Unknown(String),
}

/// Names, argument, meaning.
const COMMANDS: [(&[&str], &str, &str); 9] = [
    (&["/help", "/?"], "", "show this"),
    (
        &["/stats"],
        "",
        "time to first token, tokens per second and token counts of the last answer; how full the context is",
    ),
    (
        &["/clear", "/reset"],
        "",
        "forget the conversation; the system prompt stays",
    ),
    (
        &["/system"],
        "[TEXT]",
        "set the system prompt, `none` for none; without TEXT show it",
    ),
    (&["/retry"], "", "answer the last message again"),
    (&["/undo"], "", "take back the last message and its answer"),
    (
        &["/set"],
        "[NAME VALUE]",
        "set temperature, top-p, top-k, max-tokens or seed, `default` for the default; without NAME show them",
    ),
    (
        &["/save"],
        "FILE",
        "write the conversation to FILE as JSON, in the form of OpenAI's messages",
    ),
    (&["/exit", "/quit", "/bye"], "", "leave, as Ctrl-D does"),
];

impl Line {
    /// What `typed`, a whole message, is for.
    pub(super) fn of(typed: &str) -> Self {
        let text = message::text(typed);
        if text.trim().is_empty() {
            return Self::Blank;
        }
        if message::is_quoted(typed) || !text.starts_with('/') {
            return Self::Message(text);
        }
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        match command(name, argument.trim()) {
            Ok(command) => Self::Command(command),
            Err(problem) => Self::Unknown(problem),
        }
    }
}

fn command(name: &str, argument: &str) -> Result<Command, String> {
    let Some((names, expected, _)) = COMMANDS.iter().find(|(names, ..)| names.contains(&name))
    else {
        let known: Vec<&str> = names().collect();
        return Err(format!(
            "no command {name}; there are {}. A message that begins with a slash goes between \"\"\" and \"\"\"",
            known.join(", ")
        ));
    };
    let given = (!argument.is_empty()).then(|| argument.to_owned());
    let no_argument = |command| match &given {
        None => Ok(command),
        Some(argument) => Err(format!("{name} takes no argument, found {argument:?}")),
    };
    match names[0] {
        "/help" => no_argument(Command::Help),
        "/stats" => no_argument(Command::Stats),
        "/clear" => no_argument(Command::Clear),
        "/system" => Ok(Command::System(given)),
        "/retry" => no_argument(Command::Retry),
        "/undo" => no_argument(Command::Undo),
        "/set" => match argument.split_whitespace().collect::<Vec<_>>()[..] {
            [] => Ok(Command::Set(None)),
            [name, value] => Ok(Command::Set(Some((name.to_owned(), value.to_owned())))),
            _ => Err(format!("/set: expected {expected}, found {argument:?}")),
        },
        "/save" => given
            .map(Command::Save)
            .ok_or_else(|| format!("/save: expected {expected}")),
        _ => no_argument(Command::Exit),
    }
}

/// Every name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS
        .iter()
        .flat_map(|(names, ..)| names.iter().copied())
}

/// What `/help` shows.
pub(super) fn help() -> String {
    let rows = COMMANDS.iter().map(|(names, argument, meaning)| {
        let left = format!("{} {argument}", names.join(", "));
        format!("{left:<24} {meaning}\n")
    });
    let keys = "\n\
        \"\"\"                      opens a message of several lines, and closes it\n\
        \\ at a line's end        goes on with the next line\n\
        Ctrl-C                   stops an answer; what was said of it stays in the conversation\n\
        Ctrl-D                   leaves\n";
    rows.collect::<String>() + keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_the_model_unless_it_begins_with_a_slash() {
        let message = |text: &str| Line::Message(text.to_owned());
        for (typed, line) in [
            ("", Line::Blank),
            (" \t", Line::Blank),
            ("\"\"\"\n\"\"\"", Line::Blank),
            ("Hello", message("Hello")),
            (" /help", message(" /help")),
            ("\"\"\"/help\"\"\"", message("/help")),
            ("/help", Line::Command(Command::Help)),
            ("/? ", Line::Command(Command::Help)),
            ("/reset", Line::Command(Command::Clear)),
            ("/system", Line::Command(Command::System(None))),
            (
                "/system \"\"\"\nBe brief.\nBe kind.\n\"\"\"",
                Line::Command(Command::System(Some("Be brief.\nBe kind.".into()))),
            ),
            ("/set", Line::Command(Command::Set(None))),
            (
                "/set top-p  0.9",
                Line::Command(Command::Set(Some(("top-p".into(), "0.9".into())))),
            ),
            (
                "/save a b.json",
                Line::Command(Command::Save("a b.json".into())),
            ),
            ("/bye", Line::Command(Command::Exit)),
        ] {
            assert_eq!(Line::of(typed), line, "{typed:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_with_what_is() {
        for (typed, expected) in [
            ("/hepl", "no command /hepl; there are /help, /?, /stats"),
            ("/stats now", "/stats takes no argument, found \"now\""),
            ("/set temperature", "expected [NAME VALUE]"),
            ("/save", "expected FILE"),
        ] {
            match Line::of(typed) {
                Line::Unknown(problem) => assert!(problem.contains(expected), "{problem}"),
                line => panic!("{typed:?} is {line:?}"),
            }
        }
    }

    #[test]
    fn every_command_is_helped_with_and_runs() {
        let help = help();
        for name in names() {
            assert!(help.contains(name), "{name}");
            let argument = if name == "/save" { "f" } else { "" };
            assert!(command(name, argument).is_ok(), "{name}");
        }
    }
}
