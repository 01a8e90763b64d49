//! Finds out what a program needs to run: its file, its interpreter and its libraries.
//!
//! The view of a cell is `noexec` but for the programs of a permit and what they map; this module says which
//! files those are. It reads headers only, and starts nothing.
//!
//! # Terms
//! A program is *found* at a path of the search path and is there a *file*, behind whatever symbolic links. Its
//! *interpreter* is the program of its `#!` line; its *loader* is what `PT_INTERP` names. *Modules* are shared
//! objects that it loads by name while it runs.

mod libraries;
mod modules;
mod object;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use libraries::{Collector, SystemDirectories};
use object::{ObjectProblem, ReadAt};
use portcullis_core::ProgramName;

pub(crate) use libraries::Library;

/// How deep scripts may name scripts; the kernel's own bound is about the same.
const MAX_INTERPRETERS: usize = 4;
/// What the kernel reads of a script: `BINPRM_BUF_SIZE`.
const SCRIPT_LINE_BYTES: usize = 256;
/// Executables that are many programs, told apart by `argv[0]`.
const MULTI_CALL: [&str; 5] = ["busybox", "toybox", "coreutils", "sbase-box", "ubase-box"];

/// A program of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executable {
    /// Where it was found, and where commands call it.
    pub(crate) found: PathBuf,
    /// The file that this is, without a link in it.
    pub(crate) file: PathBuf,
    /// What kind of file, and what it needs.
    pub(crate) format: Format,
    /// Whether it has a set-user-id or set-group-id bit, which has no effect in a cell.
    pub(crate) set_id: bool,
    /// The name of the multi-call executable that this is, if it is one: for the kernel all its applets are the
    /// same program.
    pub(crate) multi_call: Option<&'static str>,
}

/// What kind of file a program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// An ELF file.
    Elf {
        /// The dynamic loader; a static program has none.
        loader: Option<Library>,
        /// Every library that it and its libraries and modules need.
        libraries: Vec<Library>,
        /// Directories of modules that it may load.
        module_directories: Vec<PathBuf>,
    },
    /// A script.
    Script {
        /// The program of its `#!` line.
        interpreter: Box<Executable>,
        /// What that starts in turn, where it is `env`.
        starts: Option<Box<Executable>>,
    },
}

/// Why a program cannot be run on this host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramProblem {
    /// No directory of the search path has it.
    #[error("`{program}` is in none of `{}`: install it, or correct the search path", .search.join(":"))]
    NotFound {
        /// The program's name.
        program: String,
        /// Where it was looked for.
        search: Vec<String>,
    },
    /// It is a directory, a device or the like.
    #[error("`{}` is not a regular file", .path.display())]
    NotAFile {
        /// Where it was found.
        path: PathBuf,
    },
    /// Nobody may execute it.
    #[error("`{path}` is not executable: `chmod +x {path}`, if it is to be a program", path = .path.display())]
    NotExecutable {
        /// Where it was found.
        path: PathBuf,
    },
    /// It could not be looked at.
    #[error("could not read `{}`", .path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is neither an ELF file nor a script, or not a sound one.
    #[error("`{}` cannot be executed: {problem}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It was built for another kind of machine.
    #[error("`{}` is a program for {machine}, and this host runs none", .path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// For what it was built.
        machine: String,
    },
    /// Its loader is missing or none.
    #[error("`{}` needs the loader `{}`, which is missing or no loader for this host: install the C library that it was built with", .path.display(), .loader.display())]
    MissingLoader {
        /// The program.
        path: PathBuf,
        /// What it names.
        loader: PathBuf,
    },
    /// A library is in no directory that the loader searches.
    #[error("`{}` needs the library `{library}`, which is not installed", .needed_by.display())]
    MissingLibrary {
        /// The library's name.
        library: String,
        /// The program or library that needs it.
        needed_by: PathBuf,
    },
    /// The program of its `#!` line cannot be run.
    #[error("`{}` is a script whose interpreter cannot be run", .path.display())]
    Interpreter {
        /// The script.
        path: PathBuf,
        /// What is wrong with the interpreter.
        source: Box<ProgramProblem>,
    },
    /// Scripts name scripts, too often.
    #[error("`{}` is a script of a script, more than {MAX_INTERPRETERS} deep", .path.display())]
    TooDeep {
        /// The script at which it became too much.
        path: PathBuf,
    },
}

