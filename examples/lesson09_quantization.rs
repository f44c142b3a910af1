//! Lesson 9: weights in fewer bits.
//!
//! The same model in bf16, int8 and int4: what it weighs, how well it predicts, how fast it is; then
//! the matrices of a larger model, and what a few outlying channels do to a scale. Run it with
//! `cargo run --release --example lesson09_quantization`; the page is
//! `docs/src/lessons/lesson09_quantization.md`. With `-- FILE.gguf ...`, files of one model, it compares these instead.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use maitre::{Engine, Speculate};
use maitre_examples::heldout::{self, WINDOW};
use maitre_examples::local::{source, tokens_per_second};
use maitre_examples::numbers::{bytes, fastest, normal};
use maitre_examples::picture::{self, Line};
use maitre_examples::reader::{self, Reader};
use maitre_examples::{divergence, quick, table};
use maitre_tensor::{
    Backend, Buffer, DType, Limits, LinearInput, PackedWeight, WeightFormat, WeightView,
};

/// Formats of the weights, from many bits to few.
const FORMATS: [&str; 6] = ["bf16", "int8", "int8-g64", "int4-g32", "int4", "int4-g128"];

/// Sequences that decode together when the small model's speed is measured.
const USERS: u32 = 16;

/// Tokens of a window of text, and windows, on which forms of a model are compared.
const COMPARED: (usize, usize) = (256, 8);

/// Input and output features of one layer of a model of 0.6 billion parameters: query, key and
/// value; attention's output; gate and up; down.
const LAYER: [(usize, usize); 4] = [(1024, 4096), (2048, 1024), (1024, 6144), (3072, 1024)];

/// Token rows of a step.
const ROWS: [usize; 5] = [1, 4, 16, 32, 64];

/// More than the caches of the processor hold: as in a model, a layer's weights have been forgotten
/// when its turn comes again.
const COLD_BYTES: usize = 96 << 20;

/// How often each speed is measured.
const PASSES: usize = 8;

/// The bundled model in one format.
struct Quality {
    format: WeightFormat,
    bytes: usize,
    perplexity: f64,
    tokens_per_second: f64,
}

/// One layer's matrices of the larger model in one format.
struct Speed {
    format: WeightFormat,
    bytes: usize,
    /// For each number of [`ROWS`].
    times: Vec<Duration>,
}

fn formats() -> Result<Vec<WeightFormat>> {
    let formats = FORMATS.iter().map(|name| Ok(name.parse()?));
    formats.collect()
}

fn main() -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let backend = Backend::cpu(threads)?;
    println!("\n{threads} threads, {} kernels\n", backend.name());
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if !files.is_empty() {
        return compare_files(&files, &backend);
    }
    let qualities = bundled_model(&backend)?;
    let speeds = larger_layer(&backend)?;
    outliers(&backend)?;
    draw(&qualities, &speeds)
}

/// Size, perplexity and speed of the bundled model.
fn bundled_model(backend: &Backend) -> Result<Vec<Quality>> {
    let ids = heldout::ids()?;
    let (stride, new_tokens) = if quick() { (100, 4) } else { (1, 128) };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut qualities = Vec::new();
    for format in formats()? {
        let model = heldout::bundled(format, backend)?;
        let windows = ids.chunks_exact(WINDOW).step_by(stride);
        qualities.push(Quality {
            format,
            bytes: model.weight_bytes(),
            perplexity: heldout::perplexity(&model, backend, windows)?,
            tokens_per_second: runtime.block_on(async {
                let engine = Engine::builder(maitre::bundled()).dtype(Some(format));
                tokens_per_second(&engine.build()?, USERS, new_tokens).await
            })?,
        });
    }
    let bf16 = qualities[0].perplexity;
    println!(
        "  The bundled model, {} held-out tokens\n",
        ids.chunks_exact(WINDOW).step_by(stride).len() * WINDOW
    );
    let rows: Vec<Vec<String>> = qualities
        .iter()
        .map(|quality| {
            let rise = 100.0 * (quality.perplexity / bf16 - 1.0);
            vec![
                quality.format.to_string(),
                format!("{:.2}", mib(quality.bytes)),
                format!("{:.4}", quality.perplexity),
                format!("{rise:+.2} %"),
                format!("{:.0}", quality.tokens_per_second),
            ]
        })
        .collect();
    let header = [
        "weights",
        "MiB",
        "perplexity",
        "against bf16",
        "tokens/s, 16 users",
    ];
    table::print(&header, &rows);
    Ok(qualities)
}

