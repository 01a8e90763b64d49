//! Where this process stands in the host's hierarchies, read from `/proc/self/mountinfo` and `/proc/self/cgroup`.

use std::path::{Path, PathBuf};

/// The directories of our own groups, controller by controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The unified hierarchy, where it is mounted; it may be without the controllers that are needed.
    pub(super) unified: Option<PathBuf>,
    /// Version 1: limits and counts memory.
    pub(super) memory: Option<PathBuf>,
    /// Version 1: limits and counts processes.
    pub(super) pids: Option<PathBuf>,
    /// Version 1: counts CPU time.
    pub(super) cpuacct: Option<PathBuf>,
    /// Version 1: gives shares of the processors.
    pub(super) cpu: Option<PathBuf>,
    /// Version 1: stops a group as a whole.
    pub(super) freezer: Option<PathBuf>,
}

/// A mounted hierarchy.
struct Hierarchy<'a> {
    /// What of the hierarchy is mounted.
    root: String,
    mount_point: PathBuf,
    unified: bool,
    controllers: Vec<&'a str>,
}

/// Reads both files' texts.
pub(super) fn read(mountinfo: &str, own_groups: &str) -> Places {
    let mut places = Places::default();
    for hierarchy in mountinfo.lines().filter_map(hierarchy) {
        for (controllers, group) in own_groups.lines().filter_map(own_group) {
            let ours = if hierarchy.unified {
                controllers.is_empty()
            } else {
                // A named hierarchy (`name=systemd`) has no controller, and none of ours.
                controllers.iter().any(|controller| hierarchy.controllers.contains(controller))
            };
            if !ours {
                continue;
            }
            let place = beneath(&hierarchy, group);
            if hierarchy.unified {
                places.unified.get_or_insert(place);
                continue;
            }
            for controller in controllers {
                let slot = match controller {
                    "memory" => &mut places.memory,
                    "pids" => &mut places.pids,
                    "cpuacct" => &mut places.cpuacct,
                    "cpu" => &mut places.cpu,
                    "freezer" => &mut places.freezer,
                    _ => continue,
                };
                slot.get_or_insert_with(|| place.clone());
            }
        }
    }
    places
}

/// Reads a line of mountinfo; `None` when no hierarchy is mounted there. See proc_pid_mountinfo(5).
fn hierarchy(line: &str) -> Option<Hierarchy<'_>> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, mount_point) = (unescape(mount.next()?), PathBuf::from(unescape(mount.next()?)));
    let mut kind = kind.split(' ');
    let unified = match kind.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let controllers = kind.nth(1).map(|options| options.split(',').collect()).unwrap_or_default();
    Some(Hierarchy { root, mount_point, unified, controllers })
}

/// Reads a line `ID:CONTROLLERS:PATH`.
fn own_group(line: &str) -> Option<(Vec<&str>, &str)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    Some((controllers.split(',').filter(|name| !name.is_empty()).collect(), group))
}

/// Returns the directory of a group in a mount that may show only part of the hierarchy. What lies outside of
/// that part (`/../..`, in a cgroup namespace) cannot be reached; then the mount's own top is the nearest.
fn beneath(hierarchy: &Hierarchy<'_>, group: &str) -> PathBuf {
    let inside = Path::new(group).strip_prefix(&hierarchy.root).unwrap_or(Path::new(""));
    if inside.components().any(|part| part.as_os_str() == "..") {
        return hierarchy.mount_point.clone();
    }
    // Joining an empty path would add a slash.
    if inside.as_os_str().is_empty() {
        hierarchy.mount_point.clone()
    } else {
        hierarchy.mount_point.join(inside)
    }
}

/// Undoes the octal escapes of mountinfo: blank, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_hierarchies_are_found_by_controller() {
        let mountinfo = "\
            31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "9:name=systemd:/\n8:pids:/a\n4:memory:/docker/abc/x\n2:cpu,cpuacct:/\n0::/\n";
        let places = read(mountinfo, own);
        assert_eq!(
            places,
            Places {
                unified: Some("/sys/fs/cgroup/unified".into()),
                memory: Some("/sys/fs/cgroup/memory/x".into()),
                pids: Some("/sys/fs/cgroup/pids/a".into()),
                cpuacct: Some("/sys/fs/cgroup/cpu,cpuacct".into()),
                cpu: Some("/sys/fs/cgroup/cpu,cpuacct".into()),
                freezer: None,
            }
        );
    }

    #[test]
    fn the_unified_hierarchy_is_found_in_hosts_and_containers() {
        for (root, own, wanted) in [
            ("/", "0::/system.slice/portcullis.service\n", "/sys/fs/cgroup/system.slice/portcullis.service"),
            ("/", "0::/\n", "/sys/fs/cgroup"),
            ("/../..", "0::/../../x\n", "/sys/fs/cgroup/x"),
            ("/", "0::/../other\n", "/sys/fs/cgroup"),
            ("/docker/1", "0::/docker/1\n", "/sys/fs/cgroup"),
        ] {
            let mountinfo = format!("30 23 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
            assert_eq!(read(&mountinfo, own).unified, Some(wanted.into()), "{root} {own}");
        }
    }

    #[test]
    fn odd_lines_are_passed_over() {
        assert_eq!(read("", ""), Places::default());
        assert_eq!(read("x - cgroup2\n - - -\n1 2 3\n", "0\n::\n"), Places::default());
        let places = read("1 1 0:1 / /a\\040b rw - cgroup2 none rw\n", "0::/c\n");
        assert_eq!(places.unified, Some("/a b/c".into()));
    }
}
