//! The programs of a permit, found and taken apart: what must execute, what must only be mapped.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use portcullis_core::ProgramName;

use crate::elf::{self, Executable, Format};
use crate::wire::Refused;

/// A program that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The path it is started by.
    pub(crate) path: CString,
    /// The files that the kernel executes: the program, its `#!` interpreters, the dynamic loader.
    pub(crate) executed: Vec<PathBuf>,
    /// The files that are mapped executable: the libraries.
    pub(crate) mapped: Vec<PathBuf>,
    /// Directories of modules that the program loads by name.
    pub(crate) modules: Vec<PathBuf>,
}

/// Programs by name.
pub(crate) type Programs = BTreeMap<ProgramName, Program>;

/// Remembers programs once found. The view that they are found in never changes.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    search: Vec<PathBuf>,
    known: Programs,
}

impl Finder {
    /// Looks in these directories, in order.
    pub(crate) fn new(search: Vec<PathBuf>) -> Self {
        Self { search, known: Programs::new() }
    }

    /// Finds each of these programs.
    pub(crate) fn find(&mut self, names: &BTreeSet<ProgramName>) -> Result<Programs, Refused> {
        let mut found = Programs::new();
        for name in names {
            if !self.known.contains_key(name) {
                let program = self.take_apart(name)?;
                self.known.insert(name.clone(), program);
            }
            if let Some(program) = self.known.get(name) {
                found.insert(name.clone(), program.clone());
            }
        }
        Ok(found)
    }

    fn take_apart(&self, name: &ProgramName) -> Result<Program, Refused> {
        let refuse = |problem: String| Refused::Program { program: name.to_string(), problem };
        let executable = elf::executable(name, &self.search).map_err(|problem| refuse(problem.explain()))?;
        let path = CString::new(executable.found.as_os_str().as_bytes());
        let mut program = Program {
            path: path.map_err(|_| refuse("its path holds a NUL".into()))?,
            executed: Vec::new(),
            mapped: Vec::new(),
            modules: Vec::new(),
        };
        gather(&executable, &mut program);
        Ok(program)
    }
}

/// Programs that do the same whatever process numbers `/proc` shows: they look at none, or at `/proc/self` alone.
const INDIFFERENT_TO_PROC: [&str; 44] = [
    "base64",
    "basename",
    "cat",
    "cmp",
    "comm",
    "cut",
    "date",
    "df",
    "diff",
    "dirname",
    "du",
    "echo",
    "egrep",
    "expand",
    "false",
    "fgrep",
    "file",
    "find",
    "fold",
    "grep",
    "head",
    "id",
    "join",
    "jq",
    "ls",
    "nl",
    "od",
    "paste",
    "printf",
    "pwd",
    "realpath",
    "rev",
    "sed",
    "seq",
    "sha256sum",
    "sort",
    "stat",
    "tac",
    "tail",
    "tr",
    "true",
    "uname",
    "uniq",
    "wc",
];

/// Whether all of these are such programs.
pub(crate) fn are_indifferent_to_proc(programs: &Programs) -> bool {
    programs.keys().all(|name| INDIFFERENT_TO_PROC.contains(&name.as_str()))
}

/// Sorts what a program needs: to be executed, to be mapped, to be found. Links in between need nothing; the
/// view holds them as the host does.
fn gather(executable: &Executable, program: &mut Program) {
    add(&mut program.executed, &executable.file);
    match &executable.format {
        Format::Elf { loader, libraries, module_directories } => {
            if let Some(loader) = loader {
                add(&mut program.executed, &loader.file);
            }
            for library in libraries {
                add(&mut program.mapped, &library.file);
            }
            for directory in module_directories {
                add(&mut program.modules, directory);
            }
        }
        Format::Script { interpreter, starts } => {
            gather(interpreter, program);
            if let Some(starts) = starts {
                gather(starts, program);
            }
        }
    }
}

fn add(list: &mut Vec<PathBuf>, path: &Path) {
    if !list.iter().any(|known| known == path) {
        list.push(path.to_owned());
    }
}
