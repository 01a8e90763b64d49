use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::allowed::ALLOWED;
use super::assemble::{Decision, decide};
use super::groups::{GROUPS, NEEDED_BY_A_CELL, NEEDED_BY_THE_LAUNCHER};
use super::rules::{Answer, EPERM, Is, Rule, Test};
use super::*;

/// What the numbers of the x32 ABI have, which shares the architecture of x86_64.
const X32_BIT: u32 = 0x4000_0000;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const MACHINES: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

/// What the kernel shows a filter: `struct seccomp_data`, little-endian.
struct Call {
    number: u32,
    machine: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> Option<u32> {
        let (index, rest) = (offset.checked_sub(16)? / 8, offset % 8);
        let argument = self.arguments.get(index as usize)?;
        match rest {
            0 => Some(*argument as u32),
            4 => Some((argument >> 32) as u32),
            _ => None,
        }
    }
}

/// Runs a program as the kernel would; panics at what its checker would refuse.
fn run(program: &[sock_filter], call: &Call) -> u32 {
    assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let mut go = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match u32::from(code) {
            0x20 => {
                accumulator = match k {
                    0 => call.number,
                    4 => call.machine,
                    _ => call.word(k).expect("loads are aligned and within seccomp_data"),
                }
            }
            0x05 => at += k as usize,
            0x15 => go(accumulator == k),
            0x25 => go(accumulator > k),
            0x35 => go(accumulator >= k),
            0x45 => go(accumulator & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x} is none of ours"),
        }
    }
}

fn number(machine: Architecture, name: &str) -> u32 {
    machine.calls().find(|(_, known)| *known == name).expect("a known call").0
}

fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

/// Asks every class' program on every machine that has the call, and expects the same answer of each.
#[track_caller]
fn check(classes: &[Class], name: &str, arguments: &[u64], wanted: u32) {
    let mut padded = [0; 6];
    padded[..arguments.len()].copy_from_slice(arguments);
    let mut asked = 0;
    for machine in MACHINES {
        let Some((number, _)) = machine.calls().find(|(_, known)| *known == name) else { continue };
        for class in classes {
            let call = Call { number, machine: machine.audit(), arguments: padded };
            let answer = run(&assemble(machine, *class, None), &call);
            assert_eq!(answer, wanted, "{machine:?} {class:?} {name}{arguments:x?}: {answer:#x}");
            asked += 1;
        }
    }
    assert!(asked > 0, "no machine knows `{name}`");
}

const READ_ONLY: [Class; 3] = [
    Class::CommandReadOnly,
    Class::LandlockLevelReadOnly(Signals::Scoped),
    Class::LandlockLevelReadOnly(Signals::Unscoped),
];
const WRITING: [Class; 3] =
    [Class::Command, Class::LandlockLevel(Signals::Scoped), Class::LandlockLevel(Signals::Unscoped)];
const NAMESPACED: [Class; 2] = [Class::Command, Class::CommandReadOnly];
const LANDLOCK: [Class; 4] = [
    Class::LandlockLevel(Signals::Scoped),
    Class::LandlockLevelReadOnly(Signals::Scoped),
    Class::LandlockLevel(Signals::Unscoped),
    Class::LandlockLevelReadOnly(Signals::Unscoped),
];

#[test]
fn every_call_of_the_tables_is_thought_about_and_every_rule_names_a_call() {
    let tables: BTreeSet<_> = MACHINES.into_iter().flat_map(|m| m.calls().map(|(_, name)| name)).collect();
    let ruled: BTreeSet<_> =
        GROUPS.iter().flat_map(|group| group.rules).flat_map(|(_, names)| *names).copied().collect();
    let allowed: BTreeSet<_> = ALLOWED.iter().copied().collect();
    assert_eq!(allowed.len(), ALLOWED.len(), "a call is listed twice");
    let known: BTreeSet<_> = ruled.union(&allowed).copied().collect();
    assert_eq!(tables.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "without a rule");
    assert_eq!(known.difference(&tables).collect::<Vec<_>>(), Vec::<&&str>::new(), "on no machine");
    for group in GROUPS {
        for (rule, names) in group.rules {
            let refused_everywhere =
                matches!(rule, Rule::Always(_)) && Class::ALL.into_iter().all(group.applies);
            for name in *names {
                // Listed as allowed exactly when some class allows it.
                assert_eq!(allowed.contains(name), !refused_everywhere, "`{name}` in `{}`", group.name);
            }
        }
    }
}

