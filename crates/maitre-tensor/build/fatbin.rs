//! `cuda/*.cu` for GPUs: one *fatbin* per file, which holds machine code for each architecture and, as text
//! that a driver can compile for others, PTX.
//!
//! A fatbin has one program per architecture, of which the driver loads the one that fits, so files cannot
//! share one without being linked. They need nothing of each other: each becomes a module of its own, and
//! `kernels.rs` in the output folder lists them, and which kernels are in each: a driver that is asked for one in
//! the wrong module counts that as a failed call.
//!
//! ```text
//! 80  90  120                machine code of each; it also runs on later ones of the same generation
//! (8x) (9x) (12x)            (80 on 86 and 89, 120 on 121)
//! PTX of the lowest          for what lies between: 100, 103, 110
//! PTX of the highest         for what comes after
//! ```
//!
//! Files whose names end with `_hopper` use instructions that Hopper alone has: machine code of 9.0a and nothing else,
//! if 90 is asked for; otherwise they are left out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

/// Ampere (A100), Hopper (H100, H200), Blackwell as it is sold in cards and in GB10.
const ARCHITECTURES: &str = "80,90,120";
/// The oldest whose instructions the kernels use: bf16 products and asynchronous copies.
const OLDEST: u32 = 80;
/// Contraction is off so that the same expression has the same bits in every kernel.
const FLAGS: [&str; 4] = ["-std=c++17", "-O3", "--fmad=false", "--fatbin"];

/// What files for Hopper alone are compiled for.
const HOPPER: [&str; 2] = ["-gencode", "arch=compute_90a,code=sm_90a"];

/// Compiles every kernel file and writes the list of them.
pub(crate) fn compile() -> Result<(), String> {
    println!("cargo::rerun-if-changed=cuda");
    for variable in [
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_COMPUTE_CAP",
        "MAITRE_CUDA_ARCHS",
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let nvcc = nvcc()?;
    let architectures = architectures(&nvcc)?;
    println!("cargo::rustc-env=MAITRE_CUDA_TOOLKIT={}", version(&nvcc)?);
    println!(
        "cargo::rustc-env=MAITRE_CUDA_ARCHITECTURES={}",
        architectures
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let mut sources = sources(Path::new("cuda"))?;
    sources.retain(|source| !is_for_hopper(source) || architectures.contains(&90));
    compile_all(&nvcc, &architectures, &sources, &out)?;
    write(&out.join("kernels.rs"), &list(&sources)?)
}

/// The compiler: of the toolkit that the environment names, else the first in `PATH`.
fn nvcc() -> Result<PathBuf, String> {
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    homes
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(&name))
        .find(|nvcc| nvcc.is_file())
        .ok_or_else(|| {
            "the feature `cuda` needs nvcc, which is neither in $CUDA_HOME/bin nor in PATH; install the \
             CUDA toolkit (12.8 or later for all architectures) and set CUDA_HOME to its folder, or build \
             without the feature"
                .into()
        })
}

/// What to compile for, ascending: those asked for that this compiler knows.
fn architectures(nvcc: &Path) -> Result<Vec<u32>, String> {
    let asked = env::var("CUDA_COMPUTE_CAP")
        .or_else(|_| env::var("MAITRE_CUDA_ARCHS"))
        .unwrap_or_else(|_| ARCHITECTURES.into());
    let known = output(Command::new(nvcc).arg("--list-gpu-arch"))?;
    let mut architectures = Vec::new();
    for word in asked.split(',').map(str::trim) {
        let architecture: u32 = word.parse().map_err(|_| {
            format!("{word:?} is no architecture; write 90 for compute capability 9.0, and commas between")
        })?;
        if architecture < OLDEST {
            return Err(format!(
                "the kernels need compute capability {}.{} or later, not {architecture}",
                OLDEST / 10,
                OLDEST % 10
            ));
        }
        if known.lines().any(|line| line == format!("compute_{word}")) {
            architectures.push(architecture);
        } else {
            println!("cargo::warning=this nvcc cannot compile for architecture {word}; left out");
        }
    }
    architectures.sort_unstable();
    architectures.dedup();
    if architectures.is_empty() {
        return Err(format!(
            "this nvcc knows none of the architectures {asked}; install a newer CUDA toolkit"
        ));
    }
    Ok(architectures)
}

/// `13.0`, of a line like `Cuda compilation tools, release 13.0, V13.0.88`.
fn version(nvcc: &Path) -> Result<String, String> {
    let text = output(Command::new(nvcc).arg("--version"))?;
    text.split_once("release ")
        .and_then(|(_, rest)| rest.split_once(','))
        .map(|(version, _)| version.to_owned())
        .ok_or_else(|| format!("`nvcc --version` names no release: {text}"))
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    let mut sources: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .collect();
    sources.sort();
    Ok(sources)
}

/// As many files at a time as cargo allows.
fn compile_all(
    nvcc: &Path,
    architectures: &[u32],
    sources: &[PathBuf],
    out: &Path,
) -> Result<(), String> {
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok());
    let waiting = Mutex::new(sources.iter());
    let work = || -> Result<(), String> {
        loop {
            let next = waiting.lock().map_err(|_| "another file failed")?.next();
            let Some(source) = next else { return Ok(()) };
            let mut command = Command::new(nvcc);
            command.args(FLAGS).args(if is_for_hopper(source) {
                HOPPER.map(String::from).to_vec()
            } else {
                targets(architectures)
            });
            command
                .arg("-o")
                .arg(out.join(name(source)).with_extension("fatbin"));
            output(command.arg(source))?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.unwrap_or(2).min(sources.len()))
            .map(|_| scope.spawn(work))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|_| Err("a thread that runs nvcc panicked".into()))
        })
    })
}