/// Files of one model, as they are stored, and the first of them in this engine's formats: what each weighs, how far its
/// predictions are from the first one's in f32, and how fast it is.
fn compare_files(files: &[PathBuf], backend: &Backend) -> Result<()> {
    let first = files.first().context("no file")?;
    let own = ["bf16", "int8", "int4"].map(|name| (first, Some(name)));
    let as_stored = files.iter().map(|file| (file, None));
    let (width, count) = COMPARED;
    let mut reference = reading(first, Some("f32"), backend)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rows = Vec::new();
    let (mut ids, mut vocabulary) = (Vec::new(), 0);
    for (file, format) in as_stored.chain(own) {
        let engine = Engine::builder(source(file)?).speculate(Speculate::Off);
        let engine = engine.dtype(format.map(str::parse).transpose()?).build()?;
        if ids.is_empty() {
            vocabulary = engine.info().vocab_size;
            ids = engine.tokenizer().encode(maitre_bundled::HELDOUT)?;
        }
        ensure!(
            engine.info().vocab_size == vocabulary,
            "{} has {} tokens and {} has {vocabulary}: they are not of one model",
            file.display(),
            engine.info().vocab_size,
            first.display()
        );
        let windows = ids.chunks_exact(width).take(count);
        let mut other = reading(file, format, backend)?;
        let divergence = divergence::between(&mut reference, &mut other, windows)?;
        let speed = |users| runtime.block_on(tokens_per_second(&engine, users, 64));
        rows.push(vec![
            format.map_or_else(
                || name(file),
                |format| format!("{} in {format}", name(first)),
            ),
            format!("{:.1}", mib(engine.info().memory.weights as usize)),
            format!("{:.5}", divergence.nats),
            format!("{:.1} %", 100.0 * divergence.agreement),
            format!("{:.0}", speed(1)?),
            format!("{:.0}", speed(USERS)?),
        ]);
    }
    println!(
        "  {} tokens of text, against the first file in f32\n",
        width * count
    );
    let header = [
        "weights",
        "MiB",
        "nats per token",
        "same choice",
        "tokens/s, 1 user",
        "16 users",
    ];
    table::print(&header, &rows);
    Ok(())
}

/// A reader of windows with the weights of a file.
fn reading(file: &Path, format: Option<&str>, backend: &Backend) -> Result<Reader> {
    let format = format.map(str::parse).transpose()?;
    let model = reader::load_from(&source(file)?, format, backend)?;
    Reader::new(model, backend, COMPARED.0)
}

/// The last part of a path.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The products of one layer with made-up weights: speed does not depend on their values.
fn larger_layer(backend: &Backend) -> Result<Vec<Speed>> {
    let (shapes, cold_bytes, budget): (&[_], _, _) = if quick() {
        (&[(256, 512)], 0, Duration::ZERO)
    } else {
        (&LAYER, COLD_BYTES, Duration::from_millis(50))
    };
    let before = Limits::measure(backend.threads(), budget * 10)?;
    let most = shapes.iter().map(|(cols, rows)| cols * rows).max();
    let source = bytes(&normal(5, most.unwrap_or(0)));
    let mut formats_layers = Vec::new();
    let mut speeds = Vec::new();
    for format in formats()? {
        let pack = |(cols, rows): &(usize, usize)| {
            let view = WeightView {
                dtype: DType::F32,
                rows: *rows,
                cols: *cols,
                bytes: &source[..rows * cols * size_of::<f32>()],
            };
            backend.pack(&[view], format)
        };
        let layer = || shapes.iter().map(pack).collect::<Result<Vec<_>, _>>();
        let mut layers = vec![layer()?];
        let bytes = layers[0].iter().map(PackedWeight::size_in_bytes).sum();
        while layers.len() * bytes < cold_bytes {
            layers.push(layer()?);
        }
        formats_layers.push(layers);
        speeds.push(Speed {
            format,
            bytes,
            times: vec![Duration::MAX; ROWS.len()],
        });
    }
    // All formats in turn, several times: what else the machine does meets them all alike.
    for _ in 0..PASSES {
        for (layers, speed) in formats_layers.iter().zip(&mut speeds) {
            for (rows, time) in ROWS.into_iter().zip(&mut speed.times) {
                *time = products(backend, layers, rows, budget)?.min(*time);
            }
        }
    }
    // On a machine with other work one measurement may be an unlucky one: the better of two.
    let limits = before.max(Limits::measure(backend.threads(), budget * 10)?);
    println!(
        "  The matrices of one layer of a 0.6B model, made-up weights;\n  the machine: {limits}\n"
    );
    print_speeds(&speeds, &limits);
    Ok(speeds)
}

