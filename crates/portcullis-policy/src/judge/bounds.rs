//! Holds each effect of a command to the rulebook's bounds, and turns what is allowed into rights.

use portcullis_core::{Denial, DenialCode, Network, ProgramName, Rights, RuleRef, Span, ViewPath, Word};

use super::asker::Asker;
use super::grants;
use super::path::Target;
use crate::code::{
    OPERATION_DELETE, OPERATION_EXECUTE, OPERATION_NETWORK, OPERATION_PRIVILEGE, OPERATION_READ,
    OPERATION_WRITE, PATH_OUTSIDE_WORKSPACE, PATH_PROTECTED, PATH_READ_ONLY, denial,
};
use crate::effects::{Effect, EffectKind, Reach, Subject};
use crate::rulebook::{Allowance, Book, Bound, NetworkBound, Operations, Place, Rule, WriteBound};

/// What bounds the effects of one command.
pub(super) struct Bounds<'a> {
    pub(super) book: &'a Book,
    pub(super) asker: &'a Asker<'a>,
    pub(super) rule: &'a Rule,
    pub(super) program: &'a str,
    /// The file's operations, narrowed by the rule's.
    pub(super) operations: Operations,
    /// Where the command may run.
    pub(super) directories: &'a [ViewPath],
}

/// One path of a command, with what is done to it.
struct Touch<'t> {
    kind: EffectKind,
    word: &'t Word,
    reach: Reach,
    by_redirection: bool,
    span: Span,
    via: &'t str,
}

type Checked = Result<(), Box<Denial>>;

