//! Makes a new local token in the place of the old one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::failure::Failure;
use crate::target::our_uid;

/// What every local token begins with; see `portcullis-identity`.
const PREFIX: &str = "pcl_";
const RANDOM_BYTES: usize = 32;

/// Replaces the token in `file`, which is `old`, by a new one of mode 0600. What stands there is whole at every moment: the
/// old token or the new one.
///
/// # Errors
/// When the token is not of a service's own making, the file is not ours, or the directory cannot be written.
pub(crate) fn rotate(file: &Path, old: &str) -> Result<(), Failure> {
    let shown = file.display();
    if !old.starts_with(PREFIX) {
        return Err(Failure::new(format!("the token in `{shown}` is none that a Portcullis service makes"))
            .hint("a token of the Auth Service is changed by signing in again"));
    }
    let failed = |what: &str, error: io::Error| Failure::new(format!("`{shown}` cannot be {what}: {error}"));
    let metadata = fs::symlink_metadata(file).map_err(|error| failed("examined", error))?;
    if !metadata.is_file() {
        return Err(Failure::new(format!("`{shown}` is a link; the service takes none")));
    }
    // The service takes no token that is another's.
    if our_uid().is_some_and(|uid| uid != metadata.uid()) {
        return Err(Failure::new(format!("`{shown}` belongs to uid {}", metadata.uid()))
            .hint("run this as its owner, with `sudo` for a service that root starts"));
    }
    let mut random = [0; RANDOM_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|error| Failure::new(format!("there are no random bytes: {error}")))?;
    let mut draft = file.as_os_str().to_owned();
    draft.push(format!(".new.{}", std::process::id()));
    let draft = Path::new(&draft);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft).and_then(|mut new| {
            writeln!(new, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))?;
            new.sync_all()
        });
    let replaced = written.and_then(|()| fs::rename(draft, file));
    if replaced.is_err() {
        fs::remove_file(draft).ok();
    }
    replaced.map_err(|error| failed("replaced", error))?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed("made to last", error))
}
