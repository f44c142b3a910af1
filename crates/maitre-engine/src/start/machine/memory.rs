//! Memory that is left: of the machine, and under the limits of the control groups.
//!
//! | | version 2 | version 1 |
//! |---|---|---|
//! | limit | `memory.max`; `memory.high`, past which the kernel brakes the process | `memory.limit_in_bytes` |
//! | used | `memory.current` | `memory.usage_in_bytes` |
//! | of it cached files that make way | `inactive_file` of `memory.stat` | `total_inactive_file` |
//! | ancestors | always count | with `memory.use_hierarchy`; also as `hierarchical_memory_limit` of `memory.stat` |

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{Group, Version, groups};
use super::{number, shown};

/// Memory this process may still take, and what bounds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableMemory {
    /// Bytes that are left.
    pub bytes: u64,
    /// The limit of a control group that leaves no more; `None` where the machine itself has no more.
    pub limit: Option<MemoryLimit>,
}

/// A control group's limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes that the group may use.
    pub bytes: u64,
    /// The file that says so.
    pub file: PathBuf,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / (1024.0 * 1024.0);
        write!(f, "{mib:.1} MiB by {}", self.file.display())
    }
}

pub(super) fn available(root: &Path) -> Option<AvailableMemory> {
    let machine = fs::read_to_string(root.join("proc/meminfo"))
        .ok()
        .and_then(|text| meminfo_available(&text))
        .map(|bytes| AvailableMemory { bytes, limit: None });
    let limited = groups(root, "memory")
        .into_iter()
        .enumerate()
        .filter_map(|(level, group)| left_in(root, &group, level == 0));
    machine
        .into_iter()
        .chain(limited)
        .min_by_key(|available| available.bytes)
}

fn meminfo_available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// What a group's limit leaves; `None` if it has none. `max` does not parse and is no limit.
fn left_in(root: &Path, group: &Group, is_own: bool) -> Option<AvailableMemory> {
    let file = |name: &str| group.directory.join(name);
    let stat = fs::read_to_string(file("memory.stat")).unwrap_or_default();
    let (limits, usage, cached) = match group.version {
        Version::Two => (
            vec![
                (number(&file("memory.max")), "memory.max"),
                (number(&file("memory.high")), "memory.high"),
            ],
            "memory.current",
            entry(&stat, "inactive_file"),
        ),
        Version::One => {
            let is_flat = number(&file("memory.use_hierarchy")) == Some(0);
            if is_flat && !is_own {
                return None;
            }
            (
                vec![
                    (
                        number(&file("memory.limit_in_bytes")),
                        "memory.limit_in_bytes",
                    ),
                    (entry(&stat, "hierarchical_memory_limit"), "memory.stat"),
                ],
                "memory.usage_in_bytes",
                entry(&stat, "total_inactive_file").or_else(|| entry(&stat, "inactive_file")),
            )
        }
    };
    let (limit, name) = limits
        .into_iter()
        .filter_map(|(limit, name)| Some((limit?, name)))
        .min_by_key(|(limit, _)| *limit)?;
    let used = number(&file(usage)).unwrap_or(0);
    let held = used.saturating_sub(cached.unwrap_or(0));
    Some(AvailableMemory {
        bytes: limit.saturating_sub(held),
        limit: Some(MemoryLimit {
            bytes: limit,
            file: shown(root, &file(name)),
        }),
    })
}

