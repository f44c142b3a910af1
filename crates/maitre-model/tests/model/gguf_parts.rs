//! GGUF models that are split among files, and directories that hold one.

use std::fs;
use std::path::Path;

use maitre_gguf::GgufIndex;
use maitre_model::{LoadOptions, Model, ModelError, ModelSource};
use maitre_tensor::Backend;
use tempfile::TempDir;

use crate::gguf::writer::{Writer, text};
use crate::support::{fixture, options_of, prefill, runner};

const NAME: &str = "phi3-f32-longrope";

fn whole() -> Vec<u8> {
    fs::read(fixture("gguf").join(format!("{NAME}.gguf"))).unwrap()
}

fn number(writer: &mut Writer, key: &str, kind: u32, number: u64) {
    let width = match kind {
        2 => 2,
        _ => 4,
    };
    writer.set(key, kind, &number.to_le_bytes()[..width]);
}

/// The keys of one of `count` parts, as gguf-split writes them: 16, 16 and 32 bits.
fn split_keys(writer: &mut Writer, part: u64, count: u64, tensors: u64) {
    number(writer, "split.no", 2, part);
    number(writer, "split.count", 2, count);
    number(writer, "split.tensors.count", 5, tensors);
}

/// The bytes of a file's settings, as they lie in it.
fn settings_of(file: &[u8]) -> (u64, Vec<u8>) {
    let count = u64::from_le_bytes(file[16..24].try_into().unwrap());
    // Behind them comes the entry of the first tensor, with its name before all.
    let index = GgufIndex::read(file).unwrap();
    let first = text(&index.tensors()[0].name);
    let end = file.windows(first.len()).position(|part| part == first);
    (count, file[24..end.unwrap()].to_vec())
}

/// Writes the fixture as `count` parts into `directory`; the first has no tensor, the others take turns.
fn split(directory: &Path, count: u64) -> Vec<String> {
    let file = whole();
    let index = GgufIndex::read(&file).unwrap();
    let (_, settings) = settings_of(&file);
    let tensors = index.tensors();
    let names = (1..=count).map(|part| format!("m-{part:05}-of-{count:05}.gguf"));
    let names: Vec<String> = names.collect();
    for (part, name) in (0..).zip(&names) {
        let mut writer = Writer::new(32);
        split_keys(&mut writer, part, count, tensors.len() as u64);
        let mine = (0..)
            .zip(tensors)
            .filter(|(at, _)| part > 0 && at % (count - 1) == part - 1);
        for (_, tensor) in mine {
            let sizes: Vec<u64> = tensor.shape.iter().rev().map(|size| *size as u64).collect();
            writer.tensor(&tensor.name, &sizes, 0, &file[tensor.place.clone()]);
        }
        if part == 0 {
            let keys = writer.settings.len() as u64;
            writer.settings.push(settings.clone());
            let (count, _) = settings_of(&file);
            fs::write(directory.join(name), writer.file_of(3, 0, keys + count)).unwrap();
        } else {
            fs::write(directory.join(name), writer.file()).unwrap();
        }
    }
    names
}

fn logits(source: &ModelSource) -> Vec<Vec<f32>> {
    let mut runner = runner(source, &options_of(NAME), 2);
    let tokens: Vec<u32> = (0..40).map(|it| it * 7 % 60).collect();
    prefill(&mut runner, &tokens, 16)
}

fn refused(source: &ModelSource) -> String {
    let loaded = Model::load(source, &LoadOptions::default(), &Backend::cpu(1).unwrap());
    loaded.map(|_| ()).unwrap_err().to_string()
}

fn parts(count: u64) -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let names = split(directory.path(), count);
    (directory, names)
}

#[test]
fn a_split_model_is_the_model() {
    let one = ModelSource::Gguf(fixture("gguf").join(format!("{NAME}.gguf")));
    let expected = logits(&one);
    for count in [2, 4] {
        let (directory, names) = parts(count);
        let first = ModelSource::Gguf(directory.path().join(&names[0]));
        assert_eq!(logits(&first), expected, "{count} parts");
    }
}

