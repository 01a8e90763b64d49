//! The real executable, started by root: what it gives up, and what works all the same.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use portcullis_core::Status;
use portcullis_sandbox::current_uid;

use crate::life::Manager;
use crate::process::{Real, kill, skip, spawn};
use crate::served::Client;

/// The uid before the first that an execution gets.
const FREE_UID: u32 = 1_999_999_999;

fn as_root() -> bool {
    let root = current_uid() == 0;
    if !root {
        skip("only root gives root up");
    }
    root
}

/// A directory that every user passes through.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o711);
    directory
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What the kernel says of a process.
struct Standing(String);

impl Standing {
    fn of(pid: &str) -> Self {
        Self(fs::read_to_string(format!("/proc/{pid}/status")).unwrap())
    }

    fn field(&self, name: &str) -> &str {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim()
    }

    /// No privilege, and no way back to any.
    #[track_caller]
    fn expect_ordinary(&self, uid: u32) {
        for ids in [self.field("Uid"), self.field("Gid")] {
            assert_eq!(ids, format!("{uid}\t{uid}\t{uid}\t{uid}"), "{}", self.0);
        }
        assert_eq!(self.field("Groups"), "", "{}", self.0);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(self.field(set), 16), Ok(0), "{set}: {}", self.0);
        }
        assert_eq!(self.field("NoNewPrivs"), "1", "{}", self.0);
    }
}

/// A service that a test has started in its own way. One that fails leaves nothing running.
struct Started(Child);

impl Started {
    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Waits until it says where it is.
    async fn client(&self, data: &Path) -> Option<Client> {
        Real::started(data, self.0.id()).await
    }

    /// Ends it, and returns its exit code.
    fn end(mut self) -> Option<i32> {
        kill("TERM", &self.pid());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The children of a process.
fn children(pid: &str) -> Vec<String> {
    let all = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    all.filter(|child| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == pid))
    })
    .collect()
}

#[track_caller]
fn expect_owner(path: &Path, uid: u32, mode: u32) {
    let found = fs::symlink_metadata(path).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (uid, mode), "{}", path.display());
}

#[tokio::test]
async fn root_is_given_up_but_for_the_launcher_and_everything_works() {
    if !as_root() {
        return;
    }
    let directory = open_directory();
    let data = directory.path().join("data");
    let Some(real) = Real::start(&data, &[]).await else { return };
    let server = Standing::of(&real.pid());
    server.expect_ordinary(FREE_UID);
    assert_eq!(u64::from_str_radix(server.field("CapBnd"), 16), Ok(0));
    // Undumpable: what the kernel shows of it belongs to root, not to its own user.
    expect_owner(Path::new(&format!("/proc/{}/environ", real.pid())), 0, 0o400);
    let launcher = children(&real.pid());
    assert_eq!(launcher.len(), 1, "{launcher:?}");
    let launcher = Standing::of(&launcher[0]);
    assert_eq!((launcher.field("Name"), launcher.field("Uid")), ("portcullis-laun", "0\t0\t0\t0"));
    assert_eq!((launcher.field("Groups"), launcher.field("NoNewPrivs")), ("", "1"));
    let held = u64::from_str_radix(launcher.field("CapEff"), 16).unwrap();
    assert_eq!(held & !0x0100_00e3, 0, "{}", launcher.0);

    let hello = real.client.run("hello", "echo hello").await;
    assert_eq!((hello.status, hello.output.as_deref()), (Status::Completed, Some("hello")), "{hello:?}");
    expect_owner(&data, FREE_UID, 0o711);
    expect_owner(&data.join("portcullis.db"), FREE_UID, 0o600);
    expect_owner(&data.join("token"), 0, 0o600);
    expect_owner(&data.join("cells"), 0, 0o711);
    // Killed, it leaves no launcher, and the next life takes the records up.
    let launcher = children(&real.pid());
    real.signal("KILL");
    let _ = real.ended().await;
    let begun = std::time::Instant::now();
    while Path::new(&format!("/proc/{}", launcher[0])).exists() {
        assert!(begun.elapsed() < crate::served::PATIENCE, "the launcher outlives its server");
        tokio::task::yield_now().await;
    }
    let Some(again) = Real::start(&data, &[]).await else { return };
    let record = again.client.ended("hello").await;
    assert_eq!(record.end_time, hello.end_time);
    assert_eq!(again.client.run("next", "echo next").await.output.as_deref(), Some("next"));
}

