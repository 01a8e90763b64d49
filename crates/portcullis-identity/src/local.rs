use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_core::{AuthenticateError, Authenticator, Credentials, Principal, Secret};
use rustix::fs::OFlags;
use subtle::ConstantTimeEq as _;

use crate::token::{Digest, digest, is_well_formed};

/// What every token of ours begins with, so that one that leaked is recognised by whoever scans for it.
const PREFIX: &str = "pcl_";
/// How much randomness a token holds.
const RANDOM_BYTES: usize = 32;
/// More than a token file holds; a longer one is read no further.
const MAX_FILE_BYTES: u64 = 256;

/// Knows one token: whoever may read its file is [`Principal::local`].
///
/// The file holds `pcl_` and 32 random bytes in base64url. It is made at the first start with mode 0600, in
/// a directory that is made with mode 0700 when it is missing; that and the operating system's file
/// permissions are what keeps it from others.
pub struct LocalTokenAuthenticator {
    path: PathBuf,
    // Comparing digests takes the same time whatever the lengths; and the token need not stay in memory.
    expected: Digest,
}

/// Why the token cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum LocalTokenError {
    /// Somebody else may know or choose the token, or it is none.
    #[error("the token at `{path}` is not safe to use: {problem}")]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// The file system refused.
    #[error("could not {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
    /// The operating system gave no randomness.
    #[error("could not make a token: the operating system gives no random bytes ({0})")]
    Random(getrandom::Error),
}

impl LocalTokenAuthenticator {
    /// Reads the token at `path`, or makes one there when there is none. Of several processes that do so at
    /// once, one makes it and all use it.
    ///
    /// # Errors
    /// When the file is a link or no plain file, belongs to somebody else who is not root, is open to others or holds no
    /// token; when its directory may be written by others; or when it can be neither read nor made.
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<Self, LocalTokenError> {
        Self::open_or_create_beside(path, None)
    }

    /// As [`LocalTokenAuthenticator::open_or_create`], in a directory that may also belong to this uid: root's own, which it is
    /// about to become.
    ///
    /// # Errors
    /// As [`LocalTokenAuthenticator::open_or_create`].
    pub fn open_or_create_beside(
        path: impl Into<PathBuf>,
        owner: Option<u32>,
    ) -> Result<Self, LocalTokenError> {
        let path = path.into();
        let token = match read(&path)? {
            Some(token) => token,
            None => {
                make(&path, owner)?;
                // Read again: another process may have been first.
                read(&path)?.ok_or_else(|| io_error("read", &path, io::ErrorKind::NotFound.into()))?
            }
        };
        Ok(Self { path, expected: digest(&token) })
    }

    /// Reads the token of a file that another process made: for clients on the same machine.
    ///
    /// # Errors
    /// As [`LocalTokenAuthenticator::open_or_create`], and when there is no such file.
    pub fn read_token(path: &Path) -> Result<Secret, LocalTokenError> {
        read(path)?.ok_or_else(|| io_error("read", path, io::ErrorKind::NotFound.into()))
    }

    /// Returns where the token is kept.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl Authenticator for LocalTokenAuthenticator {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AuthenticateError> {
        let token = credentials.bearer.as_ref().ok_or(AuthenticateError::Missing)?;
        if is_well_formed(token) && bool::from(digest(token).ct_eq(&self.expected)) {
            Ok(Principal::local())
        } else {
            Err(AuthenticateError::Invalid)
        }
    }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> LocalTokenError {
    LocalTokenError::Io { operation, path: path.to_owned(), source }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reads the token, or nothing when there is no file.
fn read(path: &Path) -> Result<Option<Secret>, LocalTokenError> {
    let refuse = |problem: String| Err(LocalTokenError::Unsafe { path: path.to_owned(), problem });
    // Nonblocking: the open of a pipe that somebody put here must not hang the start.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return refuse("it is a symbolic link; put the file itself there, or remove the link".into());
        }
        Err(error) => return Err(io_error("open", path, error)),
    };
    // Asked of the open file, not of the name, which may mean another file by now.
    let metadata = file.metadata().map_err(|error| io_error("examine", path, error))?;
    if !metadata.is_file() {
        return refuse("it is not a plain file".into());
    }
    let us = rustix::process::geteuid().as_raw();
    if let Some(problem) = exposure(metadata.uid(), metadata.mode() & 0o7777, us) {
        return refuse(problem);
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| io_error("read", path, error))?;
    let token = text.strip_suffix('\n').unwrap_or(&text);
    let random = token.strip_prefix(PREFIX).and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
    if random.is_none_or(|bytes| bytes.len() != RANDOM_BYTES) {
        return refuse(format!(
            "it does not hold `{PREFIX}` and {RANDOM_BYTES} bytes in base64url; remove it, and the next start makes a new one"
        ));
    }
    Ok(Some(Secret::new(token)))
}

