//! The directories of the control groups that hold this process, its own first.
//!
//! ```text
//! /proc/self/cgroup      0::/system.slice/maitre.service              which group, as seen from the namespace
//!                        4:memory:/docker/ID                          (version 1: one line for each hierarchy)
//! /proc/self/mountinfo   … /docker /sys/fs/cgroup … - cgroup2 …       what part of the tree is mounted where
//! ```
//!
//! The group's path less the mount's root, below the mount point, is the group's directory; the directories between
//! it and the mount point are its ancestors. In a container the mount often shows only the container's own part:
//! then what is above cannot be seen, and the mount point is the group itself.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The two generations of control groups; both may be mounted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A control group that holds this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
}

/// The groups of `controller` that hold this process, from its own up to the highest that is mounted.
pub(super) fn groups(root: &Path, controller: &str) -> Vec<Group> {
    let read = |file: &str| fs::read_to_string(root.join("proc/self").join(file));
    let (Ok(memberships), Ok(mounts)) = (read("cgroup"), read("mountinfo")) else {
        return Vec::new();
    };
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    let mut groups = Vec::new();
    for line in memberships.lines() {
        let Some((version, path)) = membership(line, controller) else {
            continue;
        };
        let candidates = || {
            mounts
                .iter()
                .filter(|mount| mount.version == version && mount.has(controller))
        };
        let found = candidates().find_map(|mount| Some((mount, mount.below(&path)?)));
        // A mount of a part of the tree that the path does not lie in: what is mounted is all that can be known.
        let found = found.or_else(|| {
            let is_inside = !path.split('/').any(|part| part == "..");
            is_inside.then(|| Some((candidates().next()?, PathBuf::new())))?
        });
        if let Some((mount, below)) = found {
            groups.extend(upwards(root, mount, &below));
        }
    }
    groups
}

/// The directories from `below` up to the mount point, as far as they exist.
fn upwards(root: &Path, mount: &Mount, below: &Path) -> Vec<Group> {
    let top = root.join(mount.point.trim_start_matches('/'));
    below
        .ancestors()
        .map(|part| top.join(part))
        .filter(|directory| directory.is_dir())
        .map(|directory| Group {
            version: mount.version,
            directory,
        })
        .collect()
}

/// The version and path that a line of `/proc/self/cgroup` gives for `controller`.
fn membership(line: &str, controller: &str) -> Option<(Version, String)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    // Such a group has been removed; its ancestors still count.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    if id == "0" && controllers.is_empty() {
        return Some((Version::Two, path.to_owned()));
    }
    let has = controllers.split(',').any(|name| name == controller);
    has.then(|| (Version::One, path.to_owned()))
}

/// A mounted part of a tree of control groups.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// The group that is mounted, as seen from the namespace.
    root: String,
    point: String,
    /// Of version 1: among others, the controllers.
    options: String,
}

impl Mount {
    /// `ID PARENT DEVICE ROOT POINT OPTIONS [TAG…] - TYPE SOURCE OPTIONS`
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        Some(Self {
            version,
            root: unescaped(root),
            point: unescaped(point),
            options: after.nth(1).unwrap_or_default().to_owned(),
        })
    }

    fn has(&self, controller: &str) -> bool {
        self.version == Version::Two || self.options.split(',').any(|name| name == controller)
    }

    /// Where the group `path` lies below the mount point; `None` if it is not in what is mounted.
    fn below(&self, path: &str) -> Option<PathBuf> {
        if let Ok(below) = Path::new(path).strip_prefix(&self.root) {
            let plain = below
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            return plain.then(|| below.to_owned());
        }
        // `/..`: mounted outside the namespace, some levels above its root. The names between are not known.
        let is_above = self.root.split('/').skip(1).all(|part| part == "..");
        let is_inside = !path.split('/').any(|part| part == "..");
        (is_above && is_inside).then(PathBuf::new)
    }
}