#[tokio::test]
async fn what_an_earlier_life_kept_as_root_is_reopened_without_loss() {
    if !as_root() {
        return;
    }
    let directory = open_directory();
    let data = directory.path().join("data");
    let Some(real) = Real::start(&data, &[]).await else { return };
    let before = real.client.run("before", "echo before").await;
    real.signal("KILL");
    let _ = real.ended().await;
    // As a version that kept root has left it: everything root's, closed to others. A file of two names bears one of
    // ours, as whoever was that user may have left it.
    set_mode(&data, 0o700);
    chown(&data, Some(0), Some(0)).unwrap();
    for file in fs::read_dir(&data).unwrap().flatten() {
        chown(file.path(), Some(0), Some(0)).unwrap();
    }
    let doubled = directory.path().join("doubled");
    fs::write(&doubled, "").unwrap();
    fs::hard_link(&doubled, data.join("portcullis.db-journal")).unwrap();
    let Some(again) = Real::start(&data, &[]).await else { return };
    assert_eq!(again.client.ended("before").await.end_time, before.end_time);
    assert_eq!(again.client.run("after", "echo after").await.output.as_deref(), Some("after"));
    again.signal("TERM");
    assert_eq!(again.ended().await.0, Some(0));
    assert_eq!(fs::metadata(doubled).unwrap().uid(), 0);
}

#[tokio::test]
async fn the_service_starts_from_a_directory_that_its_user_cannot_enter_and_listens_where_only_root_may() {
    if !as_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    set_mode(home.path(), 0o700);
    let executable = home.path().join("portcullis-server");
    fs::copy(env!("CARGO_BIN_EXE_portcullis-server"), &executable).unwrap();
    let state = open_directory();
    let data = state.path().join("portcullis");
    let free = (600..1024).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
    let process = Command::new(&executable)
        .env_clear()
        .envs([("HOME", home.path().to_str().unwrap()), ("STATE_DIRECTORY", data.to_str().unwrap())])
        .env("PORTCULLIS_LISTEN", format!("127.0.0.1:{free}"))
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = Started(process.unwrap());
    let Some(real) = process.client(&data).await else { return skip("the service does not start here") };
    Standing::of(&process.pid()).expect_ordinary(FREE_UID);
    assert_eq!(real.address.port(), free);
    assert_eq!(real.run("hello", "echo hello").await.output.as_deref(), Some("hello"));
    assert_eq!(process.end(), Some(0));
}

#[tokio::test]
async fn five_capabilities_are_enough_at_the_first_start_and_at_the_next() {
    if !as_root() {
        return;
    }
    let directory = open_directory();
    let data = directory.path().join("data");
    for number in ["first", "next"] {
        let _ = fs::remove_file(data.join("url"));
        #[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
        let process = Command::new("setpriv")
            .arg("--bounding-set=-all,+setuid,+setgid,+kill,+setpcap,+chown")
            .arg(env!("CARGO_BIN_EXE_portcullis-server"))
            .env_clear()
            .env("PORTCULLIS_DATA_DIR", &data)
            .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process.map(Started) else { return skip("there is no `setpriv`") };
        let Some(client) = process.client(&data).await else { panic!("{number}: it does not start") };
        Standing::of(&process.pid()).expect_ordinary(FREE_UID);
        assert_eq!(client.run(number, "echo hello").await.output.as_deref(), Some("hello"), "{number}");
        assert_eq!(process.end(), Some(0), "{number}");
    }
}

