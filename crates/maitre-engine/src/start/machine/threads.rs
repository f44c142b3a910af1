//! Threads that this process may start.
//!
//! Libraries that start threads of their own panic, or wait for ever, where the system refuses one. So a program
//! tries first whether it may have as many as it will need, and says what is in the way if not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use super::cgroup::groups;
use super::{ROOT, number, shown};

/// The system refused a thread.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system lets this process start only {started} of the {needed} threads it needs ({cause}); {}",
    advice(limit.as_ref())
)]
pub struct ThreadLimit {
    /// Threads that could be started.
    started: usize,
    /// Threads that were to be.
    needed: usize,
    /// What the system said.
    cause: io::Error,
    limit: Option<TaskLimit>,
}

/// A number of threads, and what allows no more.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TaskLimit {
    /// A control group's `pids.max`.
    Group { most: u64, file: PathBuf },
    /// The user's limit, over all processes of that user.
    User { most: u64 },
}

fn advice(limit: Option<&TaskLimit>) -> String {
    match limit {
        Some(TaskLimit::Group { most, file }) => format!(
            "{} allows {most} processes and threads: raise it (--pids-limit of a container, TasksMax= of a \
             systemd unit)",
            file.display()
        ),
        Some(TaskLimit::User { most }) => {
            format!("this user may have {most} processes and threads: raise it (ulimit -u)")
        }
        None => "raise the limit of processes (ulimit -u) or of memory (ulimit -v)".to_owned(),
    }
}

/// Starts `needed` threads at once and ends them again.
///
/// # Errors
///
/// [`ThreadLimit`], with the limit that was met as far as it can be told.
pub fn require_threads(needed: usize) -> Result<(), ThreadLimit> {
    let (keep, kept) = mpsc::channel::<()>();
    let kept = std::sync::Arc::new(std::sync::Mutex::new(kept));
    let mut threads = Vec::new();
    let mut refused = None;
    for _ in 0..needed {
        let kept = std::sync::Arc::clone(&kept);
        // Ends when `keep` is dropped.
        let body = move || drop(kept.lock().map(|kept| kept.recv()));
        match thread::Builder::new().spawn(body) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let limit = refused
        .as_ref()
        .and_then(|_| nearest_limit(Path::new(ROOT)));
    drop(keep);
    let started = threads.len();
    for thread in threads {
        // The body cannot panic.
        let _ = thread.join();
    }
    match refused {
        None => Ok(()),
        Some(cause) => Err(ThreadLimit {
            started,
            needed,
            cause,
            limit,
        }),
    }
}

/// The limit that is met: a group without another task left, else the user's if there is one.
fn nearest_limit(root: &Path) -> Option<TaskLimit> {
    let full = groups(root, "pids").into_iter().find_map(|group| {
        let file = group.directory.join("pids.max");
        let most = number(&file)?;
        let current = number(&group.directory.join("pids.current"))?;
        (current >= most).then(|| TaskLimit::Group {
            most,
            file: shown(root, &file),
        })
    });
    full.or_else(|| {
        let limits = fs::read_to_string(root.join("proc/self/limits")).ok()?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max processes"))?;
        let most = line.split_whitespace().next()?.parse().ok()?;
        // The superuser is not bound by it.
        (!is_superuser(root)).then_some(TaskLimit::User { most })
    })
}

fn is_superuser(root: &Path) -> bool {
    fs::read_to_string(root.join("proc/self/status")).is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::tests::Tree;
    use super::*;

    #[test]
    fn a_few_threads_can_be_had() {
        require_threads(3).unwrap();
    }

    fn tree(current: &str, uid: &str) -> Tree {
        Tree::new(&[
            ("proc/self/cgroup", "0::/x\n"),
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n",
            ),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max processes             17                   31                   processes \n",
            ),
            ("proc/self/status", &format!("Name:\tx\nUid:\t{uid}\n")),
            ("cg/x/pids.max", "max\n"),
            ("cg/x/pids.current", "5\n"),
            ("cg/pids.max", "9\n"),
            ("cg/pids.current", current),
        ])
    }

    #[test]
    fn the_limit_that_is_met_is_named() {
        let group = nearest_limit(tree("9\n", "1000\t1000\t1000\t1000").root()).unwrap();
        let expected = "/cg/pids.max allows 9 processes and threads: raise it (--pids-limit of a container, \
                        TasksMax= of a systemd unit)";
        assert_eq!(advice(Some(&group)), expected);
        let user = nearest_limit(tree("8\n", "1000\t1000\t1000\t1000").root()).unwrap();
        let expected = "this user may have 17 processes and threads: raise it (ulimit -u)";
        assert_eq!(advice(Some(&user)), expected);
        assert_eq!(nearest_limit(tree("8\n", "0\t0\t0\t0").root()), None);
        assert_eq!(nearest_limit(Tree::new(&[]).root()), None);
    }
}
