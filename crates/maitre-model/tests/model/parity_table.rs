//! The table of what was compared with transformers in `docs/src/guide/serve.md` is what these tests find.
//!
//! `UPDATE_EXPECT=1 cargo test -p maitre-model --test model parity_table` writes it anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use maitre_model::{Architecture, ModelSource, RunnerConfig, Wrapper};
use maitre_tensor::WeightFormat;

use crate::gguf_families;
use crate::parity_transformers::{Expected, expected, relative_error};
use crate::support::{
    FIXTURES, Host, Part, all_logits, batch, bits, fixture, forward, greedy, options_of, prefill,
    whole_cache,
};

const HEADER: &str =
    "| family | source | whole | chunked | batched | prefix hits | greedy ids | largest error |";
const BLOCK: usize = 16;

/// What was found of a family in a source.
#[derive(Debug, Clone)]
struct Found {
    /// In the order of the columns; `None` is what can't be compared.
    passed: [Option<bool>; 5],
    /// Relative to the largest logit.
    error: f32,
}

impl Found {
    fn and(self, other: &Self) -> Self {
        let both = |at: usize| match (self.passed[at], other.passed[at]) {
            (Some(one), Some(two)) => Some(one && two),
            (one, two) => one.or(two),
        };
        Self {
            passed: std::array::from_fn(both),
            error: self.error.max(other.error),
        }
    }

    fn cells(&self) -> Vec<String> {
        let word = |passed: &Option<bool>| match passed {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        let mut cells: Vec<String> = self.passed.iter().map(|it| word(it).to_owned()).collect();
        cells.push(format!("{:.1e}", self.error));
        cells
    }
}

/// A sequence's logits, computed a few tokens a step beside two other sequences.
fn together(host: &Host, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut runner = host.sized(RunnerConfig::new(60, BLOCK as u32, 64, 3));
    let blocks = whole_cache(&runner);
    let tables: Vec<&[u32]> = blocks.chunks(20).collect();
    let backwards: Vec<u32> = tokens.iter().rev().copied().collect();
    let texts = [backwards.as_slice(), tokens, tokens];
    let mut logits = Vec::new();
    for start in (0..tokens.len()).step_by(6) {
        let end = tokens.len().min(start + 6);
        let parts: Vec<Part<'_>> = (0..3)
            .map(|at| Part {
                tokens: &texts[at][start..end],
                start,
                table: tables[at],
            })
            .collect();
        let batch = batch(&parts, BLOCK);
        forward(&mut runner, &batch);
        let rows = all_logits(&mut runner, batch.output_rows.len());
        logits.extend(rows.into_iter().skip(end - start).take(end - start));
    }
    logits
}

/// The logits behind the first two blocks, which another sequence has computed and gone on from.
fn behind_a_hit(host: &Host, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut runner = host.sized(RunnerConfig::new(60, BLOCK as u32, 128, 1));
    let blocks = whole_cache(&runner);
    let known = 2 * BLOCK;
    let mut others = tokens[..known].to_vec();
    others.extend(tokens[..BLOCK].iter().rev());
    let part = Part {
        tokens: &others,
        start: 0,
        table: &blocks[..20],
    };
    forward(&mut runner, &batch(&[part], BLOCK));
    let table: Vec<u32> = [&blocks[..2], &blocks[30..50]].concat();
    let part = Part {
        tokens: &tokens[known..],
        start: known,
        table: &table,
    };
    forward(&mut runner, &batch(&[part], BLOCK));
    all_logits(&mut runner, tokens.len() - known)
}

fn same(one: &[Vec<f32>], other: &[Vec<f32>]) -> bool {
    bits(&one.concat()) == bits(&other.concat())
}

fn compare(source: &ModelSource, name: &str, expected: &Expected) -> ([String; 2], Found) {
    let host = Host::new(source, &options_of(name), 2);
    let (tokens, dtype) = (&expected.tokens, host.model().dtype());
    let is_wide = dtype == WeightFormat::F32;
    let whole = prefill(&mut host.runner(), tokens, usize::MAX);
    let error = relative_error(&whole, &expected.logits);
    let chunked = [7, 1].map(|chunk| same(&whole, &prefill(&mut host.runner(), tokens, chunk)));
    let prompt = &tokens[..tokens.len() / 2];
    // In 16 bits the reference rounds each activation, and near ties may fall either way.
    let ids = (is_wide && !expected.greedy.is_empty()).then(|| {
        let count = expected.greedy.len();
        greedy(&mut host.runner(), prompt, 5, count, &[]) == expected.greedy
    });
    let found = Found {
        passed: [
            Some(error <= if is_wide { 1e-4 } else { 2e-2 }),
            Some(chunked == [true; 2]),
            Some(same(&whole, &together(&host, tokens))),
            Some(same(&whole[2 * BLOCK..], &behind_a_hit(&host, tokens))),
            ids,
        ],
        error,
    };
    let config = host.model().config();
    let class = match config.wrapper {
        Some(wrapper) => wrapper.class_name(),
        None => config.architecture.class_name(),
    };
    let format = match source {
        ModelSource::Gguf(_) => "GGUF",
        _ => "safetensors",
    };
    ([class.to_owned(), format!("{format} {dtype}")], found)
}

/// Of each family and source, in the order in which messages list the families.
fn find_all() -> Vec<([String; 2], Found)> {
    let files = FIXTURES.iter().map(|&name| {
        let source = ModelSource::Directory(fixture(name));
        (source, name)
    });
    let gguf = gguf_families::WHOLE.iter().map(|&(name, _)| {
        let source = ModelSource::Gguf(gguf_families::path(name));
        (source, name)
    });
    let mut found: BTreeMap<(usize, [String; 2]), Found> = BTreeMap::new();
    let order: Vec<&str> = Architecture::all()
        .map(Architecture::class_name)
        .chain(Wrapper::all().map(Wrapper::class_name))
        .collect();
    for (source, name) in files.chain(gguf) {
        let (key, new) = compare(&source, name, &expected(name));
        let place = order.iter().position(|class| *class == key[0]).unwrap();
        let entry = found.entry((place, key)).or_insert_with(|| new.clone());
        *entry = new.and(entry);
    }
    for (place, class) in order.iter().enumerate() {
        let mut keys = found.keys();
        assert!(keys.any(|(at, _)| *at == place), "{class} is not compared");
    }
    found.into_iter().map(|((_, key), it)| (key, it)).collect()
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/guide/serve.md")
}

/// The rows of the table as cells, and where their text lies in the page.
fn rows_of(page: &str) -> (Vec<Vec<String>>, std::ops::Range<usize>) {
    let header = page.find(HEADER).unwrap();
    let start = header + HEADER.len() + 1;
    let lines = page[start..].split_inclusive('\n');
    let table: usize = lines
        .take_while(|line| line.starts_with('|'))
        .map(str::len)
        .sum();
    let rows = page[start..start + table].lines().skip(1).map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    });
    (rows.collect(), start..start + table)
}