/// The options that ask for machine code of each architecture and for PTX of the lowest and the highest.
fn targets(architectures: &[u32]) -> Vec<String> {
    let mut targets = Vec::new();
    for (index, architecture) in architectures.iter().enumerate() {
        let end = index == 0 || index + 1 == architectures.len();
        let ptx = if end {
            format!(",compute_{architecture}")
        } else {
            String::new()
        };
        targets.push("-gencode".into());
        targets.push(format!(
            "arch=compute_{architecture},code=[sm_{architecture}{ptx}]"
        ));
    }
    targets
}

fn is_for_hopper(source: &Path) -> bool {
    name(source).ends_with("_hopper")
}

/// The source of a Rust array of file names, fatbins and names of kernels.
fn list(sources: &[PathBuf]) -> Result<String, String> {
    let mut text = String::from("[\n");
    for source in sources {
        let name = name(source);
        let kernels = kernels(source)?;
        text.push_str(&format!(
            "    (\"{name}.cu\", image!(concat!(env!(\"OUT_DIR\"), \"/{name}.fatbin\")), &{kernels:?}),\n"
        ));
    }
    Ok(text + "]\n")
}

/// The kernels of a file, all of which it exports (`cuda/device.cuh`):
///
/// ```text
/// EXPORT(linear_f32);                            by itself,
///
/// #define LINEAR(name, weights, tile) \         or by a macro whose first parameter is the name
///     KERNEL name(...) { ... }        \
///     EXPORT(name)
/// LINEAR(linear_bf16_16x32, Bf16Weights, Tile16x32);
/// ```
fn kernels(source: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(source)
        .map_err(|error| format!("cannot read {}: {error}", source.display()))?;
    let mut exporting = vec!["EXPORT"];
    let mut macro_name = None;
    let mut kernels = Vec::new();
    for line in text.lines() {
        if let Some(defined) = line.strip_prefix("#define ") {
            macro_name = defined.split_once("(name").map(|(name, _)| name);
        } else if line.trim_start().starts_with("EXPORT(name)") {
            exporting.extend(macro_name);
        } else if let Some((called, rest)) = line.split_once('(')
            && exporting.contains(&called)
        {
            let end = rest.find([',', ')']).unwrap_or(rest.len());
            kernels.push(rest[..end].trim().to_owned());
        }
    }
    if kernels.is_empty() {
        return Err(format!("{} exports no kernel", source.display()));
    }
    Ok(kernels)
}

fn name(source: &Path) -> String {
    source
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Runs a command to its end; what it says on failing is the error.
fn output(command: &mut Command) -> Result<String, String> {
    let run = command
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    if run.status.success() {
        return Ok(text);
    }
    let complaint = String::from_utf8_lossy(&run.stderr);
    Err(format!(
        "{command:?} failed ({}): {complaint}{text}",
        run.status
    ))
}
