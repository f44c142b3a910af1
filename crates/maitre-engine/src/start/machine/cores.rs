//! Processors that this process may keep busy.
//!
//! A control group may use `quota` microseconds of processor time in every `period`: `cpu.max` (version 2),
//! `cpu.cfs_quota_us` and `cpu.cfs_period_us` (version 1). Past it, all threads of the group stand still until the
//! period ends. A compute team waits for its slowest member at every operator, so a team larger than the quota would
//! stand still in every period: the quota is rounded down.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{Group, Version, groups};
use super::{number, shown};

/// How many, and what bounds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsableCores {
    /// At least 1.
    pub count: usize,
    /// The file of the control group that allows no more; `None` where the process's affinity, or the machine, has
    /// no more.
    pub limit: Option<PathBuf>,
}

impl fmt::Display for UsableCores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count;
        match &self.limit {
            None => write!(f, "{count}, the cores this process may use"),
            Some(file) => write!(
                f,
                "{count}, the processor time that {} allows",
                file.display()
            ),
        }
    }
}

/// `affinity`: the processors that threads of this process may run on.
pub(super) fn usable(root: &Path, affinity: usize) -> UsableCores {
    let unlimited = UsableCores {
        count: affinity.max(1),
        limit: None,
    };
    let limited = groups(root, "cpu")
        .into_iter()
        .filter_map(|group| allowed_by(root, &group));
    std::iter::once(unlimited)
        .chain(limited)
        .min_by_key(|cores| cores.count)
        .unwrap_or(UsableCores {
            count: 1,
            limit: None,
        })
}

/// What a group's quota allows; `None` if it has none.
fn allowed_by(root: &Path, group: &Group) -> Option<UsableCores> {
    let file = |name: &str| group.directory.join(name);
    let (quota, period, name) = match group.version {
        Version::Two => {
            // `max PERIOD`, or `QUOTA PERIOD`.
            let text = fs::read_to_string(file("cpu.max")).ok()?;
            let mut numbers = text.split_whitespace().map(str::parse::<u64>);
            let quota = numbers.next()?.ok()?;
            (quota, numbers.next()?.ok()?, "cpu.max")
        }
        Version::One => (
            // -1, which is no number here, stands for none.
            number(&file("cpu.cfs_quota_us"))?,
            number(&file("cpu.cfs_period_us"))?,
            "cpu.cfs_quota_us",
        ),
    };
    let whole = quota.checked_div(period)?;
    Some(UsableCores {
        count: usize::try_from(whole).unwrap_or(usize::MAX).max(1),
        limit: Some(shown(root, &file(name))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::tests::Tree;
    use super::*;

    fn of(files: &[(&str, &str)]) -> (usize, Option<String>) {
        let tree = Tree::new(&[
            ("proc/self/cgroup", "1:cpu,cpuacct:/a/b\n0::/a/b\n"),
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /two rw - cgroup2 cgroup2 rw\n\
                 32 31 0:29 / /one rw - cgroup cgroup rw,cpu,cpuacct\n",
            ),
        ]);
        for (file, content) in files {
            tree.write(file, content);
        }
        let cores = usable(tree.root(), 8);
        (cores.count, cores.limit.map(|l| l.display().to_string()))
    }

    #[test]
    fn a_quota_is_rounded_down_to_whole_processors() {
        for (max, count) in [
            ("400000 100000\n", 4),
            ("399999 100000\n", 3),
            ("250000 100000\n", 2),
            ("50000 100000\n", 1),
            ("1000 100000\n", 1),
            ("30000 10000\n", 3),
        ] {
            let expected = (count, Some("/two/a/b/cpu.max".to_owned()));
            assert_eq!(of(&[("two/a/b/cpu.max", max)]), expected, "{max}");
        }
    }

    #[test]
    fn no_quota_leaves_the_affinity() {
        for files in [
            &[][..],
            &[("two/a/b/cpu.max", "max 100000\n")],
            &[("two/a/b/cpu.max", "max\n")],
            &[("two/a/b/cpu.max", "100 0\n")],
            &[("two/a/b/cpu.max", "6400000 100000\n")],
            &[("two/a/b/cpu.max", "")],
            &[
                ("one/a/b/cpu.cfs_quota_us", "-1\n"),
                ("one/a/b/cpu.cfs_period_us", "100000\n"),
            ],
        ] {
            assert_eq!(of(files), (8, None), "{files:?}");
        }
        assert_eq!(usable(Tree::new(&[]).root(), 0).count, 1);
    }

    #[test]
    fn the_tightest_group_holds_in_either_version() {
        let above = [
            ("two/a/b/cpu.max", "500000 100000\n"),
            ("two/a/cpu.max", "200000 100000\n"),
        ];
        assert_eq!(of(&above), (2, Some("/two/a/cpu.max".to_owned())));
        let version_1 = [
            ("one/a/b/cpu.cfs_quota_us", "-1\n"),
            ("one/a/b/cpu.cfs_period_us", "100000\n"),
            ("one/a/cpu.cfs_quota_us", "300000\n"),
            ("one/a/cpu.cfs_period_us", "100000\n"),
        ];
        let expected = (3, Some("/one/a/cpu.cfs_quota_us".to_owned()));
        assert_eq!(of(&version_1), expected);
    }
}
