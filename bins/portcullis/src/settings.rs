//! `config check` and `token`: what this program would use, and who said so. No service is asked.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::failure::Failure;
use crate::rotate;
use crate::show::{print, print_json};
use crate::target::{Target, Token, Wishes};
use crate::terminal::plain;

/// Shows the effective configuration.
pub(crate) fn check(wishes: &Wishes, json: bool) -> Result<ExitCode, Failure> {
    let target = Target::find(wishes)?;
    let file = wishes.config_file();
    let there = file.as_ref().is_some_and(|file| file.exists());
    let warnings: Vec<String> =
        warning(target.token.as_ref()).into_iter().chain(target.passed_over).collect();
    if json {
        let token =
            target.token.as_ref().map(|token| json!({ "file": token.file, "origin": token.origin.json() }));
        print_json(&json!({
            "url": { "value": target.url.to_string(), "origin": target.url_origin.json() },
            "token": token,
            "configFile": { "path": file, "exists": there },
            "warnings": warnings,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    writeln!(text, "url         = {}  [{}]", plain(&target.url.to_string()), target.url_origin).ok();
    match &target.token {
        Some(token) => writeln!(text, "token       = (hidden)  [{}]", place(token)),
        None => writeln!(text, "token       = (none was found)"),
    }
    .ok();
    let shown = file.map_or("(there is no home)".into(), |file| file.display().to_string());
    writeln!(text, "config file = {}{}", plain(&shown), if there { "" } else { " (not there)" }).ok();
    print(&text)?;
    for warning in warnings {
        eprintln!("portcullis: warning: {}", plain(&warning));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows where the token is.
pub(crate) fn token_place(wishes: &Wishes, json: bool) -> Result<ExitCode, Failure> {
    let token = find(wishes)?;
    if json {
        print_json(&json!({ "file": token.file, "origin": token.origin.json() }))?;
    } else {
        print(&format!("{}\n", plain(&place(&token))))?;
    }
    if let Some(warning) = warning(Some(&token)) {
        eprintln!("portcullis: warning: {}", plain(&warning));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the token itself.
pub(crate) fn token_print(wishes: &Wishes, json: bool) -> Result<ExitCode, Failure> {
    let token = find(wishes)?;
    if json {
        print_json(&json!({ "token": token.secret.reveal() }))?;
    } else {
        print(&format!("{}\n", plain(token.secret.reveal())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a new token in the place of the local one.
pub(crate) fn token_rotate(wishes: &Wishes, json: bool) -> Result<ExitCode, Failure> {
    let token = find(wishes)?;
    let Some(file) = &token.file else {
        return Err(Failure::new(format!("the token is no file's, but from: {}", token.origin))
            .hint("change it where that is set"));
    };
    rotate::rotate(file, token.secret.reveal())?;
    if json {
        print_json(&json!({ "file": file, "serviceMustRestart": true }))?;
    } else {
        print(&format!("{} holds a new token\n", plain(&file.display().to_string())))?;
    }
    eprintln!("portcullis: restart the service now: until then it knows the old token alone");
    Ok(ExitCode::SUCCESS)
}

fn find(wishes: &Wishes) -> Result<Token, Failure> {
    let Target { url, token, passed_over, .. } = Target::find(wishes)?;
    token.ok_or_else(|| {
        let failure = Failure::new(format!("there is no token for `{url}` here"))
            .hint("a service without an Auth Service makes one at its first start, and its log says where")
            .hint("name another by `--token-file FILE`, PORTCULLIS_TOKEN_FILE, or `token_file` in cli.toml");
        passed_over.into_iter().fold(failure, Failure::hint)
    })
}

/// Says where a token lies, and who named that place.
fn place(token: &Token) -> String {
    match &token.file {
        Some(file) if token.origin != crate::target::Origin::Found(file.clone()) => {
            format!("{}, by {}", file.display(), token.origin)
        }
        Some(file) => file.display().to_string(),
        None => token.origin.to_string(),
    }
}

/// Says so when others on this machine may read a token.
fn warning(token: Option<&Token>) -> Option<String> {
    let file: &Path = token?.file.as_deref()?;
    let mode = std::fs::metadata(file).ok()?.mode() & 0o777;
    let open = mode & 0o077 != 0;
    open.then(|| format!("others may read `{}` (mode {mode:04o}); `chmod 600` it", file.display()))
}
