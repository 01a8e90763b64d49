//! Kills at random times under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_api::ExecutionView;
use portcullis_core::{Level, Status};

use crate::client::{Client, Submitted};
use crate::processes::{self, Process, expect_no_orphans, groups_of};
use crate::service::{Ground, Service};

/// How many clients submit at once, and how many lines each in a round at most.
const CLIENTS: usize = 4;
const LINES: usize = 8;

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros.max(1)))
    }
}

/// Whom a round kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Server,
    /// Before it says that it listens.
    StartingServer,
    Launcher,
    /// Server, launcher and cells.
    All,
    Cell,
    Init,
    Command,
}

impl Victim {
    fn by(chance: &mut Chance) -> Self {
        match chance.below(18) {
            0..7 => Self::Server,
            7..9 => Self::StartingServer,
            9..11 => Self::Launcher,
            11..13 => Self::Cell,
            13..14 => Self::Init,
            14..16 => Self::All,
            _ => Self::Command,
        }
    }
}

/// What was submitted and acknowledged, by all clients of all rounds.
#[derive(Default)]
struct Ledger {
    submitted: BTreeMap<String, String>,
    acknowledged: BTreeSet<String>,
    refused: usize,
    unanswered: usize,
    /// Records that answered a cancel.
    cancelled: Vec<ExecutionView>,
}