#[test]
fn tables_agree_with_libc() {
    let calls: Vec<_> = Architecture::NATIVE.calls().collect();
    assert!(calls.windows(2).all(|pair| pair[0].0 < pair[1].0), "numbers ascend");
    macro_rules! same {
        ($($name:ident $call:ident),* $(,)?) => {
            $(assert!(calls.contains(&(libc::$call as u32, stringify!($name))), stringify!($name));)*
        };
    }
    same!(
        read SYS_read, write SYS_write, ioctl SYS_ioctl, socket SYS_socket, clone SYS_clone,
        execve SYS_execve, ptrace SYS_ptrace, personality SYS_personality, prctl SYS_prctl,
        mount SYS_mount, keyctl SYS_keyctl, openat SYS_openat, fchmodat SYS_fchmodat,
        unshare SYS_unshare, perf_event_open SYS_perf_event_open, prlimit64 SYS_prlimit64,
        seccomp SYS_seccomp, memfd_create SYS_memfd_create, bpf SYS_bpf, execveat SYS_execveat,
        userfaultfd SYS_userfaultfd, statx SYS_statx, rseq SYS_rseq, pidfd_open SYS_pidfd_open,
        io_uring_setup SYS_io_uring_setup, clone3 SYS_clone3, close_range SYS_close_range,
        openat2 SYS_openat2, mount_setattr SYS_mount_setattr,
        landlock_restrict_self SYS_landlock_restrict_self, futex_waitv SYS_futex_waitv,
        fchmodat2 SYS_fchmodat2, mseal SYS_mseal,
    );
}

#[test]
fn unknown_numbers_are_enosys_and_foreign_machines_are_killed() {
    for machine in MACHINES {
        for class in Class::ALL {
            let program = assemble(machine, class, None);
            let ask = |number, machine| run(&program, &Call { number, machine, arguments: [0; 6] });
            for number in [350, 423, 470, 511, 512, 547, 0x3fff_ffff, X32_BIT, X32_BIT | 1, u32::MAX] {
                assert_eq!(ask(number, machine.audit()), errno(libc::ENOSYS), "{machine:?} {number:#x}");
            }
            for number in 0..=511 {
                assert_eq!(ask(X32_BIT | number, machine.audit()), errno(libc::ENOSYS));
                assert_eq!(ask(number, I386), KILL_PROCESS);
                assert_eq!(ask(number, 0x4000_0028), KILL_PROCESS, "32-bit Arm");
            }
        }
    }
}

#[test]
fn search_finds_what_the_rules_say_for_every_number() {
    for machine in MACHINES {
        for class in Class::ALL {
            let program = assemble(machine, class, None);
            for (number, name) in machine.calls() {
                let call = Call { number, machine: machine.audit(), arguments: [0; 6] };
                if let Decision::Always(answer) = decide(class, name, None) {
                    assert_eq!(run(&program, &call), answer.code(), "{machine:?} {class:?} {name}");
                }
            }
        }
    }
}

/// An independent reading of conditions, to compare the assembled blocks with.
fn judge(decision: &Decision, arguments: &[u64; 6]) -> u32 {
    let holds = |test: &Test| {
        let value = arguments[test.argument as usize] as u32;
        let within = |ranges: &[(u32, u32)]| ranges.iter().any(|(low, high)| (*low..=*high).contains(&value));
        match test.is {
            Is::In(ranges) => within(ranges),
            Is::NotIn(ranges) => !within(ranges),
            Is::AnyBit(mask) => value & mask != 0,
            Is::NoBit(mask) => value & mask == 0,
        }
    };
    match decision {
        Decision::Always(answer) => answer.code(),
        Decision::Judged(conditions) => conditions
            .iter()
            .map(|condition| {
                let case = condition.cases.iter().find(|case| case.tests.iter().all(holds));
                case.map_or(condition.otherwise, |case| case.answer).code()
            })
            .find(|code| *code != ALLOW)
            .unwrap_or(ALLOW),
    }
}

