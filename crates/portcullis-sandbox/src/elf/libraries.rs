//! Finds the shared libraries of an object as the dynamic loader would. See ld.so(8) and ldconfig(8).
//!
//! The loader's cache is a digest of the directories that `/etc/ld.so.conf` names; those are searched instead,
//! so that no binary format is read for what the directories say themselves.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::object::{self, Object};
use super::{ProgramProblem, open_regular};

/// Where the loader looks after everything else; those that are not there are passed over.
const DEFAULT_DIRECTORIES: [&str; 6] = if cfg!(target_arch = "aarch64") {
    ["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
} else {
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
};
const MACHINE: &str = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };

/// Loaded at run time by the C library itself, where they are there: old name service, and unwinding for
/// `pthread_cancel`.
const COMPANIONS: [&str; 2] = ["libnss_files.so.2", "libgcc_s.so.1"];

/// More libraries than any program has; what goes beyond is refused.
const MAX_LIBRARIES: usize = 2048;

/// A shared library, or a loader, on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Library {
    /// Where the loader opens it.
    pub(crate) path: PathBuf,
    /// The file that this is, without a link in it.
    pub(crate) file: PathBuf,
}

/// The directories of this host in which libraries are searched.
#[derive(Debug, Clone)]
pub(super) struct SystemDirectories {
    glibc: Vec<PathBuf>,
    musl: Vec<PathBuf>,
}

impl SystemDirectories {
    /// Reads the host's configuration.
    pub(super) fn read() -> Self {
        let mut glibc = configured(Path::new("/etc/ld.so.conf"), 8);
        glibc.extend(DEFAULT_DIRECTORIES.map(PathBuf::from));
        let musl = fs::read_to_string(format!("/etc/ld-musl-{MACHINE}.path")).map_or_else(
            |_| ["/lib", "/usr/local/lib", "/usr/lib"].map(PathBuf::from).to_vec(),
            |text| text.split([':', '\n']).filter(|path| path.starts_with('/')).map(PathBuf::from).collect(),
        );
        Self { glibc, musl }
    }
}

/// Reads the directories that a file in the form of `/etc/ld.so.conf` names; what cannot be read names none, as
/// for ldconfig(8).
fn configured(path: &Path, depth: usize) -> Vec<PathBuf> {
    let (Some(depth), Ok(text)) = (depth.checked_sub(1), fs::read_to_string(path)) else {
        return Vec::new();
    };
    let mut directories = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(patterns) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
            for pattern in patterns.split_whitespace() {
                let pattern = path.parent().unwrap_or(Path::new("/")).join(pattern);
                for included in expand(&pattern) {
                    directories.extend(configured(&included, depth));
                }
            }
        } else if !line.starts_with("hwcap ") {
            let named = line.split([' ', '\t', ':', ',']).filter_map(|entry| entry.split('=').next());
            directories.extend(named.filter(|entry| entry.starts_with('/')).map(PathBuf::from));
        }
    }
    directories
}

/// Expands `*` and `?` in the last component, in the order of the names.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let names: BTreeSet<_> =
        fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    let fitting = names.into_iter().filter(|known| matches(name.as_bytes(), known.as_bytes()));
    fitting.map(|known| parent.join(known)).collect()
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, name) || name.split_first().is_some_and(|(_, name)| matches(pattern, name))
        }
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((wanted, rest)), Some((byte, name))) => wanted == byte && matches(rest, name),
        _ => false,
    }
}

/// An object whose needs are to be met.
struct Loaded {
    object: Object,
    library: Library,
    /// `DT_RPATH`s that count for it: its own and those of what loaded it.
    rpaths: Vec<PathBuf>,
}

/// Collects libraries for one program.
pub(super) struct Collector<'a> {
    system: &'a SystemDirectories,
    musl: bool,
    /// The loader, which is also musl's C library.
    loader: Library,
    /// Names that are met.
    by_name: BTreeSet<Vec<u8>>,
    by_file: BTreeSet<PathBuf>,
    libraries: Vec<Library>,
}