impl ProgramProblem {
    /// Says what is wrong and, behind it, what caused that: one line for an operator.
    pub(crate) fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Finds a program in the directories of a search path, of which relative ones are passed over, and everything
/// that it needs. As execvp(3) does, takes the first that may be executed.
///
/// # Errors
/// When there is none, or the one that there is could not run.
pub(crate) fn executable(name: &ProgramName, search: &[PathBuf]) -> Result<Executable, ProgramProblem> {
    Finder { search, system: SystemDirectories::read() }.by_name(name.as_str(), MAX_INTERPRETERS)
}

struct Finder<'a> {
    search: &'a [PathBuf],
    system: SystemDirectories,
}

impl Finder<'_> {
    fn by_name(&self, name: &str, depth: usize) -> Result<Executable, ProgramProblem> {
        let mut problem = None;
        for directory in self.search.iter().filter(|directory| directory.is_absolute()) {
            match self.file_at(&directory.join(name)) {
                Ok(Some(found)) => return self.examine(found, depth),
                Ok(None) => {}
                Err(other) => {
                    problem.get_or_insert(other);
                }
            }
        }
        Err(problem.unwrap_or_else(|| ProgramProblem::NotFound {
            program: name.to_owned(),
            search: self.search.iter().map(|directory| directory.display().to_string()).collect(),
        }))
    }

    fn at_path(&self, path: &Path, depth: usize) -> Result<Executable, ProgramProblem> {
        let found = self.file_at(path)?.ok_or_else(|| ProgramProblem::Unreadable {
            path: path.to_owned(),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        })?;
        self.examine(found, depth)
    }

    /// Returns the executable file at a path; `None` when nothing is there.
    fn file_at(&self, path: &Path) -> Result<Option<Found>, ProgramProblem> {
        let unreadable = |source| ProgramProblem::Unreadable { path: path.to_owned(), source };
        let file = match fs::canonicalize(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error)),
        };
        let metadata = fs::symlink_metadata(&file).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(ProgramProblem::NotAFile { path: path.to_owned() });
        }
        if metadata.mode() & 0o111 == 0 {
            return Err(ProgramProblem::NotExecutable { path: path.to_owned() });
        }
        Ok(Some(Found { path: path.to_owned(), file, metadata }))
    }

    fn examine(&self, found: Found, depth: usize) -> Result<Executable, ProgramProblem> {
        let Found { path, file, metadata } = found;
        let unreadable = |source| ProgramProblem::Unreadable { path: path.clone(), source };
        let opened = open_regular(&file).map_err(unreadable)?;
        let mut start = [0; SCRIPT_LINE_BYTES];
        let bytes = opened.read_at_most(&mut start, 0).map_err(unreadable)?;
        let format = if let Some(line) = start.get(..bytes).and_then(|start| start.strip_prefix(b"#!")) {
            self.script(&path, line, depth)?
        } else if !start.starts_with(b"\x7fELF") {
            let problem = "it is neither an ELF file nor a script with a `#!` line";
            return Err(ProgramProblem::Malformed { path, problem });
        } else {
            self.elf(Library { path: path.clone(), file: file.clone() }, &opened)?
        };
        Ok(Executable {
            format,
            set_id: metadata.mode() & 0o6000 != 0,
            multi_call: self.multi_call(&file, &metadata),
            found: path,
            file,
        })
    }

    fn elf(&self, program: Library, opened: &File) -> Result<Format, ProgramProblem> {
        let object = object::read(opened).map_err(|problem| object_problem(&program.path, problem))?;
        let Some(loader) = &object.interpreter else {
            // The kernel maps nothing else: static, or the loader itself.
            return Ok(Format::Elf { loader: None, libraries: Vec::new(), module_directories: Vec::new() });
        };
        let loader_path = PathBuf::from(OsStr::from_bytes(loader));
        let loader = loader_at(&loader_path).ok_or_else(|| ProgramProblem::MissingLoader {
            path: program.path.clone(),
            loader: loader_path.clone(),
        })?;
        let mut collector = Collector::new(&self.system, loader.clone());
        let file = program.file.clone();
        collector.add(object, program)?;
        let module_directories = modules::directories(&file, collector.so_far());
        for directory in &module_directories {
            for module in modules::shared_objects(directory) {
                collector.add_optional(&module);
            }
        }
        Ok(Format::Elf { loader: Some(loader), libraries: collector.finish(), module_directories })
    }

    fn script(&self, path: &Path, line: &[u8], depth: usize) -> Result<Format, ProgramProblem> {
        let depth = depth.checked_sub(1).ok_or_else(|| ProgramProblem::TooDeep { path: path.to_owned() })?;
        let malformed = |problem| ProgramProblem::Malformed { path: path.to_owned(), problem };
        let (interpreter, argument) = script_line(line).map_err(malformed)?;
        let interpreter = Path::new(OsStr::from_bytes(interpreter));
        if !interpreter.is_absolute() {
            return Err(malformed("the program of its `#!` line is no absolute path"));
        }
        // A problem of depth is told as it is, not once per level.
        let within = |problem| match problem {
            ProgramProblem::TooDeep { .. } => problem,
            other => ProgramProblem::Interpreter { path: path.to_owned(), source: Box::new(other) },
        };
        let is_env = interpreter.file_name() == Some(OsStr::new("env"));
        let interpreter = self.at_path(interpreter, depth).map_err(within)?;
        let starts = if is_env {
            let name = started_by_env(argument).map_err(malformed)?;
            let program = if name.contains('/') {
                self.at_path(Path::new(name), depth)
            } else {
                self.by_name(name, depth)
            };
            Some(Box::new(program.map_err(within)?))
        } else {
            None
        };
        Ok(Format::Script { interpreter: Box::new(interpreter), starts })
    }

    /// Tells a multi-call executable by its name, or by being the same file as one beside it or in the search
    /// path.
    fn multi_call(&self, file: &Path, metadata: &fs::Metadata) -> Option<&'static str> {
        let name = file.file_name();
        if let Some(known) = MULTI_CALL.into_iter().find(|known| name == Some(OsStr::new(known))) {
            return Some(known);
        }
        let directories = self.search.iter().map(PathBuf::as_path).chain(file.parent());
        directories.flat_map(|directory| MULTI_CALL.map(|known| (known, directory.join(known)))).find_map(
            |(known, path)| {
                let other = fs::metadata(path).ok()?;
                ((other.dev(), other.ino()) == (metadata.dev(), metadata.ino())).then_some(known)
            },
        )
    }
}