/// Spaces, tabs, line ends and backslashes are octal numbers in `mountinfo`.
fn unescaped(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, sign)| {
        text.replace(code, sign)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A tree of files that stands for `/`.
    pub(in super::super) struct Tree(tempfile::TempDir);

    impl Tree {
        /// `files` are paths without the first slash, with their content.
        pub(in super::super) fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (file, content) in files {
                tree.write(file, content);
            }
            tree
        }

        pub(in super::super) fn write(&self, file: &str, content: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        pub(in super::super) fn root(&self) -> &Path {
            self.0.path()
        }

        fn groups(&self, controller: &str) -> Vec<String> {
            groups(self.root(), controller)
                .into_iter()
                .map(|group| shown(self.root(), &group.directory))
                .collect()
        }
    }

    fn shown(root: &Path, path: &Path) -> String {
        super::super::shown(root, path).display().to_string()
    }

    const TWO: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn a_systemd_unit_has_all_slices_above_it() {
        let tree = Tree::new(&[
            ("proc/self/cgroup", "0::/a.slice/a-b.slice/x.service\n"),
            ("proc/self/mountinfo", TWO),
            ("sys/fs/cgroup/a.slice/a-b.slice/x.service/memory.max", "1"),
        ]);
        assert_eq!(
            tree.groups("memory"),
            [
                "/sys/fs/cgroup/a.slice/a-b.slice/x.service",
                "/sys/fs/cgroup/a.slice/a-b.slice",
                "/sys/fs/cgroup/a.slice",
                "/sys/fs/cgroup",
            ]
        );
    }

    #[test]
    fn in_a_namespace_the_mount_point_is_the_group() {
        for (path, mounted) in [
            ("/", "/"),
            // Mounted outside the namespace.
            ("/", "/.."),
            ("/", "/../.."),
            // The host's path, and a mount of the container's own part.
            ("/docker/ID", "/docker/ID"),
            // The host's path, of which nothing is mounted.
            ("/docker/ID", "/"),
            ("/kubepods/pod1/ID", "/other"),
            ("/gone (deleted)", "/"),
        ] {
            let tree = Tree::new(&[
                ("proc/self/cgroup", &format!("0::{path}\n")),
                (
                    "proc/self/mountinfo",
                    &TWO.replace(" / ", &format!(" {mounted} ")),
                ),
                ("sys/fs/cgroup/memory.max", "1"),
            ]);
            let found = tree.groups("memory");
            assert_eq!(found, ["/sys/fs/cgroup"], "{path} in {mounted}");
        }
    }

    #[test]
    fn a_group_outside_the_namespace_is_not_taken_for_the_mounted_one() {
        let tree = Tree::new(&[
            ("proc/self/cgroup", "0::/../sibling\n"),
            ("proc/self/mountinfo", TWO),
            ("sys/fs/cgroup/memory.max", "1"),
        ]);
        assert!(tree.groups("memory").is_empty());
        let tree = Tree::new(&[
            ("proc/self/cgroup", "0::/../sibling\n"),
            ("proc/self/mountinfo", &TWO.replace(" / ", " /.. ")),
            ("sys/fs/cgroup/sibling/memory.max", "1"),
        ]);
        let expected = ["/sys/fs/cgroup/sibling", "/sys/fs/cgroup"];
        assert_eq!(tree.groups("memory"), expected);
    }

    #[test]
    fn version_1_has_a_tree_for_each_controller() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 /docker/ID /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let tree = Tree::new(&[
            (
                "proc/self/cgroup",
                "4:memory:/docker/ID/inner\n3:cpuset:/\n1:cpu,cpuacct:/docker/ID\n0::/\n",
            ),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "1"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/ID/cpu.cfs_quota_us", "1"),
            ("sys/fs/cgroup/unified/cgroup.procs", ""),
        ]);
        assert_eq!(
            tree.groups("memory"),
            [
                "/sys/fs/cgroup/memory/inner",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/unified",
            ]
        );
        assert_eq!(
            tree.groups("cpu"),
            [
                "/sys/fs/cgroup/cpu,cpuacct/docker/ID",
                "/sys/fs/cgroup/cpu,cpuacct/docker",
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/unified",
            ]
        );
    }

    #[test]
    fn names_with_spaces_and_backslashes_are_read_as_they_are() {
        let mounts = "30 23 0:26 /a\\134x2db /mnt/c\\040g rw - cgroup2 cgroup2 rw\n";
        let tree = Tree::new(&[
            ("proc/self/cgroup", "0::/a\\x2db/c:d\n"),
            ("proc/self/mountinfo", mounts),
            ("mnt/c g/c:d/memory.max", "1"),
        ]);
        assert_eq!(tree.groups("memory"), ["/mnt/c g/c:d", "/mnt/c g"]);
    }

    #[test]
    fn without_control_groups_there_is_none() {
        assert!(Tree::new(&[]).groups("memory").is_empty());
        let tree = Tree::new(&[
            ("proc/self/cgroup", "garbage\n0::/x\n"),
            (
                "proc/self/mountinfo",
                "22 1 0:20 / / rw - ext4 /dev/sda rw\n",
            ),
        ]);
        assert!(tree.groups("memory").is_empty());
    }
}