impl<'a> Collector<'a> {
    /// Begins with the loader of the program.
    pub(super) fn new(system: &'a SystemDirectories, loader: Library) -> Self {
        let musl = loader.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ld-musl-"));
        let by_file = BTreeSet::from([loader.file.clone()]);
        Self { system, musl, loader, by_name: BTreeSet::new(), by_file, libraries: Vec::new() }
    }

    /// Adds everything that an object needs, transitively.
    ///
    /// # Errors
    /// When a library is not found, or one that is found cannot be read.
    pub(super) fn add(&mut self, object: Object, library: Library) -> Result<(), ProgramProblem> {
        let rpaths = own_rpaths(&object, &library);
        self.satisfy(VecDeque::from([Loaded { object, library, rpaths }]))
    }

    /// Adds what may be loaded later: what of it cannot be found is passed over, as it would fail at run time
    /// with the program's own message.
    pub(super) fn add_optional(&mut self, path: &Path) {
        if let Some((library, object)) = candidate(path) {
            // What is missing is the module's own trouble.
            let _ = self.add(object, library);
        }
    }

    /// Finishes: adds what the C library itself loads, and returns all.
    pub(super) fn finish(mut self) -> Vec<Library> {
        if !self.musl && self.by_name.contains(&b"libc.so.6"[..]) {
            for name in COMPANIONS {
                let Some((found, object)) = self.find_in(&self.system.glibc.clone(), name.as_bytes()) else {
                    continue;
                };
                if self.by_file.insert(found.file.clone()) {
                    self.libraries.push(found.clone());
                    // Optional, and so are its needs.
                    let _ = self.add(object, found);
                }
            }
        }
        self.libraries
    }

    /// Returns the libraries so far.
    pub(super) fn so_far(&self) -> &[Library] {
        &self.libraries
    }

    fn satisfy(&mut self, mut queue: VecDeque<Loaded>) -> Result<(), ProgramProblem> {
        while let Some(loaded) = queue.pop_front() {
            for name in loaded.object.needed.clone() {
                if self.by_name.contains(&name) || self.is_loader(&name) {
                    continue;
                }
                let found = self.find(&loaded, &name).ok_or_else(|| ProgramProblem::MissingLibrary {
                    library: String::from_utf8_lossy(&name).into_owned(),
                    needed_by: loaded.library.path.clone(),
                })?;
                self.by_name.insert(name.clone());
                // The loader takes the variant that fits the processor; all of them come along.
                let variants = hwcaps_variants(&found.0.path);
                for (library, object) in std::iter::once(found).chain(variants) {
                    if !self.by_file.insert(library.file.clone()) {
                        continue;
                    }
                    if self.libraries.len() == MAX_LIBRARIES {
                        return Err(ProgramProblem::Malformed {
                            path: loaded.library.path,
                            problem: "it needs more libraries than any program does",
                        });
                    }
                    self.libraries.push(library.clone());
                    let mut rpaths = own_rpaths(&object, &library);
                    rpaths.extend(loaded.rpaths.iter().cloned());
                    queue.push_back(Loaded { object, library, rpaths });
                }
            }
        }
        Ok(())
    }

    /// Whether a needed name is the loader itself: musl's is the C library too.
    fn is_loader(&self, name: &[u8]) -> bool {
        let loader = self.loader.path.file_name().map(OsStr::as_bytes);
        loader == Some(name) || self.musl && (name == b"libc.so" || name.starts_with(b"libc.musl-"))
    }

    fn find(&self, loaded: &Loaded, name: &[u8]) -> Option<(Library, Object)> {
        if name.contains(&b'/') {
            return expand_tokens(name, &loaded.library).into_iter().find_map(|path| candidate(&path));
        }
        let runpaths = loaded.object.runpath.as_deref().map(|list| path_list(list, &loaded.library));
        let (first, second): (&[PathBuf], &[PathBuf]) = match &runpaths {
            Some(runpaths) => (&[], runpaths),
            None => (&loaded.rpaths, &[]),
        };
        let system = if self.musl { &self.system.musl } else { &self.system.glibc };
        [first, second, system].into_iter().find_map(|directories| self.find_in(directories, name))
    }

