//! Turns rules into a classic BPF program. See seccomp(2), and `Documentation/networking/filter.rst` of the
//! kernel.
//!
//! The program is a binary search over ranges of numbers that are answered alike; calls whose arguments count
//! have a block behind the search. The kernel works out once, at installation, which numbers are always
//! allowed, and asks the program about those no more (Linux 5.11): what the search costs is mostly that.

use libc::sock_filter;

use super::allowed::ALLOWED;
use super::groups::{GROUPS, NEEDED_BY_A_CELL, NEEDED_BY_THE_LAUNCHER};
use super::rules::{Answer, Case, Conditions, ENOSYS, Is, Rule, Test};
use super::{Class, KILL_PROCESS, Part, table};

/// A machine's system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// The machine that this was built for.
    pub(super) const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// Returns what `seccomp_data.arch` holds: `AUDIT_ARCH_…`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Visits the known calls in the order of their numbers.
    pub(super) fn calls(self) -> impl Iterator<Item = (u32, &'static str)> {
        let runs = match self {
            Self::X86_64 => table::X86_64,
            Self::Aarch64 => table::AARCH64,
        };
        runs.iter().flat_map(|(first, names)| (*first..).zip(names.iter().copied()))
    }
}

/// Offset of the number in `seccomp_data`.
const NUMBER: u32 = 0;
/// Offset of the architecture.
const ARCHITECTURE: u32 = 4;
/// Offset of the first argument's low half: both machines are little-endian.
const ARGUMENTS: u32 = 16;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const GO: u32 = libc::BPF_JMP | libc::BPF_JA;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;

/// What a class answers to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Always(Answer),
    /// Conditions one after another: a refusal stands, what is allowed goes on to the next.
    Judged(Vec<&'static Conditions>),
}

/// Returns what `class` answers to the call of this name when the group named `missing` is gone.
pub(super) fn decide(class: Class, name: &str, missing: Option<&str>) -> Decision {
    let mut known = ALLOWED.contains(&name);
    let mut conditions = Vec::new();
    for group in GROUPS {
        for (rule, names) in group.rules {
            if !names.contains(&name) {
                continue;
            }
            known = true;
            if !(group.applies)(class) || missing == Some(group.name) {
                continue;
            }
            match rule {
                Rule::Always(Answer::Allow) => {}
                Rule::Always(refusal) => return Decision::Always(*refusal),
                Rule::Judged(judged) => conditions.push(*judged),
            }
        }
    }
    match (known, conditions.is_empty()) {
        (false, _) => Decision::Always(ENOSYS),
        (true, true) => Decision::Always(Answer::Allow),
        (true, false) => Decision::Judged(conditions),
    }
}

/// Returns what `part` answers to the call of this name when the group named `missing` is gone.
pub(super) fn decide_part(part: Part, name: &str, missing: Option<&str>) -> Decision {
    let whole = |class| decide(class, name, missing);
    let beside =
        |needed: &'static [(Rule, &[&str])]| match needed.iter().find(|(_, names)| names.contains(&name)) {
            // The rules beside the group's are gone with it.
            _ if missing.is_some() && whole(Class::Command) == Decision::Always(Answer::Allow) => {
                whole(Class::Command)
            }
            Some((Rule::Always(answer), _)) => Decision::Always(*answer),
            Some((Rule::Judged(conditions), _)) => Decision::Judged(vec![*conditions]),
            None => whole(Class::Command),
        };
    match part {
        Part::Launcher => beside(NEEDED_BY_THE_LAUNCHER),
        Part::Cell => beside(NEEDED_BY_A_CELL),
        Part::Closing if NEEDED_BY_A_CELL.iter().any(|(_, names)| names.contains(&name)) => {
            whole(Class::Command)
        }
        Part::Closing => Decision::Always(Answer::Allow),
        // What the classes answer alike, the part of the cell has answered already.
        Part::ClosingReadOnly => {
            match (decide_part(Part::Closing, name, missing), whole(Class::CommandReadOnly)) {
                (Decision::Always(Answer::Allow), read_only) if read_only != whole(Class::Command) => {
                    read_only
                }
                (closing, _) => closing,
            }
        }
    }
}

