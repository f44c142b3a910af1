//! `maitre chat` as a person sees it: on a terminal, which `script` makes, with the bytes that its keys send.
#![cfg(target_os = "linux")]

use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::chat::generated;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";
const ENTER: &str = "\r";
/// The terminal is told to mark what is pasted: from here on the keys are the editor's.
const EDITING: &str = "\x1b[?2004h";
/// And no more.
const NO_MORE: &str = "\x1b[?2004l";

/// A chat on a terminal of its own, killed with the test that started it.
struct Terminal {
    child: Child,
    screen: BufReader<ChildStdout>,
}

impl Terminal {
    /// `None`, and a word about it, where there is no `script`.
    fn start(arguments: &str) -> Option<Self> {
        let program = env!("CARGO_BIN_EXE_maitre");
        // The shell lives through Ctrl-C, and tells at the end what the chat has left the terminal like.
        let chat = format!("'{program}' chat --temperature 0 {arguments}");
        let command = format!("trap : INT; {chat}; code=$?; stty -a; exit $code");
        let started = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env("MAITRE_CPU", "portable")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else {
            println!("skipped: there is no `script` to make a terminal");
            return None;
        };
        let screen = BufReader::new(child.stdout.take().unwrap());
        let mut terminal = Self { child, screen };
        terminal.until(EDITING);
        Some(terminal)
    }

    fn send(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
    }

    /// What is written up to and with `expected`.
    fn until(&mut self, expected: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(expected.as_bytes()) {
            let mut byte = [0];
            let read = self.screen.read(&mut byte).unwrap();
            let so_far = String::from_utf8_lossy(&seen);
            assert_ne!(read, 0, "it ended, and {expected:?} did not come: {so_far}");
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Sends a line, and returns what is written until the next can be edited.
    fn enter(&mut self, line: &str) -> String {
        self.send(line);
        self.send(ENTER);
        self.until(EDITING)
    }

    /// The id of the chat's process: `script` runs a shell, and that the chat.
    fn chat_id(&self) -> String {
        let child_of = |id: &str| {
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            children.unwrap().trim().to_owned()
        };
        child_of(&child_of(&self.child.id().to_string()))
    }

    /// Expects the end, with this exit code and a terminal that edits lines by itself again.
    fn ends_with(mut self, code: i32) {
        let mut rest = String::new();
        self.screen.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{rest}");
        assert!(
            rest.contains(" icanon") && rest.contains(" echo "),
            "{rest}"
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lines_are_edited_and_a_paste_is_one_message() {
    let Some(mut chat) = Terminal::start("") else {
        return;
    };
    chat.send(&format!("never mind{CTRL_C}"));
    let hint = chat.until(EDITING);
    assert!(hint.contains("Ctrl-D or /exit leaves"), "{hint}");
    let text = "I would like\nto order a latte.";
    chat.enter(&format!("\x1b[200~{}\x1b[201~", text.replace('\n', "\r")));
    let tokens = generated(text)["usage"]["prompt_tokens"].clone();
    let expected = format!("prompt                {tokens} tokens");
    for keys in ["/stats", UP] {
        let stats = chat.enter(keys);
        assert!(stats.contains(&expected), "{expected:?} is not in {stats}");
    }
    // Lines that come faster than they are answered wait for their turn.
    let stats = chat.enter("/stats\r/stats") + &chat.until(EDITING);
    assert_eq!(stats.matches(&expected).count(), 2, "{stats}");
    // Enter ends no line that a quote is open in.
    chat.send("\"\"\"I would like\rto order a latte.\"\"\"");
    chat.enter("");
    let saved = chat.enter("/undo");
    assert!(
        saved.contains("taken back: I would like\r\nto order a latte."),
        "{saved}"
    );
    chat.send(CTRL_D);
    chat.ends_with(0);
}

#[test]
fn ctrl_c_stops_an_answer_and_a_signal_leaves_the_terminal_as_it_was() {
    let Some(mut chat) = Terminal::start("--ignore-eos --speculate off") else {
        return;
    };
    chat.send("Hello\r");
    chat.until(NO_MORE);
    chat.until("\n");
    // The answer begins.
    chat.screen.read_exact(&mut [0]).unwrap();
    chat.send(CTRL_C);
    chat.until(EDITING);
    let stats = chat.enter("/stats");
    assert!(stats.contains("ended by interrupted"), "{stats}");
    let killed = Command::new("kill")
        .args(["-TERM", &chat.chat_id()])
        .status();
    assert!(killed.unwrap().success());
    chat.until(NO_MORE);
    chat.ends_with(143);
}