/// Says what lets others at a file of this owner and mode, when the process is `us`; `None` when nothing does.
///
/// A file may be root's, who can read and write every other as well, and then also be readable by its group: systemd
/// keeps the credentials of a unit with `User=` as root's with mode 0440, where the group's bits are the mask of an
/// access control list that names the user. See systemd.exec(5), "Credentials", and acl(5).
fn exposure(owner: u32, mode: u32, us: u32) -> Option<String> {
    if owner != us && owner != 0 {
        return Some(format!(
            "it belongs to uid {owner}, and this process is uid {us}; run as its owner, or remove it"
        ));
    }
    let forbidden = if owner == us { 0o077 } else { 0o037 };
    (mode & forbidden != 0).then(|| {
        format!(
            "its mode {mode:04o} lets others at it, who may know it by now; remove it, and the next start makes a new one"
        )
    })
}

/// Makes a token where there is none. What stands at `path` afterwards is whole, whoever made it.
fn make(path: &Path, owner: Option<u32>) -> Result<(), LocalTokenError> {
    let directory = directory_of(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| io_error("make the directory", directory, error))?;
    check_directory(directory, owner)?;

    let token = format!("{PREFIX}{}\n", URL_SAFE_NO_PAD.encode(random::<RANDOM_BYTES>()?));
    let mut draft_name = path.file_name().unwrap_or_default().to_owned();
    draft_name.push(format!(".{}", URL_SAFE_NO_PAD.encode(random::<9>()?)));
    let draft = directory.join(draft_name);
    let written = write_draft(&draft, &token).and_then(|()| {
        // A link, unlike a rename, does not replace what another process has put there meanwhile.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(io_error("make the token", path, error))
            }
            _ => Ok(()),
        }
    });
    let removed = fs::remove_file(&draft);
    written?;
    removed.map_err(|error| io_error("remove", &draft, error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| io_error("sync the directory", directory, error))
}

