//! Completions and manual pages, made of the definition of the command line.

use std::fmt::Write as _;
use std::fs;
use std::io;
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
    // `help` needs no page.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(directory) = &args.directory else {
        print(&page(&command).map_err(failed)?.1)?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let mut written = String::new();
    for command in with_all_below(&command) {
        let (name, text) = page(command).map_err(failed)?;
        let path = directory.join(name);
        fs::write(&path, text).map_err(failed)?;
        // Writing to a string does not fail.
        writeln!(written, "{}", path.display()).ok();
    }
    print(&written)?;
    Ok(ExitCode::SUCCESS)
}

fn with_all_below(command: &clap::Command) -> Vec<&clap::Command> {
    let below = command.get_subcommands().flat_map(with_all_below);
    [command].into_iter().chain(below).collect()
}

/// Renders a page, and returns it with its file's name. What stands behind the options in `--help` becomes the sections
/// that man-pages(7) knows.
fn page(command: &clap::Command) -> io::Result<(String, String)> {
    let man =
        clap_mangen::Man::new(command.clone()).source(concat!("portcullis ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    // A section ends what is not filled (`.nf`).
    let text = text.replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n.nf\n");
    let Some((examples, rest)) = text.split_once("\nExit codes:\n") else {
        return Ok((man.get_filename(), text));
    };
    // A line that begins with blanks would begin a paragraph.
    let rest = rest.trim_start().replace("\n  ", "\n").replace("\nEnvironment:\n", "\n.SH ENVIRONMENT\n");
    Ok((man.get_filename(), format!("{examples}\n.SH \"EXIT STATUS\"\n{rest}")))
}