/// A number of `memory.stat`, whose lines are `name number`.
fn entry(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::tests::Tree;
    use super::*;

    const TWO: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const ONE: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const MEMINFO: &str = "MemTotal: 4000 kB\nMemFree: 1 kB\nMemAvailable:   1000 kB\n";

    /// What is left, and the file that bounds it.
    fn left(tree: &Tree) -> (u64, Option<String>) {
        let available = available(tree.root()).unwrap();
        let file = available
            .limit
            .map(|limit| limit.file.display().to_string());
        (available.bytes, file)
    }

    fn unit(files: &[(&str, &str)]) -> Tree {
        let tree = Tree::new(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/a.slice/x.service\n"),
            ("proc/self/mountinfo", TWO),
        ]);
        for (file, content) in files {
            tree.write(&format!("sys/fs/cgroup/{file}"), content);
        }
        tree
    }

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        assert_eq!(meminfo_available(MEMINFO), Some(1000 * 1024));
        assert_eq!(meminfo_available("MemTotal: 100 kB\n"), None);
        assert_eq!(available(Tree::new(&[]).root()), None);
        let tree = Tree::new(&[("proc/meminfo", MEMINFO)]);
        assert_eq!(left(&tree), (1000 * 1024, None));
    }

    #[test]
    fn cached_files_are_no_used_memory() {
        let tree = unit(&[
            ("a.slice/x.service/memory.max", "100000\n"),
            ("a.slice/x.service/memory.current", "90000\n"),
            (
                "a.slice/x.service/memory.stat",
                "anon 10000\nfile 80000\ninactive_anon 7\ninactive_file 70000\nactive_file 10000\n",
            ),
        ]);
        let file = "/sys/fs/cgroup/a.slice/x.service/memory.max";
        assert_eq!(left(&tree), (80_000, Some(file.into())));
        let limit = available(tree.root()).unwrap().limit.unwrap();
        assert_eq!(limit.to_string(), format!("0.1 MiB by {file}"));
    }

    #[test]
    fn the_tightest_group_of_all_above_holds() {
        let tree = unit(&[
            ("a.slice/x.service/memory.max", "max\n"),
            ("a.slice/x.service/memory.current", "10\n"),
            ("a.slice/memory.max", "5000\n"),
            ("a.slice/memory.current", "4000\n"),
            ("memory.current", "9999999\n"),
        ]);
        let file = "/sys/fs/cgroup/a.slice/memory.max";
        assert_eq!(left(&tree), (1000, Some(file.into())));
    }

    #[test]
    fn a_limit_that_brakes_counts_too() {
        let tree = unit(&[
            ("a.slice/x.service/memory.max", "9000\n"),
            ("a.slice/x.service/memory.high", "7000\n"),
            ("a.slice/x.service/memory.current", "8000\n"),
        ]);
        let file = "/sys/fs/cgroup/a.slice/x.service/memory.high";
        assert_eq!(left(&tree), (0, Some(file.into())));
    }

    #[test]
    fn no_limit_leaves_what_the_machine_has() {
        for files in [
            &[][..],
            &[("a.slice/x.service/memory.max", "max\n")],
            &[
                ("a.slice/x.service/memory.max", "max\n"),
                ("a.slice/x.service/memory.high", "max\n"),
                ("a.slice/x.service/memory.current", "123\n"),
            ],
            &[("a.slice/x.service/memory.max", "99999999999\n")],
        ] {
            assert_eq!(left(&unit(files)), (1000 * 1024, None), "{files:?}");
        }
    }

    fn container(files: &[(&str, &str)]) -> Tree {
        let tree = Tree::new(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "4:memory:/docker/ID\n0::/\n"),
            ("proc/self/mountinfo", ONE),
        ]);
        for (file, content) in files {
            tree.write(&format!("sys/fs/cgroup/memory/{file}"), content);
        }
        tree
    }

    #[test]
    fn version_1_is_read_by_its_own_names() {
        let tree = container(&[
            ("docker/ID/memory.limit_in_bytes", "100000\n"),
            ("docker/ID/memory.usage_in_bytes", "95000\n"),
            (
                "docker/ID/memory.stat",
                "inactive_file 1\nhierarchical_memory_limit 100000\ntotal_inactive_file 45000\n",
            ),
            ("docker/memory.limit_in_bytes", "9223372036854771712\n"),
            ("docker/memory.usage_in_bytes", "95000\n"),
        ]);
        let file = "/sys/fs/cgroup/memory/docker/ID/memory.limit_in_bytes";
        assert_eq!(left(&tree), (50_000, Some(file.into())));
    }

    #[test]
    fn version_1_counts_ancestors_only_where_they_are_charged() {
        let files = |hierarchy| {
            container(&[
                ("docker/ID/memory.limit_in_bytes", "9223372036854771712\n"),
                ("docker/memory.limit_in_bytes", "2000\n"),
                ("docker/memory.usage_in_bytes", "500\n"),
                ("docker/memory.use_hierarchy", hierarchy),
            ])
        };
        assert_eq!(left(&files("1\n")).0, 1500);
        assert_eq!(left(&files("0\n")), (1000 * 1024, None));
    }

    #[test]
    fn version_1_knows_the_limits_of_groups_that_cannot_be_seen() {
        let tree = container(&[
            ("docker/ID/memory.limit_in_bytes", "9223372036854771712\n"),
            ("docker/ID/memory.usage_in_bytes", "100\n"),
            ("docker/ID/memory.stat", "hierarchical_memory_limit 3000\n"),
        ]);
        let file = "/sys/fs/cgroup/memory/docker/ID/memory.stat";
        assert_eq!(left(&tree), (2900, Some(file.into())));
    }
}