fn write_draft(draft: &Path, token: &str) -> Result<(), LocalTokenError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
        .and_then(|mut file| {
            file.write_all(token.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| io_error("write", draft, error))
}

/// Whoever may write the directory may put a token of theirs in place of ours.
fn check_directory(directory: &Path, owner: Option<u32>) -> Result<(), LocalTokenError> {
    let metadata = fs::metadata(directory).map_err(|error| io_error("examine", directory, error))?;
    let us = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    let problem = if ![Some(us), Some(0), owner].contains(&Some(metadata.uid())) {
        format!("its directory belongs to uid {}, and this process is uid {us}", metadata.uid())
    } else if mode & 0o022 != 0 {
        format!("its directory has mode {mode:04o} and may be written by others; `chmod go-w` it")
    } else {
        return Ok(());
    };
    Err(LocalTokenError::Unsafe { path: directory.to_owned(), problem })
}

fn random<const N: usize>() -> Result<[u8; N], LocalTokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(LocalTokenError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn with_token(token: &str) -> Credentials {
        Credentials { bearer: Some(Secret::new(token)), ..Credentials::default() }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_of_roots_may_be_read_by_its_group_as_systemd_hands_it_over() {
        for (owner, mode, us, accepted) in [
            (1000, 0o600, 1000, true),
            (1000, 0o440, 1000, false),
            (0, 0o400, 1000, true),
            (0, 0o440, 1000, true),
            (0, 0o460, 1000, false),
            (0, 0o444, 1000, false),
            (0, 0o440, 0, false),
            (1001, 0o400, 1000, false),
            (1001, 0o440, 0, false),
        ] {
            assert_eq!(exposure(owner, mode, us).is_none(), accepted, "{owner} {mode:o} {us}");
        }
    }

    /// Why a token file, as `prepare` leaves it, is refused.
    #[track_caller]
    fn refusal(prepare: impl FnOnce(&Path)) -> String {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        prepare(&path);
        match LocalTokenAuthenticator::open_or_create(&path) {
            Err(error @ LocalTokenError::Unsafe { .. }) => error.to_string(),
            Err(error) => panic!("refused for another reason: {error:?}"),
            Ok(_) => panic!("not refused"),
        }
    }

    #[tokio::test]
    async fn the_first_start_makes_a_token_and_later_ones_keep_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/portcullis/token");
        let first = LocalTokenAuthenticator::open_or_create(&path).unwrap();
        let token = LocalTokenAuthenticator::read_token(&path).unwrap();
        let second = LocalTokenAuthenticator::open_or_create(&path).unwrap();
        for authenticator in [&first, &second] {
            let principal = authenticator.authenticate(&with_token(token.reveal())).await.unwrap();
            assert_eq!(principal, Principal::local());
        }
        assert!(token.reveal().starts_with("pcl_"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[tokio::test]
    async fn no_other_token_is_let_in() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        let authenticator = LocalTokenAuthenticator::open_or_create(&path).unwrap();
        let token = LocalTokenAuthenticator::read_token(&path).unwrap();
        let right = token.reveal();
        for wrong in
            ["", "pcl_", &right[..right.len() - 1], &format!("{right}A"), &right.to_uppercase(), "a b"]
        {
            let refused = authenticator.authenticate(&with_token(wrong)).await;
            assert!(matches!(refused, Err(AuthenticateError::Invalid)), "{wrong}");
        }
        let nobody = authenticator.authenticate(&Credentials::default()).await;
        assert!(matches!(nobody, Err(AuthenticateError::Missing)));
    }

    #[test]
    fn two_homes_have_two_tokens() {
        let tokens = [(); 2].map(|()| {
            let home = tempfile::tempdir().unwrap();
            LocalTokenAuthenticator::open_or_create(home.path().join("token")).unwrap().expected
        });
        assert_ne!(tokens[0], tokens[1]);
    }

    #[test]
    fn starts_at_the_same_time_agree_on_one_token() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        let barrier = std::sync::Barrier::new(8);
        let tokens: Vec<Digest> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        LocalTokenAuthenticator::open_or_create(&path).unwrap().expected
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(tokens.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_token_that_others_may_read_is_refused() {
        for mode in [0o644, 0o640, 0o602] {
            let problem = refusal(|path| {
                LocalTokenAuthenticator::open_or_create(path).unwrap();
                set_mode(path, mode);
            });
            assert!(problem.contains(&format!("mode {mode:04o}")), "{problem}");
        }
    }

    #[test]
    fn a_link_a_pipe_and_a_directory_are_refused() {
        let problem = refusal(|path| {
            let real = path.with_file_name("real");
            LocalTokenAuthenticator::open_or_create(&real).unwrap();
            symlink(&real, path).unwrap();
        });
        assert!(problem.contains("symbolic link"), "{problem}");
        let problem = refusal(|path| {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        });
        assert!(problem.contains("not a plain file"), "{problem}");
        let problem = refusal(|path| fs::create_dir(path).unwrap());
        assert!(problem.contains("not a plain file"), "{problem}");
    }

    #[test]
    fn a_dangling_link_is_not_written_through() {
        let problem = refusal(|path| symlink(path.with_file_name("elsewhere"), path).unwrap());
        assert!(problem.contains("symbolic link"), "{problem}");
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused() {
        for text in ["", "\n", "secret\n", "pcl_\n", "pcl_c2hvcnQ\n", &format!("pcl_{}\n", "A".repeat(400))] {
            let problem = refusal(|path| {
                fs::write(path, text).unwrap();
                set_mode(path, 0o600);
            });
            assert!(problem.contains("does not hold"), "{problem}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_gets_no_token() {
        let problem = refusal(|path| set_mode(path.parent().unwrap(), 0o777));
        assert!(problem.contains("may be written by others"), "{problem}");
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a file away");
            assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "this test was skipped");
            return;
        }
        let problem = refusal(|path| {
            LocalTokenAuthenticator::open_or_create(path).unwrap();
            std::os::unix::fs::chown(path, Some(12_345), None).unwrap();
        });
        assert!(problem.contains("uid 12345"), "{problem}");
    }
}
