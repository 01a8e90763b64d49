//! `find`: start points, then an expression of predicates, each with a fixed number of arguments.
//!
//! Predicates are never shortened. A word of an argument that looks like a predicate is none: `-name -delete` deletes
//! nothing.

use portcullis_core::Word;

use super::roles::{Extent, ITSELF};
use super::unseen::{FOUND, begins_unseen, effects_of};
use super::words::{climbs, implied, leading_text};
use super::{Effect, EffectKind, Effects, Inner, Placeholder, Reach, Unknown};

/// Predicates without arguments.
const PLAIN: &[&str] = &[
    "!",
    "(",
    ")",
    ",",
    "--help",
    "--version",
    "-a",
    "-and",
    "-d",
    "-daystart",
    "-depth",
    "-empty",
    "-executable",
    "-false",
    "-help",
    "-ignore_readdir_race",
    "-ls",
    "-mount",
    "-nogroup",
    "-noignore_readdir_race",
    "-noleaf",
    "-not",
    "-nouser",
    "-nowarn",
    "-o",
    "-or",
    "-print",
    "-print0",
    "-prune",
    "-quit",
    "-readable",
    "-true",
    "-version",
    "-warn",
    "-writable",
    "-xautofs",
    "-xdev",
];

/// Predicates with one argument that is no path.
const TEXT: &[&str] = &[
    "-amin",
    "-atime",
    "-cmin",
    "-context",
    "-ctime",
    "-fstype",
    "-gid",
    "-group",
    "-ilname",
    "-iname",
    "-inum",
    "-ipath",
    "-iregex",
    "-iwholename",
    "-links",
    "-lname",
    "-maxdepth",
    "-mindepth",
    "-mmin",
    "-mtime",
    "-name",
    "-path",
    "-perm",
    "-printf",
    "-regex",
    "-regextype",
    "-size",
    "-type",
    "-uid",
    "-used",
    "-user",
    "-wholename",
    "-xtype",
];

/// Reads the words of `find`.
pub(super) fn read(arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let mut reader = Reader { arguments, next: 0, effects, starts: Vec::new(), follow: false, depth: None };
    reader.leading_options()?;
    reader.start_points();
    reader.expression()?;
    reader.finish();
    Ok(())
}

