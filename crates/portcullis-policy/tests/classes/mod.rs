//! The classes of denials, by which corpora say why a line is refused.

use std::collections::BTreeMap;

/// Reads the table of classes in `docs/policy.md`: codes, or beginnings of codes, and their class.
pub(crate) fn classes() -> BTreeMap<String, String> {
    let text = include_str!("../../../../docs/policy.md");
    let (_, table) = text.split_once("| class | codes |").expect("docs/policy.md lists the classes");
    let mut classes = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, class, codes, _] = cells.as_slice() else { panic!("a row has two cells: {row}") };
        for code in codes.split(", ") {
            classes.insert(code.trim_matches('`').trim_end_matches('…').to_owned(), (*class).to_owned());
        }
    }
    classes
}

/// Returns the class of a code.
pub(crate) fn class_of<'a>(classes: &'a BTreeMap<String, String>, code: &str) -> Option<&'a str> {
    classes.iter().find(|(known, _)| code.starts_with(known.as_str())).map(|(_, class)| class.as_str())
}