    fn find_in(&self, directories: &[PathBuf], name: &[u8]) -> Option<(Library, Object)> {
        directories.iter().find_map(|directory| candidate(&directory.join(OsStr::from_bytes(name))))
    }
}

/// Opens a candidate; one that is absent or for another machine is passed over, as the loader does.
fn candidate(path: &Path) -> Option<(Library, Object)> {
    let file = fs::canonicalize(path).ok()?;
    let object = object::read(&open_regular(&file).ok()?).ok()?;
    Some((Library { path: path.to_owned(), file }, object))
}

fn hwcaps_variants(path: &Path) -> Vec<(Library, Object)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let levels: BTreeSet<_> = fs::read_dir(directory.join("glibc-hwcaps"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    levels.iter().filter_map(|level| candidate(&level.join(name))).collect()
}

fn own_rpaths(object: &Object, library: &Library) -> Vec<PathBuf> {
    match (&object.rpath, &object.runpath) {
        (Some(list), None) => path_list(list, library),
        _ => Vec::new(),
    }
}

/// Reads a list of directories, of which only absolute ones count: what is relative to the working directory
/// is no library of the host.
fn path_list(list: &[u8], library: &Library) -> Vec<PathBuf> {
    list.split(|byte| *byte == b':').flat_map(|entry| expand_tokens(entry, library)).collect()
}

/// Puts in `$ORIGIN`, `$LIB` and `$PLATFORM`; where a token may mean several things, all of them.
fn expand_tokens(text: &[u8], library: &Library) -> Vec<PathBuf> {
    let origins: BTreeSet<&Path> =
        [&library.path, &library.file].into_iter().filter_map(|p| p.parent()).collect();
    let multiarch = format!("lib/{MACHINE}-linux-gnu");
    let tokens: [(&str, Vec<&[u8]>); 3] = [
        ("ORIGIN", origins.into_iter().map(|path| path.as_os_str().as_bytes()).collect()),
        ("LIB", vec![multiarch.as_bytes(), b"lib64", b"lib"]),
        ("PLATFORM", vec![MACHINE.as_bytes()]),
    ];
    let mut made = vec![text.to_vec()];
    for (token, values) in &tokens {
        for written in [format!("${{{token}}}"), format!("${token}")] {
            made = made
                .into_iter()
                .flat_map(|text| match split_once(&text, written.as_bytes()) {
                    Some((before, after)) => {
                        values.iter().map(|value| [&before, *value, &after].concat()).collect()
                    }
                    None => vec![text],
                })
                .collect();
        }
    }
    let paths = made.into_iter().map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
    paths.filter(|path| path.is_absolute()).collect()
}

fn split_once(text: &[u8], separator: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    let (before, rest) = text.split_at(at);
    Some((before.to_vec(), rest.get(separator.len()..).unwrap_or_default().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_read_with_its_includes() {
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().join("ld.so.conf");
        fs::create_dir(directory.path().join("d")).unwrap();
        fs::write(
            &conf,
            "/a # first\ninclude d/*.conf\nhwcap 1 x\n/b=libc6:/c relative\ninclude ld.so.conf\n",
        )
        .unwrap();
        fs::write(directory.path().join("d/2.conf"), "/two\n").unwrap();
        fs::write(directory.path().join("d/1.conf"), "/one\n").unwrap();
        fs::write(directory.path().join("d/0.txt"), "/no\n").unwrap();
        let directories = configured(&conf, 8);
        assert_eq!(directories[..5], ["/a", "/one", "/two", "/b", "/c"].map(PathBuf::from));
        assert!(directories.len() <= 5 * 8, "a file that includes itself ends");
    }

    #[test]
    fn tokens_are_put_in_and_relative_entries_left_out() {
        let library = Library { path: "/opt/x/bin/p".into(), file: "/opt/x/bin/p".into() };
        let paths = path_list(b"$ORIGIN/../lib:${ORIGIN}:lib::/abs/$PLATFORM", &library);
        let machine = format!("/abs/{MACHINE}");
        assert_eq!(paths, ["/opt/x/bin/../lib", "/opt/x/bin", &machine].map(PathBuf::from));
    }
}
