//! `maitre chat` as a script sees it: a conversation is piped in, answers and what commands show come out.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::generate::without_template;
use super::{maitre, model_directory, stderr, stdout};

const ORDER: &str = "I would like to order a large latte with oat milk.";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maitre"));
    command
        .args(["chat", "--temperature", "0"])
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> Child {
    command(arguments).spawn().unwrap()
}

/// What a chat says to `input`, and to the end of it.
fn run(arguments: &[&str], input: &str) -> Output {
    answered(start(arguments), input)
}

fn answered(mut child: Child, input: &str) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    // A chat that ends by itself does not read everything.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// What a chat without failures puts out.
fn chat(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The numbers of the lines of `/stats` that begin with `name`, in order.
fn figures(said: &str, name: &str) -> Vec<Vec<u64>> {
    let lines = said.lines().filter(|line| line.starts_with(name));
    let numbers = |line: &str| {
        let words = line.split(|c: char| !c.is_ascii_digit());
        words.filter_map(|word| word.parse().ok()).collect()
    };
    lines.map(numbers).collect()
}

pub(crate) fn generated(prompt: &str) -> Value {
    let fixed = ["generate", "--temperature", "0", "--json", "--prompt"];
    serde_json::from_str(&stdout(&maitre(&[&fixed[..], &[prompt]].concat()))).unwrap()
}

#[test]
fn a_message_is_answered_as_generate_answers_it() {
    let alone = generated(ORDER);
    // The end of the input ends the last message.
    assert_eq!(
        chat(&[], ORDER),
        format!("{}\n", alone["text"].as_str().unwrap())
    );
    let said = chat(&[], &format!("{ORDER}\n/stats\n"));
    let usage = &alone["usage"];
    assert_eq!(
        figures(&said, "prompt"),
        [[usage["prompt_tokens"].as_u64().unwrap(), 0]]
    );
    let answer = usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(figures(&said, "answer"), [[answer]]);
    assert!(said.contains("ended by stop"), "{said}");
    assert_eq!(figures(&said, "time to first token").len(), 1, "{said}");
    assert_eq!(figures(&said, "tokens per second").len(), 1, "{said}");
    assert_eq!(chat(&[], "\n \n"), "");
}

#[test]
fn what_was_said_before_reaches_the_model() {
    let said = chat(&[], &format!("{ORDER}\n/stats\nYes, please.\n/stats\n"));
    let (prompts, answers) = (figures(&said, "prompt"), figures(&said, "answer"));
    let ([first, _], [second, cached]) = (&prompts[0][..], &prompts[1][..]) else {
        panic!("{said}");
    };
    assert!(*second > first + answers[0][0], "{said}");
    assert!(
        *cached >= 16,
        "the prefix cache knows the first turn: {said}"
    );
    // The answer's stop token is the template's too, so the conversation is about what its prompt and answer were.
    let context = figures(&said, "context");
    assert_eq!(context[1][1], 2048);
    assert!(context[1][0].abs_diff(second + answers[1][0]) < 4, "{said}");
}

#[test]
fn the_conversation_can_be_changed() {
    let input = [
        ORDER,
        "/stats", // 0
        "/clear",
        ORDER,
        "/stats", // 1: as 0
        "Yes, please.",
        "/stats", // 2
        "/undo",
        "Yes, please.",
        "/stats", // 3: as 2
        "/retry",
        "/stats", // 4: as 2
        "/system Be brief.",
        "/retry",
        "/stats", // 5: longer than 2
        "/system none",
        "/retry",
        "/stats", // 6: as 2
    ];
    let said = chat(&[], &input.join("\n"));
    let prompts: Vec<u64> = figures(&said, "prompt").iter().map(|it| it[0]).collect();
    assert_eq!(prompts[0], prompts[1], "{said}");
    assert!(prompts[1] < prompts[2], "{said}");
    assert_eq!(prompts[2..5], [prompts[2]; 3], "{said}");
    assert!(prompts[5] > prompts[2], "{said}");
    assert_eq!(prompts[6], prompts[2], "{said}");
    let with_flag = chat(
        &["--system", "Be brief."],
        &format!("{ORDER}\n/stats\n/system\n"),
    );
    assert!(
        figures(&with_flag, "prompt")[0][0] > prompts[0],
        "{with_flag}"
    );
    assert!(with_flag.ends_with("\nBe brief.\n"), "{with_flag}");
}

#[test]
fn help_and_settings_are_shown_and_exit_leaves() {
    let said = chat(&[], "/help\n/exit\n/stats\n");
    for expected in [
        "/stats",
        "/clear, /reset",
        "/system [TEXT]",
        "Ctrl-C",
        "\"\"\"",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(
        !said.contains("of 2048 tokens"),
        "nothing after /exit: {said}"
    );
    let said = chat(
        &["--top-k", "3"],
        &format!("/set max-tokens 2\n/set seed 9\n/set\n{ORDER}\n/stats\n"),
    );
    for expected in [
        "temperature  0\n",
        "top-p        default\n",
        "top-k        3\n",
        "seed         9\n",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(figures(&said, "answer"), [[2]]);
    assert!(said.contains("ended by length"), "{said}");
}

#[test]
fn what_is_no_command_is_told_and_not_sent() {
    for (line, expected) in [
        (
            "/hepl",
            &["error: no command /hepl", "/help", "/stats", "/exit"][..],
        ),
        ("/retry", &["error: /retry: there is no message"]),
        ("/undo", &["error: /undo"]),
        ("/set temperature hot", &["expected a number", "\"hot\""]),
        ("/set temperature -1", &["sampling.temperature"]),
        ("/set heat 1", &["no parameter heat", "top-p"]),
        ("/save /no/such/folder/file", &["could not be written"]),
    ] {
        let output = run(&[], &format!("{line}\n/stats\n"));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for expected in expected {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let out = stdout(&output);
        assert!(out.starts_with("no message was answered yet\n"), "{out}");
        assert!(out.contains(" 0 of 2048 tokens"), "{out}");
    }
}

#[test]
fn several_lines_can_be_one_message() {
    let text = "I would like\nto order\na latte.";
    let expected = generated(text)["usage"]["prompt_tokens"].as_u64().unwrap();
    for input in [
        "\"\"\"\nI would like\nto order\na latte.\n\"\"\"\n/stats\n",
        "I would like\\\nto order\\\na latte.\n/stats\n",
    ] {
        let said = chat(&[], input);
        assert_eq!(figures(&said, "prompt"), [[expected, 0]], "{said}");
    }
}

#[test]
fn a_conversation_is_saved_as_messages() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("chat.json");
    let file = file.to_str().unwrap();
    let input = format!("{ORDER}\n/save {file}\n/save {file}\n");
    let output = run(&["--system", "Be brief."], &input);
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let messages = saved["messages"].as_array().unwrap();
    let roles: Vec<_> = messages
        .iter()
        .map(|it| it["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(messages[1]["content"], ORDER);
    let answer = messages[2]["content"].as_str().unwrap();
    assert_eq!(stdout(&output), format!("{answer}\n"));
    let said = stderr(&output);
    assert!(
        said.contains("could not be written"),
        "no file is overwritten: {said}"
    );
}

#[test]
fn a_full_context_is_told_and_nothing_is_lost() {
    let short = ["--max-model-len", "64"];
    let long = [ORDER; 8].join(" ");
    let output = run(
        &short,
        &format!("{ORDER}\n{long}\n/stats\n/clear\n{ORDER}\n"),
    );
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the context of 64 has no space left"),
        "{said}"
    );
    assert!(said.contains("/clear forgets the conversation"), "{said}");
    let out = stdout(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.first(), lines.last(), "{out}");
    // The first exchange is still there.
    let context = figures(&out, "context");
    assert!(context[0][0] > 20 && context[0][1] == 64, "{out}");
    let alone = run(&short, &long);
    assert!(stderr(&alone).contains("shorten it"), "{}", stderr(&alone));

    let cut = run(&[&short[..], &["--ignore-eos"]].concat(), ORDER);
    let said = stderr(&cut);
    assert!(cut.status.success(), "{said}");
    assert!(said.contains("the context of 64 tokens is full"), "{said}");
    // More tokens than are left are no mistake of the message's.
    let asked = ["--max-tokens", "1000", "--ignore-eos"];
    let cut = run(&[&short[..], &asked].concat(), ORDER);
    assert!(stderr(&cut).contains("the context of 64 tokens is full"));
}

#[test]
fn a_model_without_a_template_goes_on_from_each_line() {
    let folder = model_directory(&maitre_bundled::DRAFT);
    without_template(folder.path());
    let model = ["--model", folder.path().to_str().unwrap()];
    let short = [&model[..], &["--max-tokens", "8"]].concat();
    let story = "Once upon a time\n/stats\n";
    let output = run(&short, &story.repeat(2));
    let said = stderr(&output);
    assert_eq!(
        said.matches("the model has no chat template").count(),
        1,
        "{said}"
    );
    assert_eq!(
        said.matches("the answer ends here, at 8 tokens").count(),
        2,
        "{said}"
    );
    let out = stdout(&output);
    assert_eq!(
        figures(&out, "prompt")
            .iter()
            .map(|it| it[0])
            .collect::<Vec<_>>(),
        [4, 4],
        "{out}"
    );
    assert_eq!(out.matches(out.lines().next().unwrap()).count(), 2, "{out}");
    let refused = run(&[&model[..], &["--system", "x"]].concat(), "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--system: the model has no chat template"));
    // The same by choice.
    let raw = run(&["--raw", "--max-tokens", "8"], story);
    assert!(stdout(&raw).starts_with(','), "{}", stdout(&raw));
    assert!(
        !stderr(&raw).contains("no chat template"),
        "{}",
        stderr(&raw)
    );
}

#[cfg(unix)]
fn kill(signal: &str, child: &Child) {
    let id = child.id().to_string();
    let killed = Command::new("kill").args([signal, &id]).status();
    assert!(killed.unwrap().success());
}

/// A chat in the middle of an answer of some 2,000 tokens, on the slowest kernels there are.
#[cfg(unix)]
fn answering() -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_maitre"))
        .args([
            "chat",
            "--temperature",
            "0",
            "--ignore-eos",
            "--speculate",
            "off",
        ])
        .env("MAITRE_CPU", "portable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(stdin, "{ORDER}").unwrap();
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    child
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_an_answer_and_not_the_chat() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("chat.json");
    let mut child = answering();
    kill("-INT", &child);
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(
        stdin,
        "/stats\n/save {}\n/set max-tokens 1\nThanks.\n/stats",
        file.display()
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("ended by interrupted"), "{said}");
    let answers = figures(&said, "answer");
    assert!((1..1500).contains(&answers[0][0]), "{answers:?}");
    assert_eq!(answers[1], [1]);
    // What came of the answer is part of the conversation, unmarked.
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let kept = saved["messages"][1]["content"].as_str().unwrap();
    // The test has read its first byte.
    assert!(
        !kept.is_empty() && said.starts_with(&kept[1..]),
        "{kept:?}: {said}"
    );
    let prompts = figures(&said, "prompt");
    assert!(prompts[1][0] > prompts[0][0], "{said}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_chat() {
    let child = answering();
    kill("-TERM", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    // While no answer streams, also that of Ctrl-C.
    let mut child = start(&[]);
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(stdin, "/stats").unwrap();
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    kill("-INT", &child);
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
}

#[test]
fn the_flags_of_generate_are_those_of_chat() {
    let refused = run(&["--max-seqs", "0"], "");
    assert_eq!(refused.status.code(), Some(2));
    let both = run(&["--raw", "--system", "x"], "");
    assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
    let missing = run(&["--model", "./no/such/model"], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("does not exist"));
}

/// The page shows a terminal; what was typed there is piped in here.
#[test]
fn the_chat_on_the_page_is_what_is_said() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/guide/chat.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, shown) = page.split_once("-- chat --temperature 0\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    // What is typed, and what is said to it.
    let turns = shown.split(">>> ").skip(1).map(|turn| {
        let quoted = turn
            .strip_prefix("\"\"\"\n")
            .and_then(|rest| rest.find("\"\"\"\n"));
        let typed = quoted.map_or_else(|| turn.find('\n').unwrap() + 1, |inner| inner + 8);
        turn.split_at(typed)
    });
    let (typed, answers): (String, String) = turns.unzip();
    // Kernels of one kind of processor round elsewhere than those of another, and what is said may follow.
    let mut command = command(&["--device", "cpu", "--dtype", "bf16"]);
    let output = answered(
        command.env("MAITRE_CPU", "portable").spawn().unwrap(),
        &typed,
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let lines = |text: &str| -> Vec<String> {
        // A terminal shows more, and times are never the same.
        let others = [
            "",
            "time to first token",
            "tokens per second",
            "taken back: ",
        ];
        let is_other = |line: &&str| {
            others
                .iter()
                .any(|it| *line == *it || (!it.is_empty() && line.starts_with(it)))
        };
        text.lines()
            .filter(|line| !is_other(line))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines(&answers), lines(&said));
    assert_eq!(lines(&said).len(), 6, "{said}");
}