/// Submits lines until it has submitted enough, the round ends, or nobody answers. For most it waits until they have
/// ended, so that some kills meet a queue and others a service that is nearly idle.
async fn submit(
    client: Client,
    ground: Arc<Ground>,
    ledger: Arc<Mutex<Ledger>>,
    over: Arc<AtomicBool>,
    name: String,
    seed: u64,
) {
    let mut chance = Chance(seed);
    for number in 0..LINES {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{name}-{number}");
        let between = ["true", "true", "sleep 0.01", "sleep 0.05", "sleep 0.3"][chance.below(5) as usize];
        ledger.lock().unwrap().submitted.insert(id.clone(), format!("{id}\ndone"));
        let submitted = client.submit(&id, &ground.line(&id, between)).await;
        {
            let mut ledger = ledger.lock().unwrap();
            match submitted {
                Submitted::Acknowledged => drop(ledger.acknowledged.insert(id.clone())),
                Submitted::Refused(status) => {
                    assert!(matches!(status, 429 | 503), "{id} was answered with {status}");
                    ledger.refused += 1;
                    continue;
                }
                Submitted::Unanswered => {
                    ledger.unanswered += 1;
                    return;
                }
            }
        }
        if chance.below(8) == 0 {
            let cancelled = client.cancel(&id).await;
            ledger.lock().unwrap().cancelled.extend(cancelled);
            continue;
        }
        let waits = chance.below(3) > 0;
        while waits && !over.load(Ordering::Relaxed) {
            match client.record(&id).await {
                Some(record) if record.status.is_terminal() => break,
                Some(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                None => return,
            }
        }
    }
}

/// Figures of a run.
#[derive(Default)]
struct Figures {
    kills: BTreeMap<Victim, usize>,
    longest_orphan: Duration,
    longest_start: Duration,
}

/// A run of kills, one after another, on one ground.
struct Run {
    ground: Arc<Ground>,
    chance: Chance,
    ledger: Arc<Mutex<Ledger>>,
    seen: Vec<ExecutionView>,
    figures: Figures,
    /// Launchers that are dead, and whose groups are to be gone after the next start.
    dead: Vec<Process>,
    /// Those of servers that were killed just now: the next start does not wait for their end.
    dying: Vec<Process>,
}

impl Run {
    /// Starts the service, and asserts that nothing of its earlier lives is left open or lying about.
    async fn start(&mut self) -> Option<Service> {
        let began = Instant::now();
        let process = self.ground.spawn();
        for launcher in std::mem::take(&mut self.dying) {
            self.bury(launcher);
        }
        let service = self.ground.listening(process).await?;
        self.figures.longest_start = self.figures.longest_start.max(began.elapsed());
        for status in [Status::Scheduled, Status::Running] {
            let open = service.client.all(Some(status)).await;
            assert!(open.is_empty(), "{} are still {status:?} after a start: {open:?}", open.len());
        }
        for launcher in self.dead.drain(..) {
            let groups = groups_of(&launcher);
            // Its number may be that of the new one.
            assert!(groups.is_empty() || launcher.pid == service.launcher.pid, "{groups:?} are left");
        }
        assert_eq!(self.ground.strange_files(), [""; 0]);
        self.seen
            .extend(service.client.newest().await.into_iter().filter(|record| record.status.is_terminal()));
        Some(service)
    }

    /// Waits for the end of everything that a dead launcher had.
    fn bury(&mut self, launcher: Process) {
        let took = expect_no_orphans(&launcher, &self.ground.token);
        self.figures.longest_orphan = self.figures.longest_orphan.max(took);
        self.dead.push(launcher);
    }

    /// Kills a server while it starts.
    fn kill_starting(&mut self) {
        let mut process = self.ground.spawn();
        std::thread::sleep(self.chance.up_to(Duration::from_millis(250)));
        // Stopped, it starts no launcher between the look and the kill.
        processes::signal("STOP", process.id());
        let launcher = processes::launcher_of(process.id());
        process.kill().unwrap();
        process.wait().unwrap();
        if let Some(launcher) = launcher {
            self.bury(launcher);
        }
    }

    /// Lets clients submit, and kills somebody meanwhile. Returns the service when it lives on.
    async fn round(&mut self, service: Service, number: usize, victim: Victim) -> Option<Service> {
        let over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let name = format!("r{number}-{client}");
                let seed = self.chance.below(u64::MAX);
                let (ground, ledger) = (Arc::clone(&self.ground), Arc::clone(&self.ledger));
                let submits = submit(service.client.clone(), ground, ledger, Arc::clone(&over), name, seed);
                tokio::spawn(submits)
            })
            .collect();
        tokio::time::sleep(self.chance.up_to(Duration::from_millis(300))).await;
        let launcher = service.launcher.clone();
        let left = match victim {
            Victim::Server | Victim::StartingServer => {
                service.kill();
                if self.chance.below(2) == 0 {
                    self.dying.push(launcher);
                } else {
                    self.bury(launcher);
                }
                None
            }
            Victim::Launcher => {
                processes::signal("KILL", launcher.pid);
                self.bury(launcher);
                // What the server makes of it has a moment, or none.
                tokio::time::sleep(self.chance.up_to(Duration::from_millis(50))).await;
                service.kill();
                None
            }
            Victim::All => {
                let mut pids = processes::cells_of(&launcher);
                let place = usize::try_from(self.chance.below(pids.len() as u64 + 1)).unwrap();
                pids.splice(place..place, [service.pid(), launcher.pid]).for_each(drop);
                processes::kill_together(&pids);
                self.bury(launcher);
                service.kill();
                None
            }
            Victim::Cell | Victim::Init | Victim::Command => {
                let candidates = match victim {
                    Victim::Cell => processes::cells_of(&launcher),
                    Victim::Init => processes::inits_of(&launcher),
                    _ => processes::commands_of(&launcher),
                };
                if let Some(&pid) = candidates.first() {
                    processes::signal("KILL", pid);
                }
                assert!(service.client.is_well().await, "the server does not answer");
                Some(service)
            }
        };
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        *self.figures.kills.entry(victim).or_default() += 1;
        left
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// `PORTCULLIS_CRASH_KILLS` says how many kills, `PORTCULLIS_CRASH_SEED` at which times.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_times_lose_nothing_double_nothing_and_leave_nothing() {
    let kills = number("PORTCULLIS_CRASH_KILLS", 60);
    kill_at_random(Level::Full, kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_times_without_namespaces_do_not_either() {
    let kills = number("PORTCULLIS_CRASH_KILLS", 60);
    kill_at_random(Level::Landlock, kills / 3).await;
}

async fn kill_at_random(level: Level, kills: u64) {
    let random = u64::from(std::process::id()) << 20
        | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_micros());
    let seed = number("PORTCULLIS_CRASH_SEED", random);
    println!("PORTCULLIS_CRASH_SEED={seed}");
    let ground = Ground::new(level, &[("PORTCULLIS_CELLS", "3"), ("MAX_EXECUTION_TIME", "20")]).await;
    let mut run = Run {
        ground: Arc::new(ground),
        chance: Chance(seed),
        ledger: Arc::default(),
        seen: Vec::new(),
        figures: Figures::default(),
        dead: Vec::new(),
        dying: Vec::new(),
    };
    let began = Instant::now();
    let Some(mut service) = run.start().await else { return };
    for number in 0..usize::try_from(kills).unwrap() {
        let victim = Victim::by(&mut run.chance);
        let lives = run.round(service, number, victim).await;
        if victim == Victim::StartingServer {
            run.kill_starting();
        }
        service = match lives {
            Some(service) => service,
            None => run.start().await.expect("it has started before"),
        };
    }
    let (submitted, acknowledged) = {
        let ledger = run.ledger.lock().unwrap();
        println!(
            "{} refused, {} unanswered, {} cancelled",
            ledger.refused,
            ledger.unanswered,
            ledger.cancelled.len()
        );
        run.seen.extend(ledger.cancelled.iter().cloned());
        (ledger.submitted.clone(), ledger.acknowledged.clone())
    };
    let seen = std::mem::take(&mut run.seen);
    let verdict = run.ground.judge(&service.client, submitted, acknowledged, seen).await;
    let launcher = service.launcher.clone();
    assert_eq!(service.end().await, Some(0));
    run.bury(launcher.clone());
    assert!(groups_of(&launcher).is_empty(), "{:?}", groups_of(&launcher));
    assert_eq!(run.ground.strange_files(), [""; 0]);
    let Figures { kills, longest_orphan, longest_start } = run.figures;
    println!("kills: {kills:?} in {:.1?}", began.elapsed());
    println!(
        "longest: {longest_orphan:.0?} from a kill to the last process's end, {longest_start:.0?} to start"
    );
    println!("{verdict}");
    verdict.expect_nothing_wrong();
}
