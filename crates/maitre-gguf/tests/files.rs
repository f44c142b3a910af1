//! Files written here, real ones, and files that lie.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod writer;

use std::path::{Path, PathBuf};

use maitre_gguf::{GgufError, GgufIndex, TensorKind, Value, ValueKind};
use proptest::prelude::*;
use writer::{Writer, text};

/// A file with everything in it.
fn whole() -> Writer {
    let mut writer = Writer::new(64);
    writer.set("a.u8", 0, &[200]);
    writer.set("a.i8", 1, &[0xFF]);
    writer.set("a.f32", 6, &0.5_f32.to_le_bytes());
    writer.set("a.bool", 7, &[1]);
    writer.set("a.text", 8, &text("día"));
    writer.set("a.f64", 12, &(-2.5_f64).to_le_bytes());
    writer.set("a.i64", 11, &(-9_i64).to_le_bytes());
    writer.list("b.texts", 8, 3, &[text("x"), text(""), text("yz")].concat());
    writer.list("b.i32", 5, 2, &[1_i32, -1].map(i32::to_le_bytes).concat());
    writer.list("b.empty", 6, 0, &[]);
    writer.tensor("norm", &[3], 0, &[1; 12]);
    writer.tensor("matrix", &[64, 2], 8, &[7; 4 * 34]);
    writer.tensor("nothing", &[32, 0], 2, &[]);
    writer
}