#[test]
fn parts_that_are_not_of_one_model_are_named() {
    let (directory, names) = parts(3);
    let at = |name: &str| ModelSource::Gguf(directory.path().join(name));
    let message = refused(&at(&names[1]));
    assert!(
        message.contains("is part 2 of 3: name the first, m-00001-of-00003.gguf"),
        "{message}"
    );

    let renamed = directory.path().join("tea.gguf");
    fs::copy(directory.path().join(&names[0]), &renamed).unwrap();
    let message = refused(&at("tea.gguf"));
    assert!(
        message.contains("is one of 3 files") && message.contains("-00001-of-00003.gguf"),
        "{message}"
    );

    // The last two change places.
    let paths = names.iter().map(|name| directory.path().join(name));
    let [_, second, third] = paths.collect::<Vec<_>>().try_into().unwrap();
    let (two, three) = (fs::read(&second).unwrap(), fs::read(&third).unwrap());
    fs::write(&second, &three).unwrap();
    let message = refused(&at(&names[0]));
    assert!(
        message.contains("says split.no = 2 and split.count = 3; its name says 1 and 3"),
        "{message}"
    );

    fs::write(&second, &two).unwrap();
    let cut = &three[..three.len() - 40];
    fs::write(&third, cut).unwrap();
    let message = refused(&at(&names[0]));
    assert!(
        message.contains("m-00003-of-00003.gguf") && message.contains("ends at byte"),
        "{message}"
    );

    fs::remove_file(&third).unwrap();
    let message = refused(&at(&names[0]));
    assert!(
        message.contains("m-00003-of-00003.gguf is not there, and is one of the 3 files"),
        "{message}"
    );
    let first = directory.path().join(&names[0]);
    fs::write(&first, b"").unwrap();
    let message = refused(&at(&names[0]));
    assert!(
        message.contains("gguf is empty: download it again"),
        "{message}"
    );
    fs::remove_file(&first).unwrap();
    let message = refused(&at(&names[0]));
    assert!(
        message.contains("m-00001-of-00003.gguf is not there, and is one of the 3 files"),
        "{message}"
    );
}

#[test]
fn tensors_of_parts_are_counted_and_come_once() {
    let (directory, names) = parts(3);
    let first = ModelSource::Gguf(directory.path().join(&names[0]));
    let third = directory.path().join(&names[2]);
    let mut writer = Writer::new(32);
    split_keys(&mut writer, 2, 3, 0);
    fs::write(&third, writer.file()).unwrap();
    let message = refused(&first);
    assert!(
        message.contains("says that all parts hold 17 tensors, and they hold"),
        "{message}"
    );

    let second = directory.path().join(&names[1]);
    let file = fs::read(&second).unwrap();
    let tensor = GgufIndex::read(&file).unwrap().tensors()[0].name.clone();
    writer.tensor(&tensor, &[1], 0, &[0; 4]);
    fs::write(&third, writer.file()).unwrap();
    let message = refused(&first);
    assert!(
        message.contains(&format!("tensor `{tensor}` is both in"))
            && message.contains(&names[1])
            && message.contains(&names[2]),
        "{message}"
    );
}

#[test]
fn a_directory_of_one_model_is_that_model() {
    let found = |directory: &Path| ModelSource::in_directory(directory);
    let (directory, names) = parts(2);
    let path = directory.path();
    // What goes with a model is none.
    fs::write(path.join("mmproj-m-f16.gguf"), "").unwrap();
    fs::write(path.join("README.md"), "").unwrap();
    let first = ModelSource::Gguf(path.join(&names[0]));
    assert_eq!(found(path).unwrap(), first);

    fs::write(path.join("n-Q8_0.gguf"), "").unwrap();
    let error = found(path).unwrap_err();
    assert!(matches!(error, ModelError::UnusableFile { .. }));
    let message = error.to_string();
    assert!(
        message.contains(
            "several models in GGUF files: name one of m-00001-of-00002.gguf, n-Q8_0.gguf"
        ),
        "{message}"
    );

    // Beside a configuration they are another form of its model.
    fs::write(path.join("config.json"), "{}").unwrap();
    let on_hub = ModelSource::Directory(path.to_owned());
    assert_eq!(found(path).unwrap(), on_hub);
    let empty = tempfile::tempdir().unwrap();
    let on_hub = ModelSource::Directory(empty.path().to_owned());
    assert_eq!(found(empty.path()).unwrap(), on_hub);
}