/// Assembles the program of a part; `missing` names a group that is left out, which is for tests.
pub(super) fn assemble_part(machine: Architecture, part: Part, missing: Option<&str>) -> Vec<sock_filter> {
    let decide = |name: &str| decide_part(part, name, missing);
    match part {
        Part::Launcher | Part::Cell => assemble_by(machine, ENOSYS, &decide),
        // Behind the part of the cell, which answers other machines. The kernel tries a new filter on every call that
        // the ones before allow, so that each instruction on the way counts some hundred times.
        Part::Closing | Part::ClosingReadOnly => {
            assemble_behind(&[instruction(LOAD, NUMBER)], machine, Answer::Allow, &decide)
        }
    }
}

/// Assembles the program for a class; `missing` names a group that is left out, which is for tests.
pub(super) fn assemble(machine: Architecture, class: Class, missing: Option<&str>) -> Vec<sock_filter> {
    assemble_by(machine, ENOSYS, &|name| decide(class, name, missing))
}

fn assemble_by(
    machine: Architecture,
    unknown: Answer,
    decide: &dyn Fn(&str) -> Decision,
) -> Vec<sock_filter> {
    let head = [
        instruction(LOAD, ARCHITECTURE),
        branch(IF_EQUAL, machine.audit(), 1, 0),
        instruction(RETURN, KILL_PROCESS),
        instruction(LOAD, NUMBER),
    ];
    assemble_behind(&head, machine, unknown, decide)
}

/// Assembles a program behind a head that leaves the number of the call in the accumulator.
fn assemble_behind(
    head: &[sock_filter],
    machine: Architecture,
    unknown: Answer,
    decide: &dyn Fn(&str) -> Decision,
) -> Vec<sock_filter> {
    let mut ranges: Vec<(u32, Decision)> = Vec::new();
    let mut answer_from = |first: u32, decision: Decision| {
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((first, decision));
        }
    };
    let mut next = 0;
    for (number, name) in machine.calls() {
        if number > next {
            answer_from(next, Decision::Always(unknown));
        }
        answer_from(number, decide(name));
        next = number + 1;
    }
    // To the end of all numbers, so those of the x32 ABI too, which have bit 30 and the same architecture.
    answer_from(next, Decision::Always(unknown));

    let mut blocks: Vec<&[&'static Conditions]> = Vec::new();
    let search = search(&ranges, &mut blocks);

    let mut program = head.to_vec();
    let bodies: Vec<Vec<sock_filter>> = blocks.iter().map(|conditions| block(conditions)).collect();
    let mut starts = Vec::new();
    let mut start = program.len() + search.len();
    for body in &bodies {
        starts.push(start);
        start += body.len();
    }
    for step in search {
        program.push(match step {
            SearchStep::Instruction(instruction) => instruction,
            SearchStep::Block(index) => {
                let target = starts.get(index).copied().unwrap_or_default();
                instruction(GO, distance(target - program.len() - 1))
            }
        });
    }
    program.extend(bodies.into_iter().flatten());
    program
}

/// Returns where to part ranges so that about as many calls lie on either side: each is as likely as another.
fn middle(ranges: &[(u32, Decision)]) -> usize {
    /// Beyond all numbers of calls.
    const END: u32 = 512;
    let Some((first, _)) = ranges.first() else { return 0 };
    let last = ranges.last().map_or(END, |(last, _)| (*last).clamp(*first, END));
    // Half way between the first number and the end of what is looked at; the last range of all has none.
    let half = first + (if last == *first { 0 } else { last - first }) / 2;
    let above = ranges.iter().position(|(start, _)| *start > half).unwrap_or(ranges.len() / 2);
    if ranges.len() < 2 { 0 } else { above.clamp(1, ranges.len() - 1) }
}

enum SearchStep {
    Instruction(sock_filter),
    /// Goes to the block with this index.
    Block(usize),
}