struct Reader<'a> {
    arguments: &'a [Word],
    next: usize,
    effects: &'a mut Effects,
    /// The start points and their arguments.
    starts: Vec<(Word, Option<usize>)>,
    follow: bool,
    /// The greatest `-maxdepth`.
    depth: Option<u64>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a Word> {
        self.arguments.get(self.next)
    }

    fn argument(&mut self, predicate: &str) -> Result<(&'a Word, usize), Unknown> {
        let at = self.next;
        let word = self.peek().ok_or_else(|| Unknown::Usage {
            problem: format!("`{predicate}` wants an argument"),
            argument: Some(at.saturating_sub(1)),
        })?;
        self.next += 1;
        Ok((word, at))
    }

    /// `-H`, `-L`, `-P`, `-D WHAT`, `-OLEVEL`, which stand before the start points.
    fn leading_options(&mut self) -> Result<(), Unknown> {
        while let Some(text) = self.peek().and_then(Word::as_literal) {
            match text {
                "-H" | "-L" => self.follow = true,
                "-P" => {}
                "-D" => {
                    self.next += 1;
                    self.argument("-D")?;
                    continue;
                }
                "--" => {
                    self.next += 1;
                    return Ok(());
                }
                _ if text
                    .strip_prefix("-O")
                    .is_some_and(|level| level.bytes().all(|b| b.is_ascii_digit())) => {}
                _ => return Ok(()),
            }
            self.next += 1;
        }
        Ok(())
    }

    fn start_points(&mut self) {
        while let Some(word) = self.peek() {
            let text = leading_text(word);
            if (text.starts_with('-') && text != "-")
                || matches!(word.as_literal(), Some("(" | ")" | "!" | ","))
            {
                break;
            }
            self.starts.push((word.clone(), Some(self.next)));
            self.next += 1;
        }
    }

    fn expression(&mut self) -> Result<(), Unknown> {
        while let Some(word) = self.peek() {
            let at = self.next;
            self.next += 1;
            let Some(predicate) = word.as_literal() else {
                return Err(usage("a pattern cannot stand for a predicate; quote it", at));
            };
            self.predicate(predicate, at)?;
        }
        Ok(())
    }

    fn predicate(&mut self, predicate: &str, at: usize) -> Result<(), Unknown> {
        let via = format!("`{predicate}`");
        if PLAIN.contains(&predicate) {
            return Ok(());
        }
        self.effects.options.push((predicate.to_owned().into(), at));
        if TEXT.contains(&predicate) {
            let (value, value_at) = self.argument(predicate)?;
            if predicate == "-maxdepth" {
                let depth = value.as_literal().and_then(|text| text.parse().ok());
                let depth: u64 = depth.ok_or_else(|| usage("`-maxdepth` wants a number", value_at))?;
                self.depth = self.depth.max(Some(depth));
            }
            return Ok(());
        }
        match predicate {
            "-follow" => self.follow = true,
            "-anewer" | "-cnewer" | "-newer" | "-samefile" => {
                let (path, at) = self.argument(predicate)?;
                self.effects.path(EffectKind::Examine, path.clone(), ITSELF, Some(at), &via);
            }
            "-delete" => {
                let places = match self.starts.as_slice() {
                    [] => "`.`".to_owned(),
                    [(start, _)] => format!("`{}`", start.to_unmatched().escape_debug()),
                    several => format!("{} places", several.len()),
                };
                let why = format!("every file that is found in {places} is removed");
                self.effects.unbounded(EffectKind::Delete, &why, Some(at), &via);
            }
            "-fls" | "-fprint" | "-fprint0" | "-fprintf" => {
                let (path, at) = self.argument(predicate)?;
                self.effects.path(EffectKind::Write, path.clone(), ITSELF, Some(at), &via);
                if predicate == "-fprintf" {
                    self.argument(predicate)?;
                }
            }
            "-files0-from" => {
                let (path, at) = self.argument(predicate)?;
                self.effects.add(super::table::Role::Names, path, ITSELF, Some(at), &via);
            }
            "-exec" | "-execdir" | "-ok" | "-okdir" => self.exec(predicate)?,
            _ if is_newer(predicate) => {
                let (path, at) = self.argument(predicate)?;
                if !predicate.ends_with('t') {
                    self.effects.path(EffectKind::Examine, path.clone(), ITSELF, Some(at), &via);
                }
            }
            _ if begins_unseen(predicate) => {
                let why = "words that are not on the line may be predicates such as `-exec` and `-delete`";
                self.effects.unbounded(EffectKind::Execute, why, Some(at), "operand");
                self.effects.unbounded(EffectKind::Delete, why, Some(at), "operand");
            }
            _ => {
                return Err(Unknown::Option {
                    text: predicate.to_owned(),
                    argument: at,
                    nearest: nearest(predicate),
                });
            }
        }
        Ok(())
    }

    /// `-exec COMMAND… ;` and `-exec COMMAND… {} +`.
    fn exec(&mut self, predicate: &str) -> Result<(), Unknown> {
        let first = self.next;
        let mut words = Vec::new();
        loop {
            let (word, at) = self.argument(predicate)?;
            let Some(text) = word.as_literal() else {
                // A match may be named `;`, and end the command before its time.
                return Err(usage("a pattern in a command of `find` may end it; quote it", at));
            };
            let closes = text == "+" && words.last().and_then(Word::as_literal) == Some("{}");
            if text == ";" || closes {
                break;
            }
            words.push(word.clone());
        }
        if words.is_empty() {
            return Err(usage(&format!("`{predicate}` wants a command"), first));
        }
        if predicate.ends_with("dir") && words.iter().any(climbs) {
            let why = "paths of the command count from directories that are not on the line";
            self.effects.unbounded(EffectKind::Execute, why, Some(first), &format!("`{predicate}`"));
        }
        let appended = false;
        let placeholder = Some(Placeholder::Found("{}".to_owned()));
        let (script, assignments, directory) = (None, Vec::new(), None);
        let inner = Inner { words, appended, placeholder, argument: first, script, assignments, directory };
        let harmless = |effect: &Effect| matches!(effect.kind, EffectKind::Read | EffectKind::Examine);
        if predicate.ends_with("dir") {
            let does = effects_of(&inner).map(|effects| effects.list).unwrap_or_default();
            if let Some(effect) = does.iter().find(|effect| !harmless(effect)) {
                let why = "it happens in directories that are not on the line";
                self.effects.unbounded(effect.kind, why, Some(first), &format!("`{predicate}`"));
            }
        }
        self.effects.inner.push(inner);
        Ok(())
    }

    fn finish(self) {
        let reach = if self.depth.is_some_and(|depth| depth <= 1) { Reach::Itself } else { Reach::Tree };
        let extent = Extent { reach, follow_links: self.follow };
        let mut starts = self.starts;
        if starts.is_empty() && !self.effects.options.iter().any(|(name, _)| name == "-files0-from") {
            starts.push((implied("."), None));
        }
        for (path, argument) in starts {
            if begins_unseen(leading_text(&path)) && !leading_text(&path).starts_with(FOUND) {
                let why = "words that are not on the line may be predicates such as `-exec` and `-delete`";
                self.effects.unbounded(EffectKind::Execute, why, argument, "operand");
                self.effects.unbounded(EffectKind::Delete, why, argument, "operand");
            }
            self.effects.path(EffectKind::Examine, path, extent, argument, "start point");
        }
    }
}

/// `-newerXY`, where `Y` is `t` when the argument is a time and no path.
fn is_newer(predicate: &str) -> bool {
    let Some(letters) = predicate.strip_prefix("-newer") else { return false };
    let letters: Vec<char> = letters.chars().collect();
    matches!(letters.as_slice(), ['a' | 'B' | 'c' | 'm', 'a' | 'B' | 'c' | 'm' | 't'])
}

fn usage(problem: &str, argument: usize) -> Unknown {
    Unknown::Usage { problem: problem.to_owned(), argument: Some(argument) }
}

/// Returns the predicate that begins like one that is not known, for a suggestion.
fn nearest(predicate: &str) -> Option<String> {
    let known = || PLAIN.iter().chain(TEXT);
    let bare = predicate.trim_start_matches('-');
    let same = known().find(|name| name.trim_start_matches('-') == bare);
    same.or_else(|| known().find(|name| name.starts_with(predicate))).map(|name| (*name).to_owned())
}
