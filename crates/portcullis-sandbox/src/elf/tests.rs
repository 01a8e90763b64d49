use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::object::tests::object;
use super::*;

/// Everything that an executable needs, interpreters included.
fn files(executable: &Executable) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::from([executable.file.clone()]);
    match &executable.format {
        Format::Elf { loader, libraries, .. } => {
            files.extend(loader.iter().chain(libraries).map(|library| library.file.clone()));
        }
        Format::Script { interpreter, starts } => {
            files.append(&mut self::files(interpreter));
            files.extend(starts.iter().flat_map(|starts| self::files(starts)));
        }
    }
    files
}

/// A directory that is a search path and a library directory at once.
struct Host {
    _directory: tempfile::TempDir,
    root: PathBuf,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let host = Self { _directory: directory, root };
        host.file("ld.so", 0o755, &object(None, &[], None, None));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn file(&self, name: &str, mode: u32, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn program(&self, name: &str, needed: &[&str], rpath: Option<&str>, runpath: Option<&str>) {
        let loader = self.path("ld.so");
        self.file(name, 0o755, &object(Some(loader.to_str().unwrap()), needed, rpath, runpath));
    }

    fn library(&self, name: &str, needed: &[&str]) {
        self.file(name, 0o644, &object(None, needed, None, None));
    }

    fn find(&self, name: &str) -> Result<Executable, ProgramProblem> {
        executable(&ProgramName::parse(name).unwrap(), &[self.path("none"), self.root.clone()])
    }

    /// The message for a program that cannot run, with the directory's own path taken out.
    #[track_caller]
    fn problem(&self, name: &str) -> String {
        self.find(name).unwrap_err().explain().replace(self.root.to_str().unwrap(), "")
    }

    #[track_caller]
    fn files(&self, name: &str) -> Vec<String> {
        let files = files(&self.find(name).unwrap());
        files.iter().map(|file| file.strip_prefix(&self.root).unwrap().display().to_string()).collect()
    }
}

#[test]
fn libraries_are_found_transitively_by_runpath_and_rpath() {
    let host = Host::new();
    host.program("new", &["liba.so"], None, Some("$ORIGIN/lib"));
    host.program("old", &["libc1.so"], Some("${ORIGIN}/lib"), None);
    host.file("lib/liba.so", 0o644, &object(None, &["libb.so.1"], None, Some("$ORIGIN/deep")));
    host.library("lib/deep/libb.so.1.2", &[]);
    symlink("libb.so.1.2", host.path("lib/deep/libb.so.1")).unwrap();
    // An RPATH counts for what is needed further down; a RUNPATH does not.
    host.library("lib/libc1.so", &["libc2.so", "libc1.so"]);
    host.library("lib/libc2.so", &["libc1.so"]);
    assert_eq!(host.files("new"), ["ld.so", "lib/deep/libb.so.1.2", "lib/liba.so", "new"]);
    assert_eq!(host.files("old"), ["ld.so", "lib/libc1.so", "lib/libc2.so", "old"]);
    host.program("short", &["libc3.so"], None, Some("$ORIGIN/lib"));
    host.library("lib/libc3.so", &["libc2.so"]);
    assert_eq!(host.problem("short"), "`/lib/libc3.so` needs the library `libc2.so`, which is not installed");
}

#[test]
fn a_library_for_another_machine_is_passed_over() {
    let host = Host::new();
    let mut foreign = object(None, &[], None, None);
    foreign[4] = 1;
    host.file("first/liba.so", 0o644, &foreign);
    host.library("second/liba.so", &[]);
    host.program("p", &["liba.so"], None, Some("$ORIGIN/first:$ORIGIN/second"));
    assert_eq!(host.files("p"), ["ld.so", "p", "second/liba.so"]);
}

#[test]
fn every_processor_variant_of_a_library_comes_along() {
    let host = Host::new();
    host.library("lib/liba.so", &[]);
    host.library("lib/glibc-hwcaps/x86-64-v3/liba.so", &[]);
    host.program("p", &["liba.so"], None, Some("$ORIGIN/lib"));
    assert_eq!(host.files("p"), ["ld.so", "lib/glibc-hwcaps/x86-64-v3/liba.so", "lib/liba.so", "p"]);
}

#[test]
fn what_is_wrong_with_a_program_is_said() {
    let host = Host::new();
    fs::create_dir(host.path("directory")).unwrap();
    host.file("plain", 0o644, &object(None, &[], None, None));
    host.file("text", 0o755, b"echo no interpreter\n");
    host.file("empty", 0o755, b"");
    host.file("cut", 0o755, &object(None, &[], None, None)[..70]);
    let mut foreign = object(None, &[], None, None);
    foreign[18] = 40;
    host.file("arm", 0o755, &foreign);
    host.file("lost", 0o755, &object(Some("/nowhere/ld.so"), &[], None, None));
    host.program("bare", &["libnone-such.so.9"], None, None);
    symlink("loop", host.path("loop")).unwrap();
    symlink("gone", host.path("dangling")).unwrap();
    for (name, wanted) in [
        ("directory", "`/directory` is not a regular file"),
        ("plain", "`/plain` is not executable: `chmod +x /plain`, if it is to be a program"),
        ("text", "`/text` cannot be executed: it is neither an ELF file nor a script with a `#!` line"),
        ("empty", "`/empty` cannot be executed: it is neither an ELF file nor a script with a `#!` line"),
        ("cut", "`/cut` cannot be executed: the program headers lie outside the file"),
        ("arm", "`/arm` is a program for 64-bit arm, and this host runs none"),
        (
            "lost",
            "`/lost` needs the loader `/nowhere/ld.so`, which is missing or no loader for this host: install \
             the C library that it was built with",
        ),
        ("bare", "`/bare` needs the library `libnone-such.so.9`, which is not installed"),
        ("loop", "could not read `/loop`: Too many levels of symbolic links (os error 40)"),
        ("dangling", "`dangling` is in none of `/none:`: install it, or correct the search path"),
        ("absent", "`absent` is in none of `/none:`: install it, or correct the search path"),
    ] {
        assert_eq!(host.problem(name), wanted);
    }
}

#[test]
fn the_first_executable_of_the_search_path_is_taken() {
    let host = Host::new();
    host.file("a/p", 0o644, b"not executable");
    host.program("b/p", &[], None, None);
    host.program("c/p", &[], None, None);
    let search = [PathBuf::from("relative"), host.path("a"), host.path("b"), host.path("c")];
    let found = executable(&ProgramName::parse("p").unwrap(), &search).unwrap();
    assert_eq!(found.found, host.path("b/p"));
}

#[test]
fn scripts_bring_their_interpreters_and_end_when_they_go_in_circles() {
    let host = Host::new();
    let root = host.root.display().to_string();
    host.program("sh", &[], None, None);
    host.program("env", &[], None, None);
    host.file("script", 0o755, format!("#! {root}/sh -e  \nexit\n").as_bytes());
    host.file("second", 0o755, format!("#!{root}/script").as_bytes());
    host.file("by-env", 0o755, format!("#!{root}/env sh\n").as_bytes());
    host.file("by-env-s", 0o755, format!("#!{root}/env -S A=b sh -x\n").as_bytes());
    assert_eq!(host.files("script"), ["ld.so", "script", "sh"]);
    assert_eq!(host.files("second"), ["ld.so", "script", "second", "sh"]);
    assert_eq!(host.files("by-env"), ["by-env", "env", "ld.so", "sh"]);
    assert_eq!(host.files("by-env-s"), ["by-env-s", "env", "ld.so", "sh"]);

    host.file("circle", 0o755, format!("#!{root}/circle\n").as_bytes());
    host.file("env-circle", 0o755, format!("#!{root}/env env-circle\n").as_bytes());
    host.file("odd-env", 0o755, format!("#!{root}/env -u X sh\n").as_bytes());
    host.file("nothing", 0o755, b"#! \n");
    host.file("relative", 0o755, b"#!sh\n");
    host.file("lost", 0o755, b"#!/nowhere/sh\n");
    host.file("long", 0o755, format!("#!/{}", "x".repeat(300)).as_bytes());
    for (name, wanted) in [
        ("circle", "`/circle` is a script of a script, more than 4 deep"),
        ("env-circle", "`/env-circle` is a script of a script, more than 4 deep"),
        (
            "odd-env",
            "`/odd-env` cannot be executed: its `#!` line starts `env` with something other than a program's name",
        ),
        ("nothing", "`/nothing` cannot be executed: its `#!` line names no program"),
        ("relative", "`/relative` cannot be executed: the program of its `#!` line is no absolute path"),
        (
            "lost",
            "`/lost` is a script whose interpreter cannot be run: could not read `/nowhere/sh`: No such file or directory (os error 2)",
        ),
        ("long", "`/long` cannot be executed: its `#!` line is longer than the kernel reads"),
    ] {
        assert_eq!(host.problem(name), wanted);
    }
}

#[test]
fn multi_call_executables_and_set_id_bits_are_seen() {
    let host = Host::new();
    host.program("busybox", &[], None, None);
    fs::hard_link(host.path("busybox"), host.path("cat")).unwrap();
    symlink("busybox", host.path("ls")).unwrap();
    host.program("su", &[], None, None);
    fs::set_permissions(host.path("su"), fs::Permissions::from_mode(0o4755)).unwrap();
    for (name, multi_call, set_id) in [
        ("cat", Some("busybox"), false),
        ("ls", Some("busybox"), false),
        ("su", None, true),
        ("ld.so", None, false),
    ] {
        let found = host.find(name).unwrap();
        assert_eq!((found.multi_call, found.set_id), (multi_call, set_id), "{name}");
    }
}

/// What ldd(1) says of a file; `None` where it says nothing.
fn ldd(file: &Path) -> Option<BTreeSet<PathBuf>> {
    #[expect(clippy::disallowed_methods, reason = "compares with the host's own tool")]
    let output = std::process::Command::new("ldd").arg(file).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths = text.lines().filter_map(|line| {
        let path = line.split("=>").last()?.split_whitespace().next()?;
        path.starts_with('/').then(|| fs::canonicalize(path).unwrap())
    });
    output.status.success().then(|| paths.collect())
}

#[test]
fn real_programs_need_what_ldd_says() {
    let search = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    let mut compared = 0;
    for name in ["ls", "cat", "find", "grep", "git", "sort", "awk", "perl", "python3", "node", "bash", "tar"]
    {
        let found = match executable(&ProgramName::parse(name).unwrap(), &search) {
            Ok(found) => found,
            Err(ProgramProblem::NotFound { .. }) => continue,
            Err(problem) => panic!("{problem}"),
        };
        assert_eq!(found.file, fs::canonicalize(&found.found).unwrap());
        if !matches!(found.format, Format::Elf { .. }) {
            continue;
        }
        let Some(wanted) = ldd(&found.file) else { continue };
        let files = files(&found);
        let missing: Vec<_> = wanted.difference(&files).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        for file in &files {
            assert_eq!(*file, fs::canonicalize(file).unwrap(), "a link is in the path");
        }
        compared += 1;
    }
    if compared == 0 {
        assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "no program to compare, or no ldd");
        eprintln!("SKIPPED: no program to compare, or no ldd");
    }
}

proptest! {
    #[test]
    fn script_lines_are_never_a_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((path, argument)) = script_line(&line) {
            prop_assert!(!path.is_empty());
            let _ = started_by_env(argument);
        }
    }
}
