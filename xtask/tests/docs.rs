//! The pages agree with the repository: links lead somewhere, files that are named exist, every lesson is in the
//! lists, and snippets of Python are whole programs. What the program itself says is compared with the pages in
//! `crates/maitre/tests/cli/pages.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tree::{files, root};

mod tree;

/// Files that pages name and that are made, not kept.
const MADE: [&str; 10] = [
    "chat.py",
    "client.py",
    "gpu-check.json",
    "gpu-check.md",
    "maitre.toml",
    "openapi.json",
    "report.json",
    "report.svg",
    "speculation.json",
    "speculation.md",
];

/// Files of a model's directory.
const OF_MODELS: [&str; 7] = [
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors.index.json",
];

/// Fields of requests that look like files.
const FIELDS: [&str; 1] = ["structured_outputs.json"];

/// A page: where it is, what it says outside of fenced blocks, and these, each under its language.
struct Page {
    path: PathBuf,
    prose: String,
    blocks: Vec<(String, String)>,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let (mut prose, mut blocks) = (String::new(), Vec::new());
        let mut block: Option<(String, String)> = None;
        for line in text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut block, fence) {
                (None, Some(language)) => block = Some((language.to_owned(), String::new())),
                (Some(_), Some(_)) => blocks.extend(block.take()),
                (Some((_, code)), None) => *code += &format!("{line}\n"),
                (None, None) => prose += &format!("{line}\n"),
            }
        }
        assert!(block.is_none(), "{} ends in a block", path.display());
        Self {
            path,
            prose,
            blocks,
        }
    }

    fn name(&self) -> String {
        let path = self.path.strip_prefix(root()).unwrap();
        path.display().to_string()
    }

    /// What links lead to, local ones only.
    fn links(&self) -> Vec<&str> {
        let links = self.prose.split("](").skip(1);
        let targets = links.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        targets.filter(|target| !target.contains("://")).collect()
    }

    /// The anchors of its headings.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        let anchor = |line: &str| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }
}

fn pages() -> Vec<Page> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|it| it == "md");
    let pages: Vec<Page> = files()
        .into_iter()
        .filter(is_page)
        .map(Page::read)
        .collect();
    assert!(pages.len() > 30, "only {} pages found", pages.len());
    pages
}

#[track_caller]
fn assert_none(offenders: &[String], rule: &str) {
    assert!(
        offenders.is_empty(),
        "{rule}:\n  {}",
        offenders.join("\n  ")
    );
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let anchors: BTreeMap<PathBuf, BTreeSet<String>> = pages
        .iter()
        .map(|page| (page.path.canonicalize().unwrap(), page.anchors()))
        .collect();
    let mut broken = Vec::new();
    for page in &pages {
        for link in page.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.path.clone(),
                file => page.path.parent().unwrap().join(file),
            };
            let found = target.canonicalize().is_ok_and(|target| {
                let known = anchors.get(&target);
                anchor.is_empty() || known.is_none_or(|known| known.contains(anchor))
            });
            if !found {
                broken.push(format!("{}: {link}", page.name()));
            }
        }
    }
    assert_none(
        &broken,
        "every link leads to a file, and to a heading of it",
    );
}