#[test]
fn the_page_says_what_was_compared() {
    let found = find_all();
    let mut page_text = fs::read_to_string(page()).unwrap();
    let (rows, place) = rows_of(&page_text);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let mut table = "|---|---|---|---|---|---|---|---|\n".to_owned();
        for ([class, source], found) in &found {
            let cells = found.cells().join(" | ");
            table += &format!("| `{class}` | {source} | {cells} |\n");
        }
        page_text.replace_range(place, &table);
        fs::write(page(), page_text).unwrap();
    }
    for (key, found) in &found {
        assert!(
            found.passed.iter().all(|it| *it != Some(false)),
            "{key:?}: {found:?}"
        );
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return;
    }
    let advice = "UPDATE_EXPECT=1 cargo test -p maitre-model --test model parity_table writes the table anew";
    assert_eq!(rows.len(), found.len(), "{advice}");
    for (row, ([class, source], found)) in rows.iter().zip(&found) {
        let mut expected = vec![format!("`{class}`"), source.clone()];
        expected.extend(found.cells());
        let (error, rest) = row.split_last().unwrap();
        assert_eq!(rest, &expected[..expected.len() - 1], "{advice}");
        // Processors add up in different orders, so errors are alike, not the same.
        let said: f32 = error.parse().unwrap();
        let is_alike = said <= 3.0 * found.error && found.error <= 3.0 * said;
        assert!(
            is_alike,
            "{class}, {source}: {said:e} is said, {:e} found: {advice}",
            found.error
        );
    }
}
