//! The rulebooks that ship with the crate.

use super::Rulebook;

/// Each reference rulebook's name and text.
const REFERENCES: [(&str, &str); 5] = [
    ("default", include_str!("../../rulebooks/default.toml")),
    ("readonly", include_str!("../../rulebooks/readonly.toml")),
    ("dev", include_str!("../../rulebooks/dev.toml")),
    ("fetch", include_str!("../../rulebooks/fetch.toml")),
    ("team", include_str!("../../rulebooks/team.toml")),
];

impl Rulebook {
    /// Returns the text of a reference rulebook: `default`, `readonly`, `dev`, `fetch` or `team`.
    #[must_use]
    pub fn reference_text(name: &str) -> Option<&'static str> {
        REFERENCES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// Returns a reference rulebook. `None` for an unknown name.
    #[must_use]
    pub fn reference(name: &str) -> Option<Self> {
        Self::parse(Self::reference_text(name)?).ok()
    }

    /// Names the reference rulebooks.
    pub fn references() -> impl Iterator<Item = &'static str> {
        REFERENCES.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_rulebook_passes_its_own_tests() {
        let wrong: Vec<String> = Rulebook::references()
            .filter_map(|name| {
                let error = Rulebook::parse(Rulebook::reference_text(name)?).err()?;
                Some(format!("{name}.toml:\n{error}\n"))
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.concat());
    }
}