/// The time of one layer's products for `rows` tokens, another layer each time.
fn products(
    backend: &Backend,
    layers: &[Vec<PackedWeight>],
    rows: usize,
    budget: Duration,
) -> Result<Duration> {
    let mut operands = layers[0]
        .iter()
        .map(|w| {
            let mut x = LinearInput::new(w.format().input(), w.cols(), rows)?;
            let values = Buffer::from_f32s(&normal(6, rows * w.cols()))?;
            backend.encode(&values, &mut x, rows)?;
            Ok((x, Buffer::zeros(DType::F32, rows * w.rows())?))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut calls = 0;
    fastest(budget, || {
        calls += 1;
        let layer = &layers[calls % layers.len()];
        backend.step(|| {
            for (w, (x, out)) in layer.iter().zip(&mut operands) {
                backend.linear(x, w, None, out, 0..rows)?;
            }
            Ok(())
        })
    })
}

fn print_speeds(speeds: &[Speed], limits: &Limits) {
    let rows: Vec<Vec<String>> = speeds
        .iter()
        .map(|speed| {
            let mut cells = vec![
                speed.format.to_string(),
                format!("{:.1}", mib(speed.bytes)),
                format!("{:.2}", speed.bytes as f64 / limits.read_bytes_per_s * 1e3),
            ];
            cells.extend(
                speed
                    .times
                    .iter()
                    .map(|time| format!("{:.2}", millis(*time))),
            );
            cells
        })
        .collect();
    let names = ROWS.map(|rows| format!("m = {rows} (ms)"));
    let header: Vec<&str> = ["weights", "MiB", "reading (ms)"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    table::print(&header, &rows);
}

/// One input channel in a hundred is fifty times as large as the others: what that does to the
/// product, with a scale per token and with one per group of channels.
fn outliers(backend: &Backend) -> Result<()> {
    let (rows, cols, features) = (16, 2048, 64);
    let plain = normal(7, rows * cols);
    let weights = normal(8, features * cols);
    let is_outlier = |index: usize| index % cols % 100 == 7;
    // A trained model has learned small weights where channels are large.
    let scaled = |values: &[f32], factor: f32| -> Vec<f32> {
        let values = values.iter().enumerate();
        values
            .map(|(i, value)| {
                if is_outlier(i) {
                    value * factor
                } else {
                    *value
                }
            })
            .collect()
    };
    let (planted, small) = (scaled(&plain, 50.0), scaled(&weights, 1.0 / 50.0));
    let mut cells = Vec::new();
    for name in ["bf16", "int8", "int8-g128", "int8-g64", "int8-g32"] {
        let format = name.parse()?;
        let without = relative_error(backend, &plain, &weights, cols, format)?;
        let with = relative_error(backend, &planted, &small, cols, format)?;
        ensure!(with.is_finite(), "{name}: {with}");
        cells.push(vec![
            name.to_owned(),
            format!("{:.2} %", without * 100.0),
            format!("{:.2} %", with * 100.0),
        ]);
    }
    println!("  Error of a product, as a share of its size, {cols} channels\n");
    table::print(
        &["", "even channels", "1 in 100 is 50 times as large"],
        &cells,
    );
    Ok(())
}

/// The error of `x * w^T` in `format` against double precision, as a share of its size (root mean
/// squares).
fn relative_error(
    backend: &Backend,
    x: &[f32],
    w: &[f32],
    cols: usize,
    format: WeightFormat,
) -> Result<f64> {
    let (rows, features) = (x.len() / cols, w.len() / cols);
    let view = WeightView {
        dtype: DType::F32,
        rows: features,
        cols,
        bytes: &bytes(w),
    };
    let weight = backend.pack(&[view], format)?;
    let mut input = LinearInput::new(format.input(), cols, rows)?;
    backend.encode(&Buffer::from_f32s(x)?, &mut input, rows)?;
    let mut out = Buffer::zeros(DType::F32, rows * features)?;
    backend.linear(&input, &weight, None, &mut out, 0..rows)?;
    let (mut errors, mut squares) = (0.0, 0.0);
    for (row, out) in x.chunks_exact(cols).zip(out.f32s()?.chunks_exact(features)) {
        for (feature, found) in w.chunks_exact(cols).zip(out) {
            let products = row.iter().zip(feature);
            let exact: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            errors += (f64::from(*found) - exact).powi(2);
            squares += exact.powi(2);
        }
    }
    Ok((errors / squares).sqrt())
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn draw(qualities: &[Quality], speeds: &[Speed]) -> Result<()> {
    let bf16 = qualities[0].perplexity;
    let family = |name: &str, wanted: &str| Line {
        name: name.into(),
        points: qualities
            .iter()
            .filter(|quality| quality.format.to_string().starts_with(wanted))
            .map(|q| (mib(q.bytes), 100.0 * (q.perplexity / bf16 - 1.0)))
            .collect(),
    };
    let quality = picture::lines(
        "lesson09_quality",
        "The bundled model: size and loss",
        "MiB of weights",
        "rise of perplexity, %",
        &[
            family("bf16", "bf16"),
            family("int8: scale per token, per 64", "int8"),
            family("int4: groups of 32, 64, 128", "int4"),
        ],
    )?;
    let shown = speeds
        .iter()
        .filter(|speed| ["bf16", "int8", "int4"].contains(&speed.format.to_string().as_str()));
    let lines: Vec<Line> = shown
        .map(|speed| Line {
            name: speed.format.to_string(),
            points: ROWS
                .iter()
                .zip(&speed.times)
                .map(|(rows, time)| (*rows as f64, *rows as f64 / millis(*time)))
                .collect(),
        })
        .collect();
    let speed = picture::lines(
        "lesson09_speed",
        "The matrices of one layer of a 0.6B model",
        "tokens in the step",
        "tokens per millisecond",
        &lines,
    )?;
    println!("pictures: {}, {}", quality.display(), speed.display());
    Ok(())
}