#[test]
fn blocks_decide_as_the_conditions_read_at_every_edge() {
    for machine in MACHINES {
        for class in Class::ALL {
            let program = assemble(machine, class, None);
            for (number, name) in machine.calls() {
                let decision = decide(class, name, None);
                let Decision::Judged(conditions) = &decision else { continue };
                let mut edges = BTreeSet::from([0, 1, u32::MAX]);
                for test in conditions.iter().flat_map(|c| c.cases).flat_map(|case| case.tests) {
                    match test.is {
                        Is::In(ranges) | Is::NotIn(ranges) => {
                            for (low, high) in ranges {
                                edges.extend([low.wrapping_sub(1), *low, *high, high.wrapping_add(1)]);
                            }
                        }
                        Is::AnyBit(mask) | Is::NoBit(mask) => {
                            edges.extend([mask, !mask, mask & mask.wrapping_neg()]);
                        }
                    }
                }
                for first in &edges {
                    for second in &edges {
                        for garbage in [0, 0xdead_beef_0000_0000] {
                            let (first, second) = (u64::from(*first) | garbage, u64::from(*second) | garbage);
                            for arguments in [
                                [first, second, second, second, second, 0],
                                [second, first, second, first, first, 0],
                            ] {
                                assert_eq!(
                                    run(&program, &Call { number, machine: machine.audit(), arguments }),
                                    judge(&decision, &arguments),
                                    "{machine:?} {class:?} {name}{arguments:x?}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn arguments_are_compared_by_their_low_half_alone() {
    let eperm = EPERM.code();
    for high in [0_u64, 1 << 32, 0xffff_ffff_0000_0000] {
        for request in [0x5412, 0x541c, 0x541d, 0x5423, 0x8901, 0x8902] {
            check(&Class::ALL, "ioctl", &[0, request | high], eperm);
        }
        check(&Class::ALL, "ioctl", &[0, 0x5401 | high], ALLOW);
        for flag in
            [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x80]
        {
            check(&Class::ALL, "clone", &[flag | 17 | high], eperm);
        }
        // As pthread_create and posix_spawn ask.
        check(&Class::ALL, "clone", &[0x003d_0f00 | high], ALLOW);
        check(&Class::ALL, "clone", &[0x4100 | 17 | high], ALLOW);
        check(&WRITING, "chmod", &[0, 0o4755 | high], eperm);
        check(&WRITING, "chmod", &[0, 0o755 | high], ALLOW);
    }
}

#[test]
fn no_call_that_takes_a_mode_sets_special_bits_or_makes_a_device() {
    let eperm = EPERM.code();
    for bit in [0o4000, 0o2000, 0o1000] {
        for (name, place) in [
            ("chmod", 1),
            ("fchmod", 1),
            ("fchmodat", 2),
            ("fchmodat2", 2),
            ("mkdir", 1),
            ("mkdirat", 2),
            ("mknod", 1),
            ("mknodat", 2),
            ("creat", 1),
        ] {
            let mut arguments = [0; 3];
            arguments[place] = 0o644 | bit;
            check(&Class::ALL, name, &arguments, eperm);
            arguments[place] = 0o644;
            check(&WRITING, name, &arguments, ALLOW);
        }
        for creates in [0o100, 0o20_200_000] {
            check(&Class::ALL, "open", &[0, creates | 1, bit], eperm);
            check(&Class::ALL, "openat", &[0, 0, creates | 1, bit], eperm);
        }
        // Without O_CREAT the mode is whatever was in the register.
        check(&Class::ALL, "openat", &[0, 0, 0o200_000, bit], ALLOW);
    }
    for (kind, wanted) in
        [(0o020_000, eperm), (0o060_000, eperm), (0o010_000, ALLOW), (0o140_000, ALLOW), (0o100_000, ALLOW)]
    {
        check(&Class::ALL, "mknod", &[0, kind | 0o600], wanted);
        check(&Class::ALL, "mknodat", &[0, 0, kind | 0o600], wanted);
    }
    check(&Class::ALL, "renameat2", &[0, 0, 0, 0, 4], eperm);
    check(&Class::ALL, "renameat2", &[0, 0, 0, 0, 3], ALLOW);
    check(&Class::ALL, "openat2", &[], errno(libc::ENOSYS));
}

#[test]
fn nothing_is_executed_from_memory_or_from_a_descriptor() {
    let eperm = EPERM.code();
    for (flags, wanted) in [(0, eperm), (1, eperm), (3, eperm), (0x10, eperm), (0x18, eperm), (9, ALLOW)] {
        check(&Class::ALL, "memfd_create", &[0, flags], wanted);
    }
    check(&Class::ALL, "execveat", &[3, 0, 0, 0, 0x1000], eperm);
    check(&Class::ALL, "execveat", &[3, 0, 0, 0, 0x1100], eperm);
    check(&Class::ALL, "execveat", &[3, 0, 0, 0, 0x100], ALLOW);
    for (persona, wanted) in
        [(0, ALLOW), (0xffff_ffff, ALLOW), (8, eperm), (0x0040_0000, eperm), (0x0004_0000, eperm)]
    {
        check(&Class::ALL, "personality", &[persona], wanted);
    }
}

#[test]
fn only_local_sockets_are_made() {
    let refused = errno(libc::EAFNOSUPPORT);
    for family in (0..64).chain([255, 0xffff_ffff]) {
        let wanted = if family == 1 { ALLOW } else { refused };
        check(&NAMESPACED, "socket", &[family, 1], wanted);
        check(&Class::ALL, "socketpair", &[family, 1], wanted);
        check(&LANDLOCK, "socket", &[family, 1], refused);
    }
    for (kind, wanted) in [(1, ALLOW), (5, ALLOW), (2, EPERM.code()), (3, EPERM.code())] {
        for flags in [0, 0x800, 0x8_0000, 0x8_0800] {
            check(&LANDLOCK, "socketpair", &[1, kind | flags], wanted);
            check(&NAMESPACED, "socketpair", &[1, kind | flags], ALLOW);
        }
    }
    check(&Class::ALL, "setsockopt", &[3, 1, 26], EPERM.code());
    check(&Class::ALL, "setsockopt", &[3, 1, 50], EPERM.code());
    check(&Class::ALL, "setsockopt", &[3, 1, 7], ALLOW);
}

#[test]
fn a_permit_that_does_not_write_changes_no_attribute() {
    for name in ["chmod", "fchmod", "fchownat", "utimensat", "setxattr", "removexattr", "flock"] {
        check(&READ_ONLY, name, &[], EPERM.code());
        check(&WRITING, name, &[], ALLOW);
    }
    for request in [0x4008_6602, 0x4004_6602, 0x401c_5820, 0x4080_6685, 0x800c_6613] {
        check(&READ_ONLY, "ioctl", &[3, request], EPERM.code());
        check(&WRITING, "ioctl", &[3, request], ALLOW);
    }
}

#[test]
fn without_namespaces_no_neighbour_is_reached() {
    for name in ["kill", "tgkill", "pidfd_send_signal", "rt_sigqueueinfo"] {
        check(&[Class::LandlockLevel(Signals::Unscoped)], name, &[1, 9], EPERM.code());
        check(&[Class::LandlockLevel(Signals::Scoped), Class::Command], name, &[1, 9], ALLOW);
    }
    for name in ["prlimit64", "sched_setaffinity", "sched_setscheduler"] {
        check(&LANDLOCK, name, &[1], EPERM.code());
        check(&LANDLOCK, name, &[0], ALLOW);
    }
    check(&LANDLOCK, "setpriority", &[2, 0, 19], EPERM.code());
    check(&LANDLOCK, "setpriority", &[0, 77, 19], EPERM.code());
    check(&LANDLOCK, "setpriority", &[0, 0, 19], ALLOW);
    check(&LANDLOCK, "shmget", &[], EPERM.code());
    check(&NAMESPACED, "shmget", &[], ALLOW);
}

#[test]
fn self_control_is_narrowed_not_widened() {
    let eperm = EPERM.code();
    for (option, value, wanted) in [
        (4, 0, ALLOW),
        (4, 1, eperm),
        (35, 8, eperm),
        (62, 1, eperm),
        (0x5961_6d61, 1, eperm),
        (22, 2, ALLOW),
        (38, 1, ALLOW),
        (15, 0, ALLOW),
        (0x5356_4d41, 0, ALLOW),
        (79, 0, errno(libc::EINVAL)),
        (0, 0, errno(libc::EINVAL)),
    ] {
        check(&Class::ALL, "prctl", &[option, value], wanted);
    }
    for (command, wanted) in [
        (2, ALLOW),
        (4, ALLOW),
        (6, ALLOW),
        (8, eperm),
        (10, eperm),
        (15, eperm),
        (1024, eperm),
        (1026, eperm),
        (1030, ALLOW),
        (1031, eperm),
        (1033, ALLOW),
        (99, errno(libc::EINVAL)),
    ] {
        check(&Class::ALL, "fcntl", &[1, command], wanted);
    }
    check(&Class::ALL, "seccomp", &[1, 8], eperm);
    check(&Class::ALL, "seccomp", &[1, 1], ALLOW);
}

#[test]
fn each_group_is_missed_when_it_is_gone() {
    for class in Class::ALL {
        let whole = assemble(Architecture::X86_64, class, None);
        for group in GROUPS {
            let without = assemble(Architecture::X86_64, class, Some(group.name));
            let same = whole.len() == without.len()
                && whole
                    .iter()
                    .zip(&without)
                    .all(|(a, b)| (a.code, a.jt, a.jf, a.k) == (b.code, b.jt, b.jf, b.k));
            assert_eq!(same, !(group.applies)(class), "`{}` in {class:?}", group.name);
        }
    }
    let open = assemble(Architecture::X86_64, Class::Command, Some("namespaces"));
    let number = number(Architecture::X86_64, "unshare");
    let call = Call { number, machine: Architecture::X86_64.audit(), arguments: [0; 6] };
    assert_eq!(run(&open, &call), ALLOW);
}

#[test]
fn programs_stay_short_and_their_search_shallow() {
    for machine in MACHINES {
        for class in Class::ALL {
            let program = assemble(machine, class, None);
            assert!(program.len() <= 512, "{machine:?} {class:?}: {} instructions", program.len());
        }
    }
}

/// The whole table, as a reader wants it: one line per number, one column per class; two answers where the
/// arguments count, for all zero and all one.
fn golden() -> String {
    let mut text = String::from(
        "# machine number name: command, read-only; landlock level: command, read-only; the same without scopes\n",
    );
    for (abi, machine, base, audit) in [
        ("x86_64", Architecture::X86_64, 0, Architecture::X86_64.audit()),
        ("x32", Architecture::X86_64, X32_BIT, Architecture::X86_64.audit()),
        ("i386", Architecture::X86_64, 0, I386),
        ("aarch64", Architecture::Aarch64, 0, Architecture::Aarch64.audit()),
    ] {
        let names: std::collections::BTreeMap<_, _> = machine.calls().collect();
        let programs = Class::ALL.map(|class| assemble(machine, class, None));
        let mut lines: Vec<(u32, u32, String)> = Vec::new();
        for number in 0..=511 {
            let answers: Vec<String> = programs
                .iter()
                .map(|program| {
                    let [zeros, ones] = [0, u64::MAX].map(|argument| {
                        let call = Call { number: base | number, machine: audit, arguments: [argument; 6] };
                        match run(program, &call) {
                            KILL_PROCESS => "kill",
                            ALLOW => "allow",
                            other => name(Answer::Errno((other & 0xffff).cast_signed())),
                        }
                    });
                    if zeros == ones { zeros.to_owned() } else { format!("{zeros}|{ones}") }
                })
                .collect();
            let same = answers.iter().all(|answer| *answer == answers[0]);
            let answers = if same { answers[0].clone() } else { answers.join(" ") };
            let call = if abi == "i386" || abi == "x32" { "*" } else { names.get(&number).unwrap_or(&"-") };
            let refused = match decide(Class::Command, call, None) {
                Decision::Judged(conditions) if call != "*" => conditions
                    .iter()
                    .map(|condition| format!("; refused: {}", condition.refused))
                    .collect::<String>(),
                _ => String::new(),
            };
            let line = format!("{call}: {answers}{refused}");
            match lines.last_mut() {
                Some((_, last, known)) if *known == line => *last = number,
                _ => lines.push((number, number, line)),
            }
        }
        for (first, last, line) in lines {
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            text.push_str(&format!("{abi} {range} {line}\n"));
        }
    }
    text
}

/// Describes every rule in Markdown.
fn describe() -> String {
    let mut text = String::from(
        "# System calls\n\nWhat no group refuses and the last section names is allowed; what is not named is `ENOSYS`. A test writes this \
         file.\n\n",
    );
    let names = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for group in GROUPS {
        let scope: Vec<_> = Class::ALL.into_iter().filter(|class| (group.applies)(*class)).collect();
        let scope = if scope.len() == Class::ALL.len() {
            String::new()
        } else if scope.contains(&Class::CommandReadOnly) {
            " (permits that do not write)".into()
        } else if scope.contains(&Class::LandlockLevel(Signals::Scoped)) {
            " (level `landlock`)".into()
        } else {
            " (level `landlock` before Landlock's ABI 6)".into()
        };
        // Writing to a `String` does not fail.
        let (first, rest) = group.why.split_at(1);
        let _ = write!(text, "## {}{scope}\n{}{rest}.\n\n", group.name, first.to_uppercase());
        for (rule, calls) in group.rules {
            let _ = match rule {
                Rule::Always(answer) => writeln!(text, "- {}: {}", name(*answer), names(calls)),
                Rule::Judged(conditions) => {
                    writeln!(text, "- {}: refused: {}", names(calls), conditions.refused)
                }
            };
        }
        text.push('\n');
    }
    let _ = writeln!(text, "## allowed\n{}", names(ALLOWED));
    for (who, needed) in [("the launcher", NEEDED_BY_THE_LAUNCHER), ("a cell", NEEDED_BY_A_CELL)] {
        let _ = writeln!(
            text,
            "\n## what {who} may do beside\nIts own filter, which all that it forks inherits, is that of a command \
             that writes but for these.\n",
        );
        for (rule, calls) in needed {
            let _ = match rule {
                Rule::Always(answer) => writeln!(text, "- {}: {}", name(*answer), names(calls)),
                Rule::Judged(conditions) => {
                    writeln!(text, "- {}: refused: {}", names(calls), conditions.refused)
                }
            };
        }
    }
    text
}

/// Returns an answer's name: `allow`, or the errno's.
fn name(answer: Answer) -> &'static str {
    match answer {
        Answer::Allow => "allow",
        Answer::Errno(libc::EPERM) => "EPERM",
        Answer::Errno(libc::ENOSYS) => "ENOSYS",
        Answer::Errno(libc::EINVAL) => "EINVAL",
        Answer::Errno(libc::EAFNOSUPPORT) => "EAFNOSUPPORT",
        Answer::Errno(_) => "another errno",
    }
}

/// Compares a file beside this one with what was made; `UPDATE_GOLDEN=1` writes it anew.
#[track_caller]
fn check_file(name: &str, made: &str) {
    let path = format!("{}/src/seccomp/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    for (line, (stored, made)) in stored.lines().zip(made.lines()).enumerate() {
        assert_eq!(stored, made, "{name}, line {}; UPDATE_GOLDEN=1 writes it anew", line + 1);
    }
    assert_eq!(stored.len(), made.len(), "{name}");
}

#[test]
fn answers_to_every_number_are_those_of_the_golden_file() {
    check_file("golden.txt", &golden());
}

#[test]
fn the_list_names_every_group_and_call() {
    let text = describe();
    for group in GROUPS {
        assert!(text.contains(&format!("## {}", group.name)), "{}", group.name);
        for (_, names) in group.rules {
            assert!(names.iter().all(|name| text.contains(&format!("`{name}`"))));
        }
    }
    check_file("list.md", &text);
}

#[test]
fn a_group_can_be_left_out_of_the_native_program() {
    let without = |missing| assemble(Architecture::NATIVE, Class::Command, missing).len();
    assert!(without(None) > without(Some("descriptors")));
}

/// What the kernel does with two filters: the stricter action counts.
fn stricter(one: u32, other: u32) -> u32 {
    let rank = |answer: u32| match answer {
        KILL_PROCESS => 0,
        ALLOW => 2,
        _ => 1,
    };
    if rank(other) <= rank(one) { other } else { one }
}

#[test]
fn the_parts_of_a_filter_refuse_what_the_whole_refuses() {
    let values = [
        0,
        1,
        2,
        8,
        9,
        17,
        0x80,
        0x1000,
        0x5412,
        0x541c,
        0o4755,
        0o2000,
        0o1777,
        0x0002_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
        0x2800_0011,
        0xffff_ffff,
        0x4008_6602,
        0o100_644,
        0o020_666,
        0x3d_0f00,
    ];
    for machine in MACHINES {
        let cell = assemble_part(machine, Part::Cell, None);
        for (class, part) in
            [(Class::Command, Part::Closing), (Class::CommandReadOnly, Part::ClosingReadOnly)]
        {
            let (whole, rest) = (assemble(machine, class, None), assemble_part(machine, part, None));
            for number in (0..=600).chain([X32_BIT, X32_BIT | 56, u32::MAX]) {
                for audit in [machine.audit(), I386] {
                    for value in values {
                        for index in 0..6 {
                            let mut arguments = [0; 6];
                            arguments[index] = value;
                            let call = Call { number, machine: audit, arguments };
                            let parts = stricter(run(&cell, &call), run(&rest, &call));
                            assert_eq!(parts, run(&whole, &call), "{class:?} {number} {index}: {value:#x}");
                        }
                    }
                }
            }
        }
        assert!(assemble_part(machine, Part::Closing, None).len() < 60);
    }
}

/// A call and its answers to all zero and all one, for each number of a machine.
fn answers(machine: Architecture, program: &[sock_filter]) -> Vec<(u32, &'static str, u32, u32)> {
    let ask =
        |number, argument| run(program, &Call { number, machine: machine.audit(), arguments: [argument; 6] });
    machine.calls().map(|(number, name)| (number, name, ask(number, 0), ask(number, u64::MAX))).collect()
}

#[test]
fn the_launchers_filter_takes_nothing_from_a_command_and_opens_only_what_a_cell_is_made_by() {
    let open = ["clone", "unshare", "setns", "prctl", "mount", "umount2", "pivot_root", "sethostname"];
    let open_mounts = ["open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount"];
    for machine in MACHINES {
        let launcher = answers(machine, &assemble_part(machine, Part::Launcher, None));
        let command = answers(machine, &assemble(machine, Class::Command, None));
        let cell = answers(machine, &assemble_part(machine, Part::Cell, None));
        for ((launcher, command), cell) in launcher.iter().zip(&command).zip(&cell) {
            let name = launcher.1;
            if open.contains(&name) || open_mounts.contains(&name) {
                // What a cell or a command may do, its launcher does not refuse.
                for narrower in [command, cell] {
                    assert!(narrower.2 != ALLOW || launcher.2 == ALLOW, "{machine:?} {name}");
                    assert!(narrower.3 != ALLOW || launcher.3 == ALLOW, "{machine:?} {name}");
                }
            } else {
                assert_eq!(launcher, command, "{machine:?}");
            }
        }
    }
}

#[test]
fn the_launcher_makes_the_namespaces_of_cells_and_no_others() {
    let launcher = |name: &str, arguments: [u64; 6], wanted: u32| {
        for machine in MACHINES {
            let Some((number, _)) = machine.calls().find(|(_, known)| *known == name) else { continue };
            let call = Call { number, machine: machine.audit(), arguments };
            let answer = run(&assemble_part(machine, Part::Launcher, None), &call);
            assert_eq!(answer, wanted, "{machine:?} {name}{arguments:x?}: {answer:#x}");
        }
    };
    let first = |value: u64| [value, 0, 0, 0, 0, 0];
    let eperm = EPERM.code();
    // CLONE_NEW{USER,NS,PID,NET,IPC,UTS}, CLONE_PIDFD, SIGCHLD.
    launcher("clone", first(0x7c02_1011), ALLOW);
    for refused in [0x0200_0000, 0x8000, 0x80] {
        launcher("clone", first(refused | 17), eperm);
    }
    for (flags, wanted) in [
        (0x0002_0000, ALLOW),
        (0x0200_0000, ALLOW),
        (0x1000_0000, eperm),
        (0x4000_0000, eperm),
        (0x80, eperm),
    ] {
        launcher("unshare", first(flags), wanted);
    }
    for (option, wanted) in
        [(4, ALLOW), (24, ALLOW), (38, ALLOW), (35, eperm), (62, eperm), (0x5961_6d61, eperm)]
    {
        launcher("prctl", [option, 1, 0, 0, 0, 0], wanted);
    }
    for name in [
        "ptrace",
        "process_vm_writev",
        "bpf",
        "kexec_load",
        "init_module",
        "keyctl",
        "io_uring_setup",
        "chroot",
    ] {
        launcher(name, [0; 6], eperm);
    }
    launcher("socket", first(16), errno(libc::EAFNOSUPPORT));
    launcher("clone3", [0; 6], errno(libc::ENOSYS));
    // Commands are executed under it.
    launcher("execve", [0; 6], ALLOW);
}
