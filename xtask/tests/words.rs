//! Which words the code and the pages do without.
//!
//! Identifiers are made of the field's terms, so that a reader who knows other engines finds the way. Prose names its
//! subjects. The restaurant of the course stays in the first paragraph of the README and in day 1.

use tree::{files, root};

mod tree;

/// Parts of identifiers that say nothing to a reader who has not taken the course.
const NOT_IN_IDENTIFIERS: [&str; 15] = [
    "cook", "dish", "dishes", "guest", "guests", "house", "kitchen", "meal", "menu", "room",
    "seat", "seats", "tasting", "vitals", "waiter",
];

/// Words that stand where a sentence should name its subject.
const NOT_IN_PROSE: [&str; 5] = ["anybody", "everybody", "nobody", "somebody", "whoever"];

/// Its text is a prompt, on whose length the lesson's figures depend.
const A_PROMPT: &str = "examples/lesson04_prefix_caching.rs";

/// The files with one of these endings, and their texts; day 1, and what is data, left out.
fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for path in files() {
        let name = path.strip_prefix(root()).unwrap_or(&path);
        let name = name.to_string_lossy().into_owned();
        let is_text = endings.iter().any(|ending| name.ends_with(ending));
        // The changelog tells of what was, and this file names the words.
        let is_left_out = name.contains("day01")
            || name == A_PROMPT
            || name == "CHANGELOG.md"
            || name.ends_with("tests/words.rs");
        if is_text
            && !is_left_out
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            texts.push((name, text));
        }
    }
    assert!(texts.len() > 100, "{} files were found", texts.len());
    texts
}

/// Rust without its comments and string literals.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            literal(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            rest.find("\"'").map_or(rest.len(), |end| end + 2)
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of the string literal that a text begins with.
fn literal(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, it)| {
        let ends = it == '"' && !is_escaped;
        is_escaped = it == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The parts of an identifier, in lower case: `StepRunner` and `step_runner` have two.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for letter in identifier.chars() {
        let begins = letter == '_' || (letter.is_uppercase() && was_lower);
        if begins {
            parts.push(String::new());
        }
        was_lower = letter.is_lowercase();
        if letter != '_'
            && let Some(part) = parts.last_mut()
        {
            part.extend(letter.to_lowercase());
        }
    }
    parts
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|it: char| !(it.is_alphanumeric() || it == '_'));
    words.filter(|word| !word.is_empty())
}

#[test]
fn identifiers_are_made_of_the_fields_terms() {
    let mut wrong = Vec::new();
    for (file, text) in texts(&[".rs"]) {
        for (number, line) in code(&text).lines().enumerate() {
            for word in words(line) {
                if parts(word)
                    .iter()
                    .any(|part| NOT_IN_IDENTIFIERS.contains(&part.as_str()))
                {
                    wrong.push(format!("{file}: about line {}: {word}", number + 1));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "use the field's terms:\n  {}",
        wrong.join("\n  ")
    );
}

#[test]
fn sentences_name_their_subjects() {
    let mut wrong = Vec::new();
    for (file, text) in texts(&[".rs", ".md", ".proto", ".toml", ".cu", ".cuh", ".h", ".cpp"]) {
        for (number, line) in text.lines().enumerate() {
            let found =
                words(line).find(|word| NOT_IN_PROSE.contains(&word.to_lowercase().as_str()));
            wrong.extend(found.map(|word| format!("{file}:{}: {word}", number + 1)));
        }
    }
    assert!(
        wrong.is_empty(),
        "name the subject instead:\n  {}",
        wrong.join("\n  ")
    );
}

#[test]
fn the_reader_of_code_skips_comments_and_strings() {
    let text = r##"let a = "guest \" house"; // kitchen
        call('"', b'"', r#"room "of" seats"#); StepRunner::new(x_ROOM)"##;
    let code = code(text);
    let found: Vec<&str> = words(&code).collect();
    assert!(!found.contains(&"guest") && !found.contains(&"kitchen") && !found.contains(&"seats"));
    assert_eq!(parts("StepRunner"), ["step", "runner"]);
    assert_eq!(parts("make_room"), ["make", "room"]);
    assert!(
        found.contains(&"x_ROOM") && found.contains(&"StepRunner"),
        "{found:?}"
    );
}