/// A file that may be executed, not looked into yet.
struct Found {
    path: PathBuf,
    file: PathBuf,
    metadata: fs::Metadata,
}

fn object_problem(path: &Path, problem: ObjectProblem) -> ProgramProblem {
    let path = path.to_owned();
    match problem {
        ObjectProblem::Io(source) => ProgramProblem::Unreadable { path, source },
        ObjectProblem::OtherMachine(machine) => ProgramProblem::OtherMachine { path, machine },
        ObjectProblem::Malformed(problem) => ProgramProblem::Malformed { path, problem },
    }
}

fn loader_at(path: &Path) -> Option<Library> {
    if !path.is_absolute() {
        return None;
    }
    let file = fs::canonicalize(path).ok()?;
    object::read(&open_regular(&file).ok()?).ok()?;
    Some(Library { path: path.to_owned(), file })
}

/// Opens a regular file, and waits for nothing when it has become something else.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

/// Reads what stands behind `#!` as the kernel does: a path, and everything behind it as one argument. See
/// execve(2).
fn script_line(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = line.iter().position(|byte| *byte == b'\n');
    let whole = end.and_then(|end| line.get(..end)).unwrap_or(line).trim_ascii();
    let (path, rest) = whole.split_at(whole.iter().position(is_blank).unwrap_or(whole.len()));
    if path.is_empty() {
        return Err("its `#!` line names no program");
    }
    if end.is_none() && rest.is_empty() && line.len() + 2 >= SCRIPT_LINE_BYTES {
        return Err("its `#!` line is longer than the kernel reads");
    }
    if path.contains(&0) {
        return Err("its `#!` line holds a NUL");
    }
    Ok((path, rest.trim_ascii()))
}

/// Returns the program that `env` starts for a `#!` line with this argument.
fn started_by_env(argument: &[u8]) -> Result<&str, &'static str> {
    let argument = std::str::from_utf8(argument).map_err(|_| "its `#!` line is not UTF-8")?;
    let split = argument.strip_prefix("-S").or_else(|| argument.strip_prefix("--split-string="));
    let name = match split {
        Some(words) => words
            .split_ascii_whitespace()
            .find(|word| !word.contains('='))
            .filter(|word| !word.starts_with('-') && !word.contains(['"', '\'', '\\', '$'])),
        None => Some(argument).filter(|name| !name.starts_with('-') && !name.contains([' ', '\t', '='])),
    };
    name.filter(|name| !name.is_empty())
        .ok_or("its `#!` line starts `env` with something other than a program's name")
}

#[cfg(test)]
mod tests;
