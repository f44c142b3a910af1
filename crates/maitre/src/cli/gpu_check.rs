//! `maitre gpu-check`: verify and time a GPU in one run. Its work is `maitre-gpu-check`'s; what is decided here is what
//! its flags mean, and how the program starts itself again as a worker.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};
use maitre::{DeviceName, StartError};
use maitre_gpu_check::{
    BundledModels, GpuCheckError, Half, Options, Resume, ShapeChoice, supervise, work,
};

use super::{report, source};

#[derive(Debug, Clone, Args)]
pub(crate) struct GpuCheckArgs {
    /// What to check: cuda[:N], auto, which is cuda:0, or emulator, the same kernels run on the processor (with `--shape tiny`; its
    /// speeds mean nothing). `cpu` checks the processor against itself.
    #[arg(long, default_value = "cuda:0", value_name = "DEVICE")]
    device: DeviceName,
    /// Do one half of the work.
    #[arg(long)]
    only: Option<HalfArg>,
    /// Do only rows whose name in the JSON contains this, such as `decode_8b` or `attention`; may be given several times.
    #[arg(long, value_name = "PART")]
    row: Vec<String>,
    /// What might take longer than is left of these is listed as not run.
    #[arg(long, default_value_t = 460.0, value_name = "SECONDS", value_parser = super::serve::seconds)]
    time_limit: f64,
    /// What to time: shapes of Qwen3 with made-up weights, or one so tiny that the emulator can run it.
    /// Checks take sizes to match.
    #[arg(long, default_value = "8b")]
    shape: ShapeArg,
    /// Directory of a model whose greedy tokens are compared, beside the bundled one; may be given several times.
    #[arg(long, value_name = "DIR")]
    model: Vec<PathBuf>,
    /// Also write gpu-check.json and gpu-check.md into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads that compute what is right, and pack weights [default: one per core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Be a worker that begins with this item.
    #[arg(long, value_name = "ITEM", hide = true)]
    from: Option<usize>,
    /// What a worker before this one measured, in bytes a second.
    #[arg(long, value_name = "RATE", hide = true)]
    copy_rate: Option<f64>,
    /// The same, in operations a second.
    #[arg(long, value_name = "RATE", hide = true)]
    matmul_rate: Option<f64>,
}

/// As [`Half`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum HalfArg {
    Checks,
    Speeds,
}

/// As [`ShapeChoice`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShapeArg {
    /// Qwen3-8B, and after it Qwen3-0.6B.
    #[value(name = "8b")]
    Large,
    /// Qwen3-0.6B.
    #[value(name = "0.6b")]
    Small,
    /// Two layers of width 32.
    Tiny,
}

impl GpuCheckArgs {
    fn options(&self) -> Options {
        Options {
            device: self.device,
            only: self.only.map(|half| match half {
                HalfArg::Checks => Half::Checks,
                HalfArg::Speeds => Half::Speeds,
            }),
            rows: self.row.clone(),
            time_limit_s: self.time_limit,
            shape: match self.shape {
                ShapeArg::Large => ShapeChoice::Large,
                ShapeArg::Small => ShapeChoice::Small,
                ShapeArg::Tiny => ShapeChoice::Tiny,
            },
            models: self.model.clone(),
            // A build without them checks the others.
            bundled: match (source::bundled(), source::bundled_draft()) {
                (Ok(chat), Ok(draft)) => Some(BundledModels { chat, draft }),
                _ => None,
            },
            threads: self.threads.unwrap_or_else(|| maitre::usable_cores().count),
        }
    }

    /// Where this process is to go on, if it is a worker.
    fn resume(&self) -> Option<Resume> {
        Some(Resume {
            first: self.from?,
            time_limit_s: self.time_limit,
            copy_bytes_per_s: self.copy_rate,
            matmul_flop_per_s: self.matmul_rate,
        })
    }
}

pub(crate) async fn run(args: GpuCheckArgs) -> Result<()> {
    let handle = tokio::runtime::Handle::current();
    let options = args.options();
    let outcome = tokio::task::spawn_blocking(move || match args.resume() {
        None => supervise(&options, args.out.as_deref(), &|resume| {
            worker(&options, resume)
        }),
        Some(resume) => work(&options, &resume, handle, report::report),
    })
    .await?;
    outcome.map_err(|error| match error {
        GpuCheckError::NoDevice { device, reason } => StartError::Setting {
            setting: "--device",
            found: device,
            expected: format!("a device that can be checked: {reason}"),
        }
        .into(),
        other => other.into(),
    })
}

/// This program again, with its own arguments, which later ones override.
fn worker(options: &Options, resume: &Resume) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(std::env::args_os().skip(1))
        .args(["--from", &resume.first.to_string()])
        .args(["--time-limit", &resume.time_limit_s.to_string()])
        .args(["--threads", &options.threads.to_string()]);
    for (flag, rate) in [
        ("--copy-rate", resume.copy_bytes_per_s),
        ("--matmul-rate", resume.matmul_flop_per_s),
    ] {
        if let Some(rate) = rate {
            command.args([flag, &rate.to_string()]);
        }
    }
    Ok(command)
}
