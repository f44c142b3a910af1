//! What this process may use of the machine: memory, processor time, threads.
//!
//! A container or a systemd unit limits a process by control groups (cgroups). A limit may stand in the process's
//! own group or in any group above it, so all of them are read and the tightest holds. [`cgroup`] finds their
//! directories; the other files read what stands in them. Everything is read below a root directory, `/` except in
//! tests, which lay out trees of their own.

mod cgroup;
mod cores;
mod memory;
mod threads;

use std::path::{Path, PathBuf};

pub use cores::UsableCores;
pub use memory::{AvailableMemory, MemoryLimit};
pub use threads::{ThreadLimit, require_threads};

/// Where `/proc` and `/sys` are.
const ROOT: &str = "/";

/// Memory this process may still take: what the system has available, or what the tightest limit of its control
/// groups still allows, whichever is less. `None` where neither can be read.
///
/// Files that the system has cached on behalf of a group count as used there, but make way for whatever asks: they
/// are not counted (`inactive_file`).
#[must_use]
pub fn available_memory() -> Option<AvailableMemory> {
    memory::available(Path::new(ROOT))
}

/// Processors this process may keep busy: those its affinity allows, or the time that its control groups allow,
/// whichever is less.
#[must_use]
pub fn usable_cores() -> UsableCores {
    let affinity = std::thread::available_parallelism().map_or(1, usize::from);
    cores::usable(Path::new(ROOT), affinity)
}

/// The file of `directory` as a reader outside a test sees it, with the number that stands in it.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `path` without the root that it was read below.
fn shown(root: &Path, path: &Path) -> PathBuf {
    let below = path.strip_prefix(root).unwrap_or(path);
    Path::new(ROOT).join(below)
}