impl Bounds<'_> {
    /// Checks an effect, and grants what it needs.
    pub(super) fn effect(&self, effect: &Effect, span: Span, rights: &mut Rights) -> Checked {
        match &effect.subject {
            Subject::Path { word, reach, .. } => {
                let touch = Touch {
                    kind: effect.kind,
                    word,
                    reach: *reach,
                    by_redirection: false,
                    span,
                    via: &effect.via,
                };
                let targets = self.path(&touch)?;
                grants::add(self, effect.kind, *reach, &targets, rights);
                Ok(())
            }
            Subject::Host { scheme, host, port } => self.host(effect, span, (scheme, host, *port), rights),
            Subject::Repository => self.repository(effect, span, rights),
            Subject::Program(name) => {
                if self.operations.execute == Bound::Allow
                    && effect.kind == EffectKind::Execute
                    && let Some(program) = ProgramName::parse(name)
                {
                    rights.execute.push(program);
                    return Ok(());
                }
                self.refuse(effect.kind, span, name, &effect.via, "")
            }
            Subject::Unbounded(why) => self.unbounded(effect, why, span, rights),
        }
    }

    /// Denies an effect of a command some of whose operands are not on the line.
    pub(super) fn unseen(&self, effect: &Effect, span: Span) -> Denial {
        let code = operation_code(effect.kind);
        let message = format!(
            "`{}` is not allowed to {} when its operands are not on the line",
            self.program,
            verb(effect.kind)
        );
        let mut denial = denial(code, span, self.program, message);
        denial.suggestion = Some("write the operands on the line".into());
        denial
    }

    /// Checks a redirection. The launcher opens it, so it grants the command nothing.
    pub(super) fn redirection(&self, writes: bool, path: &str, span: Span) -> Checked {
        let word = Word::literal(path, span);
        let kind = if writes { EffectKind::Write } else { EffectKind::Read };
        self.path(&Touch {
            kind,
            word: &word,
            reach: Reach::Itself,
            by_redirection: true,
            span,
            via: "the redirection",
        })
        .map(|_| ())
    }

    /// Finds a protected path in an argument of a program whose options nobody knows: the argument itself, what is behind
    /// its `=` and what is behind a short option's letter.
    pub(super) fn looks_protected(&self, word: &Word) -> Option<Denial> {
        let text = word.to_unmatched();
        let mut candidates = vec![word.clone()];
        let later = text.char_indices().filter(|&(at, c)| at > 0 && (c == '/' || c == '.')).map(|(at, _)| at);
        let behind =
            text.char_indices().filter(|(_, c)| "=:,@".contains(*c)).map(|(at, c)| at + c.len_utf8());
        for at in later.filter(|&at| !text.get(..at).is_some_and(|before| before.contains('/'))).chain(behind)
        {
            if let Some(rest) = text.get(at..) {
                candidates.push(Word::literal(rest, word.span));
            }
        }
        candidates.iter().find_map(|candidate| {
            let touch = Touch {
                kind: EffectKind::Read,
                word: candidate,
                reach: Reach::Itself,
                by_redirection: false,
                span: word.span,
                via: "the argument",
            };
            self.protected(&touch).err().map(|denial| *denial)
        })
    }

    /// Finds a protected directory that expanding a pattern would look into, whatever the word is to the program.
    pub(super) fn expands_into_protected(&self, word: &Word) -> Option<Denial> {
        if !word.is_glob() {
            return None;
        }
        let found =
            self.directories.iter().filter_map(|directory| Target::resolve(directory, word)).flatten();
        let targets: Vec<_> = found.collect();
        let mut places = self.asker.protected(self.book);
        let place = places.find(|place| targets.iter().any(|target| target.may_be_strictly_in(place)))?;
        let shown = word.to_unmatched();
        let message =
            format!("the pattern `{}` is not allowed: `{place}` is protected", shown.escape_debug());
        let mut denial = denial(PATH_PROTECTED, word.span, shown, message);
        denial.rule = Some(RuleRef { name: "protected".into(), line: None });
        Some(denial)
    }

    fn targets<'t>(&'t self, touch: &Touch<'t>) -> Result<Vec<Target<'t>>, Box<Denial>> {
        let mut targets = Vec::new();
        for directory in self.directories {
            match Target::resolve(directory, touch.word) {
                Some(mut found) => targets.append(&mut found),
                None => {
                    let message = format!(
                        "the pattern `{}` is not allowed: it can mean too much",
                        touch.word.to_unmatched()
                    );
                    return Err(Box::new(denial(
                        PATH_PROTECTED,
                        touch.span,
                        touch.word.to_unmatched(),
                        message,
                    )));
                }
            }
        }
        Ok(targets)
    }

    /// Checks that no protected directory is touched, and returns what the path may be.
    fn protected<'t>(&'t self, touch: &Touch<'t>) -> Result<Vec<Target<'t>>, Box<Denial>> {
        let targets = self.targets(touch)?;
        for place in self.asker.protected(self.book) {
            for target in &targets {
                let within = target.may_be_in(place) && !self.is_exempt(target);
                let reached = touch.reach == Reach::Tree && target.may_hold(place);
                if within || reached {
                    let shown = touch.word.to_unmatched();
                    let how = if within { "is protected" } else { "is protected, and beneath it" };
                    let message = format!(
                        "`{}` is not allowed to {} `{}`: `{place}` {how}",
                        self.program,
                        verb(touch.kind),
                        shown.escape_debug()
                    );
                    let mut denial = denial(PATH_PROTECTED, touch.span, shown, message);
                    denial.rule = Some(RuleRef { name: "protected".into(), line: None });
                    return Err(Box::new(denial));
                }
            }
        }
        Ok(targets)
    }

    fn is_exempt(&self, target: &Target<'_>) -> bool {
        self.book.exempt.iter().any(|path| target.is(path))
    }

    /// Checks one path against everything that bounds paths, and returns what it may be.
    fn path<'t>(&'t self, touch: &Touch<'t>) -> Result<Vec<Target<'t>>, Box<Denial>> {
        let targets = self.protected(touch)?;
        let reads_or_writes =
            matches!(touch.kind, EffectKind::Read | EffectKind::Examine | EffectKind::Write);
        if reads_or_writes && targets.iter().all(|target| self.is_exempt(target)) {
            return Ok(targets);
        }
        let refuse =
            |why: &str| self.refuse(touch.kind, touch.span, &touch.word.to_unmatched(), touch.via, why);
        match touch.kind {
            EffectKind::Read | EffectKind::Examine => {}
            EffectKind::Write => match self.operations.write {
                WriteBound::Deny => refuse("")?,
                WriteBound::Redirections if !touch.by_redirection => {
                    refuse("files are written by redirection alone")?;
                }
                WriteBound::Redirections | WriteBound::Workspace => self.in_workspace(touch, &targets)?,
                WriteBound::Allow => {}
            },
            EffectKind::Delete => match self.operations.delete {
                Bound::Deny => refuse("")?,
                Bound::Workspace => {
                    if !targets.iter().all(|target| target.is_strictly_in(&self.book.workspace)) {
                        refuse(&format!("it is not something in the workspace `{}`", self.book.workspace))?;
                    }
                }
                Bound::Allow => {}
            },
            EffectKind::Execute => match self.operations.execute {
                Bound::Deny => refuse("")?,
                Bound::Workspace => {
                    if !targets.iter().all(|target| target.is_in(&self.book.workspace)) {
                        refuse(&format!("it is not in the workspace `{}`", self.book.workspace))?;
                    }
                }
                Bound::Allow => {}
            },
            EffectKind::Network => {
                if self.operations.network != NetworkBound::Allow {
                    refuse("")?;
                }
            }
            EffectKind::Privilege => {
                if self.operations.privilege == Allowance::Deny {
                    refuse("")?;
                }
            }
        }
        if matches!(touch.kind, EffectKind::Write | EffectKind::Delete) {
            self.read_only(touch, &targets)?;
        }
        let bounded = &self.rule.paths;
        if !bounded.is_empty()
            && !targets.iter().all(|target| bounded.iter().any(|place| target.is_in(place)))
        {
            let shown = touch.word.to_unmatched();
            let code = match touch.kind {
                EffectKind::Write => PATH_OUTSIDE_WORKSPACE,
                kind => operation_code(kind),
            };
            let message = format!(
                "`{}` is not allowed to {} `{}`: the rule `{}` allows other paths",
                self.program,
                verb(touch.kind),
                shown.escape_debug(),
                self.rule.name
            );
            return Err(self.by_rule(denial(code, touch.span, shown, message)));
        }
        Ok(targets)
    }

    fn in_workspace(&self, touch: &Touch<'_>, targets: &[Target<'_>]) -> Checked {
        let inside = |target: &Target<'_>| {
            target.is_in(&self.book.workspace)
                || self.asker.writable().any(|place| target.is_in(place))
                || self.is_exempt(target)
        };
        if targets.iter().all(inside) {
            return Ok(());
        }
        let shown = touch.word.to_unmatched();
        let message = format!(
            "`{}` is not allowed to write `{}`: it is outside the workspace `{}`",
            self.program,
            shown.escape_debug(),
            self.book.workspace
        );
        Err(Box::new(denial(PATH_OUTSIDE_WORKSPACE, touch.span, shown, message)))
    }

    fn read_only(&self, touch: &Touch<'_>, targets: &[Target<'_>]) -> Checked {
        for part in &self.book.read_only {
            // What git keeps in its repository is an effect of its own kind; a path in it that an operand or option
            // names is like any other (`git archive -o .git/hooks/post-commit`).
            let may_write = !touch.by_redirection
                && self.program != "git"
                && part.writers.iter().any(|writer| writer.as_str() == self.program);
            let touched = |target: &Target<'_>| match &part.place {
                Place::Name(name) => target.may_name(&self.book.workspace, name),
                Place::Path(path) => {
                    let holds = touch.reach == Reach::Tree || touch.kind == EffectKind::Delete;
                    target.may_be_in(path) || holds && target.may_hold(path)
                }
            };
            if !may_write && targets.iter().any(touched) {
                let shown = touch.word.to_unmatched();
                let place = match &part.place {
                    Place::Name(name) => name.as_str(),
                    Place::Path(path) => path.as_str(),
                };
                let message = format!(
                    "`{}` is not allowed to {} `{}`: `{place}` is read-only",
                    self.program,
                    verb(touch.kind),
                    shown.escape_debug()
                );
                let mut denial = denial(PATH_READ_ONLY, touch.span, shown, message);
                denial.rule = Some(RuleRef { name: "read_only".into(), line: None });
                return Err(Box::new(denial));
            }
        }
        Ok(())
    }

    fn host(
        &self,
        effect: &Effect,
        span: Span,
        (scheme, host, port): (&str, &str, u16),
        rights: &mut Rights,
    ) -> Checked {
        let shown = format!("{scheme}://{host}:{port}");
        if effect.kind != EffectKind::Network || self.operations.network == NetworkBound::Deny {
            return self.refuse(effect.kind, span, &shown, &effect.via, "");
        }
        let listed =
            self.rule.hosts.iter().any(|one| one.scheme == scheme && one.name == host && one.port == port);
        let open = self.operations.network == NetworkBound::Allow && self.rule.hosts.is_empty();
        if !listed && !open {
            let names: Vec<_> = self
                .rule
                .hosts
                .iter()
                .map(|one| format!("`{}://{}:{}`", one.scheme, one.name, one.port))
                .collect();
            let message = format!("`{}` is not allowed to reach `{shown}`", self.program);
            let mut denial = denial(OPERATION_NETWORK, span, shown, message);
            if !names.is_empty() {
                denial.suggestion = Some(format!("allowed are {}", names.join(", ")));
            }
            return Err(self.by_rule(denial));
        }
        let reached = (host.to_owned(), port);
        match &mut rights.network {
            Network::Hosts(hosts) => hosts.push(reached),
            network @ Network::None => *network = Network::Hosts(vec![reached]),
        }
        Ok(())
    }

    /// Checks what is done to the repository that git works in, which lies in the workspace.
    fn repository(&self, effect: &Effect, span: Span, rights: &mut Rights) -> Checked {
        let allowed = match effect.kind {
            EffectKind::Read | EffectKind::Examine => true,
            EffectKind::Write => self.operations.write >= WriteBound::Workspace,
            EffectKind::Delete => self.operations.delete >= Bound::Workspace,
            EffectKind::Execute => self.operations.execute == Bound::Allow,
            EffectKind::Network => self.operations.network == NetworkBound::Allow,
            EffectKind::Privilege => self.operations.privilege == Allowance::Allow,
        };
        let paths = &self.rule.paths;
        if !allowed || !paths.is_empty() && !paths.iter().any(|place| self.book.workspace.is_beneath(place)) {
            return self.refuse(effect.kind, span, "the repository", &effect.via, "");
        }
        grants::add_repository(self, effect.kind, rights);
        Ok(())
    }

    fn unbounded(&self, effect: &Effect, why: &str, span: Span, rights: &mut Rights) -> Checked {
        let allowed = match effect.kind {
            EffectKind::Read | EffectKind::Examine if self.rule.paths.is_empty() => {
                // Only the kernel can hold these: it hides what is protected.
                rights.read.push(ViewPath::root());
                return Ok(());
            }
            EffectKind::Read | EffectKind::Examine => false,
            EffectKind::Write => self.operations.write == WriteBound::Allow,
            EffectKind::Delete => self.operations.delete == Bound::Allow,
            EffectKind::Execute => self.operations.execute == Bound::Allow,
            EffectKind::Network => self.operations.network == NetworkBound::Allow,
            EffectKind::Privilege => self.operations.privilege == Allowance::Allow,
        };
        if !allowed || !self.rule.paths.is_empty() {
            return self.refuse(effect.kind, span, self.program, &effect.via, why);
        }
        match effect.kind {
            EffectKind::Write => rights.write.push(self.book.workspace.clone()),
            EffectKind::Delete => rights.delete.push(self.book.workspace.clone()),
            _ => {}
        }
        Ok(())
    }

    fn refuse(&self, kind: EffectKind, span: Span, subject: &str, via: &str, why: &str) -> Checked {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let via = if via.is_empty() { String::new() } else { format!(" by {via}") };
        let deed = if subject == self.program {
            deed(kind).to_owned()
        } else {
            format!("{} `{}`", verb(kind), subject.escape_debug())
        };
        let message = format!("`{}` is not allowed to {deed}{via}{why}", self.program);
        let mut denial = denial(operation_code(kind), span, subject, message);
        denial.rule = Some(RuleRef { name: "operations".into(), line: None });
        Err(Box::new(denial))
    }

    fn by_rule(&self, mut denial: Denial) -> Box<Denial> {
        denial.rule = Some(self.rule.reference());
        if denial.suggestion.is_none() {
            denial.suggestion = self.rule.suggestion.clone();
        }
        Box::new(denial)
    }
}

fn operation_code(kind: EffectKind) -> DenialCode {
    match kind {
        EffectKind::Read | EffectKind::Examine => OPERATION_READ,
        EffectKind::Write => OPERATION_WRITE,
        EffectKind::Delete => OPERATION_DELETE,
        EffectKind::Execute => OPERATION_EXECUTE,
        EffectKind::Network => OPERATION_NETWORK,
        EffectKind::Privilege => OPERATION_PRIVILEGE,
    }
}

/// What an effect does, where nobody can say to what.
fn deed(kind: EffectKind) -> &'static str {
    match kind {
        EffectKind::Read | EffectKind::Examine => "read other files",
        EffectKind::Write => "write files",
        EffectKind::Delete => "delete",
        EffectKind::Execute => "run programs or code",
        EffectKind::Network => "reach hosts",
        EffectKind::Privilege => "change privilege",
    }
}

fn verb(kind: EffectKind) -> &'static str {
    match kind {
        EffectKind::Read => "read",
        EffectKind::Examine => "examine",
        EffectKind::Write => "write",
        EffectKind::Delete => "delete",
        EffectKind::Execute => "run",
        EffectKind::Network => "reach",
        EffectKind::Privilege => "change the privilege of",
    }
}
