//! Completions and manual pages, made of the definition of the command line.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{Cli, Man};
use crate::failure::Failure;
use crate::show::{print, print_bytes};

/// Prints the completions of a shell.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
    print_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page of the whole, or writes one for each command into a directory.
pub(crate) fn man(args: &Man) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::new(format!("the manual pages cannot be written: {error}"));
    match &args.directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(documented()).render(&mut page).map_err(failed)?;
            print_bytes(&page)?;
        }
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(failed)?;
            clap_mangen::generate_to(documented(), directory).map_err(failed)?;
            print(&format!("{}\n", written(directory).map_err(failed)?.join("\n")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the definition with what each command inherits; without `help`, which needs no page.
fn documented() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}

/// Returns the pages that lie in a directory.
fn written(directory: &Path) -> io::Result<Vec<String>> {
    let paths = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path().display().to_string()));
    let mut pages: Vec<String> = paths.collect::<io::Result<_>>()?;
    pages.retain(|path| path.ends_with(".1") && path.contains("portcullis"));
    pages.sort();
    Ok(pages)
}
