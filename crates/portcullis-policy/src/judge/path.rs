//! Paths with patterns, resolved and compared by their text alone.

use std::borrow::Cow;

use portcullis_core::{Piece, ViewPath, Word};

/// A path as a command would be given it, resolved against one directory: what it is for certain, and what
/// its patterns may turn it into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target<'t> {
    components: Vec<Component<'t>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component<'t> {
    Name(Cow<'t, str>),
    Pattern(Vec<Piece>),
}

/// More meanings of one word than this are not followed.
const MAX_MEANINGS: usize = 16;

impl<'t> Target<'t> {
    /// Resolves a word against a directory. A pattern such as `.*` may stand for `..` to a program that expands it
    /// itself, so one word can mean several targets. `None` when they are too many to look at.
    pub(super) fn resolve(base: &'t ViewPath, word: &'t Word) -> Option<Vec<Self>> {
        if let Some(path) = word.as_literal() {
            return Some(vec![Self::literal(base, path)]);
        }
        let parts = split(word);
        let absolute = matches!(word.pieces.first(), Some(Piece::Text(text)) if text.starts_with('/'));
        let start = if absolute {
            Vec::new()
        } else {
            base.components().map(|name| Component::Name(name.into())).collect()
        };
        let mut meanings = vec![start];
        for part in parts {
            match literal(&part) {
                Some("" | ".") => {}
                Some("..") => meanings.iter_mut().for_each(|one| {
                    one.pop();
                }),
                Some(name) => {
                    meanings.iter_mut().for_each(|one| one.push(Component::Name(name.to_owned().into())))
                }
                None => {
                    let mut parents = Vec::new();
                    if matches_name(&part, "..") {
                        parents.extend(meanings.iter().cloned().map(|mut one| {
                            one.pop();
                            one
                        }));
                    }
                    if matches_name(&part, ".") {
                        parents.extend(meanings.iter().cloned());
                    }
                    meanings.iter_mut().for_each(|one| one.push(Component::Pattern(part.clone())));
                    meanings.append(&mut parents);
                    if meanings.len() > MAX_MEANINGS {
                        return None;
                    }
                }
            }
        }
        Some(meanings.into_iter().map(|components| Self { components }).collect())
    }

    /// Resolves a literal path.
    pub(super) fn literal(base: &'t ViewPath, path: &'t str) -> Self {
        let mut components = Vec::with_capacity(8);
        if !path.starts_with('/') {
            components.extend(base.components().map(|name| Component::Name(name.into())));
        }
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    components.pop();
                }
                name => components.push(Component::Name(name.into())),
            }
        }
        Self { components }
    }

    /// Whether it is this path and no other, whatever its patterns match.
    pub(super) fn is(&self, path: &ViewPath) -> bool {
        self.is_in(path) && self.components.len() == path.components().count()
    }

    /// Returns the path itself, or the directory that holds everything its patterns may match.
    pub(super) fn root(&self) -> ViewPath {
        ViewPath::of_components(self.components.iter().map_while(|component| match component {
            Component::Name(name) => Some(name.as_ref()),
            Component::Pattern(_) => None,
        }))
    }

    /// Whether it may be `place` or something beneath it.
    pub(super) fn may_be_in(&self, place: &ViewPath) -> bool {
        let mut components = self.components.iter();
        place.components().all(|name| components.next().is_some_and(|component| component.may_be(name)))
    }

    /// Whether it may be something beneath `place`.
    pub(super) fn may_be_strictly_in(&self, place: &ViewPath) -> bool {
        self.components.len() > place.components().count() && self.may_be_in(place)
    }

    /// Whether it may be a directory that holds `place`, or `place` itself.
    pub(super) fn may_hold(&self, place: &ViewPath) -> bool {
        let mut names = place.components();
        self.components.iter().all(|component| names.next().is_some_and(|name| component.may_be(name)))
    }

    /// Whether it is `place` or something beneath it, whatever its patterns match.
    pub(super) fn is_in(&self, place: &ViewPath) -> bool {
        let mut components = self.components.iter();
        place.components().all(|name| matches!(components.next(), Some(Component::Name(one)) if one == name))
    }

    /// Whether it lies beneath `place`, and is not `place` itself.
    pub(super) fn is_strictly_in(&self, place: &ViewPath) -> bool {
        self.is_in(place) && self.components.len() > place.components().count()
    }

    /// Whether some component behind those of `place` may have this name.
    pub(super) fn may_name(&self, place: &ViewPath, name: &str) -> bool {
        self.is_in(place)
            && self.components.iter().skip(place.components().count()).any(|component| component.may_be(name))
    }
}

