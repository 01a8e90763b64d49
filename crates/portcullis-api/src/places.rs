use std::ffi::OsString;
use std::path::PathBuf;

/// Name of the file in the state directory that holds the local token.
pub const TOKEN_FILE: &str = "token";
/// Name of the file in the state directory that holds the service's URL.
pub const URL_FILE: &str = "url";

/// What decides where the service keeps its state: who runs it, and what its environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `PORTCULLIS_DATA_DIR`
    pub data_dir: Option<OsString>,
    /// `STATE_DIRECTORY`, as systemd sets it: several are separated by `:`, the first counts.
    pub state_directory: Option<OsString>,
    /// `XDG_STATE_HOME`
    pub xdg_state_home: Option<OsString>,
    /// `HOME`
    pub home: Option<OsString>,
    /// Whether the process runs as root.
    pub root: bool,
}

/// Returns where the service's state may be, the most likely first. The server uses the first; a client on
/// the same machine looks at each in turn for [`URL_FILE`] and [`TOKEN_FILE`].
///
/// A directory that is named (`PORTCULLIS_DATA_DIR`, else `STATE_DIRECTORY`) is the only one. Otherwise it is
/// `/var/lib/portcullis` for root and `$XDG_STATE_HOME/portcullis` or `~/.local/state/portcullis` for others; a
/// client that is not root falls back to `/var/lib/portcullis`, whose files it may have been given.
#[must_use]
pub fn state_directories(from: &Surroundings) -> Vec<PathBuf> {
    let named = |value: &Option<OsString>| value.clone().filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(directory) = named(&from.data_dir) {
        return vec![directory];
    }
    if let Some(listed) = named(&from.state_directory) {
        let first = std::env::split_paths(&listed).next();
        return vec![first.unwrap_or(listed)];
    }
    let system = PathBuf::from("/var/lib/portcullis");
    if from.root {
        return vec![system];
    }
    // The XDG base directory specification: a relative path is to be ignored.
    let own = named(&from.xdg_state_home)
        .filter(|path| path.is_absolute())
        .or_else(|| named(&from.home).map(|home| home.join(".local/state")))
        .map(|state| state.join("portcullis"));
    own.into_iter().chain([system]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: Surroundings, wanted: &[&str]) {
        assert_eq!(state_directories(&from), wanted.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_named_directory_is_the_only_one() {
        let all = Surroundings {
            data_dir: Some("/d".into()),
            state_directory: Some("/s:/t".into()),
            xdg_state_home: Some("/x".into()),
            home: Some("/h".into()),
            root: true,
        };
        check(all.clone(), &["/d"]);
        check(Surroundings { data_dir: Some("".into()), ..all.clone() }, &["/s"]);
        check(Surroundings { data_dir: None, state_directory: None, ..all }, &["/var/lib/portcullis"]);
    }

    #[test]
    fn without_a_name_it_is_the_users_own_and_then_the_systems() {
        let home = Surroundings { home: Some("/h".into()), ..Surroundings::default() };
        check(home.clone(), &["/h/.local/state/portcullis", "/var/lib/portcullis"]);
        let xdg = Surroundings { xdg_state_home: Some("/x".into()), ..home.clone() };
        check(xdg, &["/x/portcullis", "/var/lib/portcullis"]);
        let relative = Surroundings { xdg_state_home: Some("x".into()), ..home };
        check(relative, &["/h/.local/state/portcullis", "/var/lib/portcullis"]);
        check(Surroundings::default(), &["/var/lib/portcullis"]);
    }
}