#[tokio::test]
async fn an_ordinary_user_gives_up_what_is_left_to_give_up() {
    const NOBODY: u32 = 65_534;
    if !as_root() {
        return;
    }
    let directory = open_directory();
    let executable = directory.path().join("portcullis-server");
    fs::copy(env!("CARGO_BIN_EXE_portcullis-server"), &executable).unwrap();
    set_mode(&executable, 0o755);
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
    let process = Command::new(&executable)
        .env_clear()
        .env("PORTCULLIS_DATA_DIR", &data)
        .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = Started(process.unwrap());
    let Some(client) = process.client(&data).await else { return skip("the service does not start here") };
    Standing::of(&process.pid()).expect_ordinary(NOBODY);
    expect_owner(Path::new(&format!("/proc/{}/environ", process.pid())), 0, 0o400);
    let launcher = children(&process.pid());
    Standing::of(&launcher[0]).expect_ordinary(NOBODY);
    assert_eq!(client.run("hello", "echo hello").await.output.as_deref(), Some("hello"));
    expect_owner(&data.join("token"), NOBODY, 0o600);
    assert_eq!(process.end(), Some(0));
}

#[tokio::test]
async fn a_user_that_is_named_is_the_one_and_a_rulebook_closed_to_it_is_told() {
    if !as_root() {
        return;
    }
    let directory = open_directory();
    let data = directory.path().join("data");
    let rules = directory.path().join("rules.toml");
    fs::write(&rules, "version = 1\n\n[[rule]]\nname = \"a\"\nprograms = [\"echo\"]\n").unwrap();
    set_mode(&rules, 0o600);
    let socket = directory.path().join("notify");
    let manager = Manager::at(&socket);
    set_mode(&socket, 0o666);
    let settings = [
        ("PORTCULLIS_USER", "61234"),
        ("PORTCULLIS_RULEBOOK", rules.to_str().unwrap()),
        ("NOTIFY_SOCKET", socket.to_str().unwrap()),
    ];
    let Some(real) = Real::start(&data, &settings).await else { return };
    Standing::of(&real.pid()).expect_ordinary(61_234);
    assert_eq!(real.client.run("hello", "echo hello").await.output.as_deref(), Some("hello"));
    assert!(manager.told().await.starts_with("READY=1\n"));
    real.signal("HUP");
    assert!(manager.told().await.starts_with("RELOADING=1\n"));
    assert!(manager.told().await.contains("the one before is in force"));
    set_mode(&rules, 0o644);
    real.signal("HUP");
    assert!(manager.told().await.starts_with("RELOADING=1\n"));
    assert_eq!(manager.told().await, "READY=1\nSTATUS=the rulebook was read again");
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the rulebook cannot be read again by SIGHUP: let that user read it"), "{log}");
    assert!(log.contains("uid 61234, gid 61234"), "{log}");
    assert!(log.contains("as uid 61234, which the service has been since its start"), "{log}");
}

/// How a start fails: its exit code and what it said.
async fn failure(data: &Path, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut process = spawn(data, settings);
    let mut log = String::new();
    process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (process.wait().unwrap().code(), log)
}

#[tokio::test]
async fn a_user_that_will_not_do_stops_the_start() {
    if !as_root() {
        return;
    }
    let directory = open_directory();
    let data = directory.path().join("data");
    for (user, wanted) in [
        ("root", "that is root"),
        ("0", "that is root"),
        ("no-such-user", "there is no such user"),
        ("2000000001", "the service needs a user that no execution is"),
    ] {
        let (code, log) = failure(&data, &[("PORTCULLIS_USER", user), ("PORTCULLIS_CELLS", "2")]).await;
        assert_eq!(code, Some(78), "{user}: {log}");
        assert!(log.contains(wanted), "{user}: {log}");
    }
    assert!(!data.exists());
}

#[tokio::test]
async fn a_data_directory_that_is_not_the_services_own_or_out_of_its_reach_stops_the_start() {
    if !as_root() {
        return;
    }
    let shared = open_directory();
    fs::create_dir(shared.path().join("somebody-elses")).unwrap();
    let (code, log) = failure(shared.path(), &[]).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("somebody-elses") && log.contains("PORTCULLIS_DATA_DIR"), "{log}");
    assert_eq!(fs::metadata(shared.path()).unwrap().uid(), 0, "it stays root's");

    let closed = tempfile::tempdir().unwrap();
    set_mode(closed.path(), 0o700);
    let (code, log) = failure(&closed.path().join("data"), &[]).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("does not reach the data directory") && log.contains("Permission denied"), "{log}");
}