impl Component<'_> {
    fn may_be(&self, name: &str) -> bool {
        match self {
            Self::Name(one) => one == name,
            Self::Pattern(pieces) => matches_name(pieces, name),
        }
    }
}

/// Cuts a word at its slashes. A pattern matches no slash, so only texts hold any.
fn split(word: &Word) -> Vec<Vec<Piece>> {
    let mut parts = vec![Vec::new()];
    for piece in &word.pieces {
        let Piece::Text(text) = piece else {
            if let Some(part) = parts.last_mut() {
                part.push(piece.clone());
            }
            continue;
        };
        for (at, text) in text.split('/').enumerate() {
            if at > 0 {
                parts.push(Vec::new());
            }
            if !text.is_empty()
                && let Some(part) = parts.last_mut()
            {
                part.push(Piece::Text(text.to_owned()));
            }
        }
    }
    parts
}

fn literal(part: &[Piece]) -> Option<&str> {
    match part {
        [] => Some(""),
        [Piece::Text(text)] => Some(text),
        _ => None,
    }
}

/// Whether a pattern matches a whole name. A leading dot is matched by a dot alone.
fn matches_name(pieces: &[Piece], name: &str) -> bool {
    if name.starts_with('.') && !matches!(pieces.first(), Some(Piece::Text(text)) if text.starts_with('.')) {
        return false;
    }
    let name: Vec<char> = name.chars().collect();
    // The places in the name that the pieces so far can have reached.
    let mut reached = vec![false; name.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for piece in pieces {
        let mut next = vec![false; name.len() + 1];
        for at in reached.iter().enumerate().filter_map(|(at, &yes)| yes.then_some(at)) {
            let rest = name.get(at..).unwrap_or_default();
            let mut reach = |to: usize| {
                if let Some(place) = next.get_mut(to) {
                    *place = true;
                }
            };
            match piece {
                Piece::Text(text) => {
                    let length = text.chars().count();
                    if rest.len() >= length && rest.iter().zip(text.chars()).all(|(&a, b)| a == b) {
                        reach(at + length);
                    }
                }
                Piece::AnyString => (at..=name.len()).for_each(reach),
                Piece::AnyChar => {
                    if !rest.is_empty() {
                        reach(at + 1);
                    }
                }
                Piece::Class { negated, items, .. } => {
                    if rest.first().is_some_and(|&c| items.iter().any(|item| item.holds(c)) != *negated) {
                        reach(at + 1);
                    }
                }
            }
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::parse;

    fn path(text: &str) -> ViewPath {
        ViewPath::parse(text).unwrap()
    }

    /// Looks at what the word may be, seen from the workspace.
    fn look<T>(text: &str, at: impl Fn(&[Target<'_>]) -> T) -> T {
        let line = parse(&format!("x {text}")).unwrap();
        let base = path("/workspace");
        at(&Target::resolve(&base, &line.steps[0].commands[0].words[1]).unwrap())
    }

    #[test]
    fn a_pattern_may_be_what_it_can_match() {
        for (word, place, may) in [
            ("/etc/passwd", "/etc", true),
            ("/e*", "/etc", true),
            ("/*/passwd", "/etc", true),
            ("/[!a-d]t?", "/etc", true),
            ("/*", "/var/run", false),
            ("/*/*", "/var/run", true),
            ("/u*", "/etc", false),
            ("../etc", "/etc", true),
            ("../*/../etc/x", "/etc", true),
            ("*", "/workspace/.git", false),
            (".g*", "/workspace/.git", true),
            (".*/../etc", "/etc", true),
            ("a/.*/x", "/workspace/x", true),
        ] {
            assert_eq!(
                look(word, |targets| targets.iter().any(|target| target.may_be_in(&path(place)))),
                may,
                "{word}"
            );
        }
    }

    #[test]
    fn an_ancestor_may_hold_what_lies_beneath() {
        for (word, place, may) in [
            ("/", "/etc", true),
            ("/v*", "/var/run", true),
            ("/var/run", "/var/run", true),
            ("/usr", "/etc", false),
        ] {
            assert_eq!(
                look(word, |targets| targets.iter().any(|target| target.may_hold(&path(place)))),
                may,
                "{word}"
            );
        }
    }

    #[test]
    fn what_is_granted_for_a_pattern_is_the_directory_before_it() {
        for (word, root) in [("a/*.txt", "/workspace/a"), ("/*", "/"), ("x", "/workspace/x")] {
            assert_eq!(look(word, |targets| targets[0].root()), path(root), "{word}");
        }
    }

    #[test]
    fn too_many_meanings_are_not_looked_at() {
        let line = parse(&format!("x {}", ".*/".repeat(20))).unwrap();
        assert_eq!(Target::resolve(&path("/workspace"), &line.steps[0].commands[0].words[1]), None);
    }
}