/// In sources too: a comment that sends its reader to a page is a link.
#[test]
fn pages_that_sources_name_exist() {
    let mut broken = Vec::new();
    for path in files() {
        let is_source = path
            .extension()
            .is_some_and(|it| it == "rs" || it == "toml" || it == "proto" || it == "py");
        if !is_source {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let words = text.split(|c: char| c.is_whitespace() || "`\"()<>,;".contains(c));
        for word in words.filter(|word| {
            word.starts_with("docs/") && word.ends_with(".md") && !word.contains('{')
        }) {
            if !root().join(word).exists() {
                broken.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert_none(&broken, "a page that a comment names exists");
}

#[test]
fn files_that_pages_name_exist() {
    let files: Vec<String> = files()
        .into_iter()
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    let exists = |name: &str| {
        let end = format!("/{name}");
        files
            .iter()
            .any(|file| file == name || file.ends_with(&end))
    };
    let endings = [
        ".rs", ".proto", ".py", ".cu", ".cuh", ".toml", ".json", ".md", ".yml", ".svg",
    ];
    let mut absent = Vec::new();
    for page in pages() {
        // What changed once is not what is.
        if page.name() == "CHANGELOG.md" {
            continue;
        }
        for word in page.prose.split('`').skip(1).step_by(2) {
            let bare = word.rsplit('/').next().unwrap_or(word);
            let is_name = endings
                .iter()
                .any(|end| bare.ends_with(end) && bare != *end)
                && !word.contains(|c: char| c.is_whitespace() || "*<$~".contains(c));
            let is_no_file = [&MADE[..], &OF_MODELS, &FIELDS]
                .iter()
                .any(|names| names.contains(&bare));
            if !is_name || is_no_file {
                continue;
            }
            let absent_here = alternatives(word).into_iter().filter(|name| !exists(name));
            absent.extend(absent_here.map(|name| format!("{}: {name}", page.name())));
        }
    }
    assert_none(&absent, "a file that a page names is in the repository");
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn alternatives(name: &str) -> Vec<String> {
    let braces = name
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (choices, after))) = braces else {
        return vec![name.to_owned()];
    };
    let choices = choices.split(',').map(str::trim);
    choices.map(|it| format!("{before}{it}{after}")).collect()
}

/// Names of the files in a folder that end so, without the ending.
fn stems(folder: &str, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .collect()
}

/// Names of the programs in a folder: Rust files, and folders with a `main.rs`.
fn programs_in(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let entries = entries.map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().join("main.rs").is_file());
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    names.chain(stems(folder, ".rs")).collect()
}

/// What a command prints is put in place of such a mark.
#[test]
fn no_page_has_a_place_that_is_to_be_filled() {
    let marks = ["@@", "TODO", "TBD"];
    let pages = pages();
    let marked = pages.iter().flat_map(|page| {
        let code = page.blocks.iter().map(|(_, code)| code.as_str());
        let texts: Vec<&str> = code.chain([page.prose.as_str()]).collect();
        let found = marks
            .iter()
            .filter(move |mark| texts.iter().any(|text| text.contains(**mark)));
        found.map(|mark| format!("{}: {mark}", page.name()))
    });
    assert_none(&marked.collect::<Vec<_>>(), "a page is whole");
}

#[test]
fn every_page_is_in_the_summary_and_every_lesson_in_the_index() {
    let book = root().join("docs/src");
    let read = |name: &str| Page::read(book.join(name));
    let (summary, index) = (read("SUMMARY.md"), read("index.md"));
    let mut missing = Vec::new();
    for page in pages() {
        let Ok(path) = page.path.strip_prefix(&book) else {
            continue;
        };
        let path = path.to_str().unwrap();
        if path == "SUMMARY.md" {
            continue;
        }
        if !summary.links().contains(&path) {
            missing.push(format!("SUMMARY.md: {path}"));
        }
        if path != "index.md" && !index.links().contains(&path) {
            missing.push(format!("index.md: {path}"));
        }
    }
    assert_none(&missing, "a page that no list has is not found");
}

#[test]
fn every_lesson_is_a_page_and_a_program() {
    let is_lesson = |name: &String| name.starts_with("day") || name.starts_with("lesson");
    let programs = programs_in("examples");
    let lessons: BTreeSet<String> = programs
        .iter()
        .filter(|name| is_lesson(name))
        .cloned()
        .collect();
    assert_eq!(lessons, stems("docs/src/lessons", ".md"));
    assert!(lessons.len() > 5);
    let manifest = std::fs::read_to_string(root().join("examples/Cargo.toml")).unwrap();
    let mut missing = Vec::new();
    for program in &programs {
        if !manifest.contains(&format!("name = \"{program}\"")) {
            missing.push(format!("examples/Cargo.toml: {program}"));
        }
    }
    for lesson in &lessons {
        let page = root().join(format!("docs/src/lessons/{lesson}.md"));
        let command = format!("--example {lesson}");
        if !std::fs::read_to_string(page).unwrap().contains(&command) {
            missing.push(format!("{lesson}.md does not say how to run it"));
        }
    }
    for page in pages() {
        let blocks = page.blocks.iter().map(|(_, code)| code.as_str());
        let all = blocks.collect::<String>() + &page.prose;
        let named = all.split("--example ").skip(1).map(|rest| {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            rest.chars().take_while(|c| is_part(*c)).collect::<String>()
        });
        for name in named.filter(|name| !name.is_empty()) {
            let folders = ["benches/examples", "crates/maitre-sim/examples"];
            let is_there = |folder: &&str| programs_in(folder).contains(&name);
            if !programs.contains(&name) && !folders.iter().any(is_there) {
                missing.push(format!("{}: --example {name}", page.name()));
            }
        }
    }
    assert_none(&missing, "what a page says to run can be run");
}

/// Reads a program and says which names it uses and has not: Python's own parser knows.
const CHECK_PYTHON: &str = r"
import ast, builtins, sys
tree = ast.parse(sys.stdin.read())
known = set(dir(builtins))
for node in ast.walk(tree):
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        known.update((a.asname or a.name).split('.')[0] for a in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        known.add(node.id)
    elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        known.add(node.name)
    elif isinstance(node, ast.arg):
        known.add(node.arg)
    elif isinstance(node, ast.ExceptHandler) and node.name:
        known.add(node.name)
used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
print(' '.join(sorted(used - known)))
";

#[test]
fn python_on_the_pages_is_whole_programs() {
    let snippets: Vec<(String, String)> = pages()
        .into_iter()
        .flat_map(|page| {
            let name = page.name();
            let python = page
                .blocks
                .into_iter()
                .filter(|(language, _)| language == "python");
            python.map(move |(_, code)| (name.clone(), code))
        })
        .collect();
    assert!(snippets.len() >= 5, "only {} found", snippets.len());
    let mut wrong = Vec::new();
    for (page, code) in snippets {
        let title = code.lines().next().unwrap_or_default().to_owned();
        let started = Command::new("python3")
            .args(["-c", CHECK_PYTHON])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut python) = started else {
            println!("skipped: there is no python3");
            return;
        };
        let mut stdin = python.stdin.take().unwrap();
        stdin.write_all(code.as_bytes()).unwrap();
        drop(stdin);
        let output = python.wait_with_output().unwrap();
        let unknown = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            wrong.push(format!("{page}, {title}: {why}"));
        } else if !unknown.is_empty() {
            wrong.push(format!("{page}, {title}: without {unknown}"));
        }
    }
    assert_none(&wrong, "a snippet of Python runs alone");
}