#[test]
fn what_is_written_is_read() {
    let file = whole().file();
    for version in [2, 3] {
        let mut file = file.clone();
        file[4] = version;
        let index = GgufIndex::read(&file).unwrap();
        assert_eq!(index.get("a.u8"), Some(&Value::Unsigned(200)));
        assert_eq!(index.get("a.i8"), Some(&Value::Signed(-1)));
        assert_eq!(index.float("a.f32"), Ok(Some(0.5)));
        assert_eq!(index.flag("a.bool"), Ok(Some(true)));
        assert_eq!(index.text("a.text"), Ok(Some("día")));
        assert_eq!(index.float("a.f64"), Ok(Some(-2.5)));
        assert_eq!(index.float("a.i64"), Ok(Some(-9.0)));
        assert_eq!(index.unsigned("absent"), Ok(None));
        let texts = index.list("b.texts").unwrap().unwrap();
        assert_eq!(texts.texts(&file).collect::<Vec<_>>(), ["x", "", "yz"]);
        let numbers = index.list("b.i32").unwrap().unwrap();
        let values: Vec<Value> = numbers.iter(&file).collect();
        assert_eq!(values, [Value::Unsigned(1), Value::Signed(-1)]);
        assert_eq!((numbers.kind, numbers.len), (ValueKind::I32, 2));
        assert_eq!(numbers.texts(&file).count(), 0);
        let [norm, matrix, nothing] = index.tensors() else {
            panic!("{:?}", index.tensors())
        };
        assert_eq!(
            (norm.name.as_str(), norm.shape.as_slice()),
            ("norm", &[3][..])
        );
        assert_eq!(file[norm.place.clone()], [1; 12]);
        assert_eq!(
            (matrix.shape.as_slice(), matrix.kind),
            (&[2, 64][..], TensorKind::Q8_0)
        );
        assert_eq!(file[matrix.place.clone()], [7; 4 * 34]);
        assert!(nothing.is_empty() && nothing.place.is_empty());
    }
    let error = GgufIndex::read(&file)
        .unwrap()
        .unsigned("a.i8")
        .unwrap_err();
    let expected = "a.i8 is -1, and an integer that is not negative is expected";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_that_ends_too_early_says_where() {
    let file = whole().file();
    // The last tensor with bytes ends with the file.
    for len in 0..file.len() {
        let error = GgufIndex::read(&file[..len]).unwrap_err();
        match error {
            GgufError::Truncated { len: said, .. } => assert_eq!(said, len, "{error}"),
            GgufError::Magic { .. } => assert!(len < 4, "{error}"),
            other => panic!("{len}: {other}"),
        }
    }
}

/// Sizes beside a 0 are not bounded by the bytes.
#[test]
fn a_tensor_of_nothing_may_have_any_sizes() {
    let mut writer = Writer::new(32);
    writer.entry("nothing", &[0, 1 << 62, 1 << 62], 0, 0);
    let mut file = writer.file();
    file.resize(file.len().next_multiple_of(32), 0);
    let index = GgufIndex::read(&file).unwrap();
    let tensor = &index.tensors()[0];
    assert_eq!((tensor.len(), tensor.place.len()), (0, 0));
}

#[test]
fn a_file_that_lies_is_refused_by_name() {
    type Lie = fn(&mut Writer);
    let lies: [(Lie, &str); 18] = [
        (|it| it.set("a.u8", 0, &[1]), "the setting a.u8 comes twice"),
        (|it| it.set("odd", 13, &[1]), "odd at byte"),
        (|it| it.set("odd", 7, &[2]), "the setting odd at byte"),
        (
            |it| it.set("odd", 8, &[3, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFE, 0]),
            "the setting odd at byte",
        ),
        (|it| it.list("odd", 9, 1, &[0; 12]), "is a list of lists"),
        (
            |it| it.list("odd", 5, 1 << 60, &[0; 12]),
            "within the setting odd",
        ),
        (
            |it| it.list("odd", 7, 3, &[0, 1, 5]),
            "5 as a Boolean, and 0 or 1 is expected",
        ),
        (
            |it| it.set("odd", 8, &u64::MAX.to_le_bytes()),
            "within the setting odd",
        ),
        (
            |it| it.entry("norm", &[1], 0, 0),
            "the tensor norm comes twice",
        ),
        (
            |it| it.entry("odd", &[], 0, 0),
            "the tensor odd has 0 dimensions",
        ),
        (
            |it| it.entry("odd", &[1; 5], 0, 0),
            "the tensor odd has 5 dimensions",
        ),
        (
            |it| it.entry("odd", &[4], 4, 0),
            "the tensor odd is of type 4, which is not known",
        ),
        (
            |it| it.entry("odd", &[33], 2, 0),
            "has rows of 33 numbers, and Q4_0 keeps 32 together",
        ),
        (
            |it| it.entry("odd", &[1 << 40, 1 << 40], 0, 0),
            "more than memory has addresses",
        ),
        // One row that is too long by itself.
        (
            |it| it.entry("odd", &[1 << 62], 0, 0),
            "more than memory has addresses",
        ),
        (
            |it| it.entry("odd", &[4], 0, 32),
            "begins at offset 32, no multiple of 64",
        ),
        (
            |it| it.entry("odd", &[4], 0, 1 << 62),
            "within the tensor odd",
        ),
        (
            |it| it.entry("odd", &[4], 0, 64),
            "the tensor odd begins within matrix",
        ),
    ];
    for (lie, expected) in lies {
        let mut writer = whole();
        lie(&mut writer);
        let error = GgufIndex::read(&writer.file()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let counts: [(u64, u64, &str); 2] = [
        (u64::MAX, 0, "the list of 18446744073709551615 tensors"),
        (0, 1 << 50, "the list of 1125899906842624 settings"),
    ];
    for (tensors, settings, expected) in counts {
        let error = GgufIndex::read(&Writer::new(32).file_of(3, tensors, settings)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (version, expected) in [(1, "GGUF version 1"), (3_u32.swap_bytes(), "little-endian")] {
        let error = GgufIndex::read(&whole().file_of(version, 0, 0)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for alignment in [0_u32, 24, 1 << 30] {
        let mut writer = Writer::new(32);
        writer.set("general.alignment", 4, &alignment.to_le_bytes());
        let error = GgufIndex::read(&writer.file()).unwrap_err();
        assert!(error.to_string().contains("a power of two"), "{error}");
    }
}

proptest! {
    /// Whatever is done to a file, reading it ends with an index or an error, and an index speaks of the file.
    #[test]
    fn changed_bytes_never_lead_outside(
        changes in prop::collection::vec((0_usize..2000, any::<u8>()), 1..12),
        cut in 0_usize..2000,
    ) {
        let mut file = whole().file();
        for (place, value) in changes {
            let len = file.len();
            file[place % len] = value;
        }
        file.truncate(file.len().min(cut.max(24)));
        if let Ok(index) = GgufIndex::read(&file) {
            for tensor in index.tensors() {
                prop_assert!(file.get(tensor.place.clone()).is_some());
            }
            for (_, value) in index.settings() {
                if let Value::List(list) = value {
                    prop_assert_eq!(list.iter(&file).count(), list.len);
                }
            }
        }
    }
}

/// All GGUF files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|it| it == "gguf"))
        .collect()
}

#[test]
fn real_files_are_read() {
    let Some(folder) = std::env::var_os("MAITRE_TEST_DATA") else {
        eprintln!("skipped: MAITRE_TEST_DATA names no folder with real files");
        return;
    };
    let files = files_below(Path::new(&folder));
    assert!(!files.is_empty());
    for path in files {
        let file = std::fs::read(&path).unwrap();
        let index =
            GgufIndex::read(&file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            index.text("general.architecture").unwrap().is_some(),
            "{}",
            path.display()
        );
        let tokens = index.list("tokenizer.ggml.tokens").unwrap().unwrap();
        assert_eq!(
            tokens.texts(&file).count(),
            tokens.len,
            "{}",
            path.display()
        );
    }
}