/// Searches ranges, of which the first begins at 0, for the number in the accumulator.
fn search<'a>(ranges: &'a [(u32, Decision)], blocks: &mut Vec<&'a [&'static Conditions]>) -> Vec<SearchStep> {
    let (low, high) = ranges.split_at(middle(ranges));
    let (Some(_), Some((middle, _))) = (low.first(), high.first()) else {
        return high.first().map(|(_, decision)| leaf(decision, blocks)).into_iter().collect();
    };
    let low = search(low, blocks);
    let mut steps = Vec::new();
    if let Ok(skip) = u8::try_from(low.len()) {
        steps.push(SearchStep::Instruction(branch(IF_AT_LEAST, *middle, skip, 0)));
    } else {
        steps.push(SearchStep::Instruction(branch(IF_AT_LEAST, *middle, 0, 1)));
        steps.push(SearchStep::Instruction(instruction(GO, distance(low.len()))));
    }
    steps.extend(low);
    steps.extend(search(high, blocks));
    steps
}

fn leaf<'a>(decision: &'a Decision, blocks: &mut Vec<&'a [&'static Conditions]>) -> SearchStep {
    match decision {
        Decision::Always(answer) => SearchStep::Instruction(answer.instruction()),
        Decision::Judged(conditions) => {
            let conditions = conditions.as_slice();
            SearchStep::Block(blocks.iter().position(|known| *known == conditions).unwrap_or_else(|| {
                blocks.push(conditions);
                blocks.len() - 1
            }))
        }
    }
}

/// Asks each condition in turn and allows what none refuses.
fn block(conditions: &[&'static Conditions]) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let is_last = index + 1 == conditions.len();
        // From the last case to the first, so that each knows how far its end is.
        let mut part = match condition.otherwise {
            Answer::Allow if !is_last => Vec::new(),
            answer => vec![answer.instruction()],
        };
        for case in condition.cases.iter().rev() {
            let end = match case.answer {
                Answer::Allow if !is_last => instruction(GO, distance(part.len())),
                answer => answer.instruction(),
            };
            let mut next = case_code(case, end);
            next.append(&mut part);
            part = next;
        }
        code.append(&mut part);
    }
    code
}

/// Ends with `end` when every test holds, otherwise goes on behind it.
fn case_code(case: &Case, end: sock_filter) -> Vec<sock_filter> {
    let mut code = vec![end];
    for test in case.tests.iter().rev() {
        let mut next = test_code(test, code.len());
        next.append(&mut code);
        code = next;
    }
    code
}

/// Goes on when the test holds, and otherwise skips as many instructions as `otherwise` behind it.
fn test_code(test: &Test, otherwise: usize) -> Vec<sock_filter> {
    let mut code = vec![instruction(LOAD, ARGUMENTS + 8 * test.argument)];
    match test.is {
        Is::AnyBit(mask) => code.push(branch(IF_ANY_BIT, mask, 0, short(otherwise))),
        Is::NoBit(mask) => code.push(branch(IF_ANY_BIT, mask, short(otherwise), 0)),
        Is::In(ranges) => code.extend(ranges_code(ranges, 0, otherwise)),
        Is::NotIn(ranges) => code.extend(ranges_code(ranges, otherwise, 0)),
    }
    code
}

/// Skips `inside` instructions when the accumulator lies in a range, `outside` when in none.
fn ranges_code(ranges: &[(u32, u32)], inside: usize, outside: usize) -> Vec<sock_filter> {
    let mut code: Vec<sock_filter> = Vec::new();
    for (first, last) in ranges.iter().rev() {
        // Behind this range: those already made, which end in the right place.
        let rest = code.len();
        let missed = if rest == 0 { outside } else { 0 };
        let mut next = if first == last {
            vec![branch(IF_EQUAL, *first, short(rest + inside), short(missed))]
        } else {
            vec![
                branch(IF_AT_LEAST, *first, 0, short(missed + 1)),
                branch(IF_ABOVE, *last, short(missed), short(rest + inside)),
            ]
        };
        next.append(&mut code);
        code = next;
    }
    code
}

impl Answer {
    fn instruction(self) -> sock_filter {
        instruction(RETURN, self.code())
    }

    /// Returns what the program returns for it.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
        }
    }
}

fn instruction(code: u32, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Every code is below 256: constants of this file.
    sock_filter { code: code as u16, jt, jf, k }
}

/// A conditional jump reaches 255 instructions; blocks are far shorter, as a test of every class shows.
fn short(distance: usize) -> u8 {
    u8::try_from(distance).expect("a block of conditions is shorter than 256 instructions")
}

fn distance(instructions: usize) -> u32 {
    u32::try_from(instructions).expect("a program is shorter than 4096 instructions")
}
