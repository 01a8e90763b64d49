//! What a rule is: the answer to a call, or conditions on its arguments.

use super::Class;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel carries it out.
    Allow,
    /// It fails with this errno and does nothing.
    Errno(i32),
}

pub(super) const EPERM: Answer = Answer::Errno(libc::EPERM);
pub(super) const ENOSYS: Answer = Answer::Errno(libc::ENOSYS);
pub(super) const EINVAL: Answer = Answer::Errno(libc::EINVAL);
pub(super) const EAFNOSUPPORT: Answer = Answer::Errno(libc::EAFNOSUPPORT);

/// One condition on one argument, of which the low 32 bits are compared and no more. That is right for every
/// argument that a rule names: the kernel takes each as an `int`, `unsigned int`, `umode_t` or, in clone(2),
/// as the low half of a `long`, and ignores the high half. To compare all 64 bits would let `TIOCSTI | 1 << 32`
/// pass for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    /// Which argument, from 0.
    pub(super) argument: u32,
    pub(super) is: Is,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    /// It lies in one of these ranges, both ends included.
    In(&'static [(u32, u32)]),
    /// It lies in none of them.
    NotIn(&'static [(u32, u32)]),
    /// It has one of these bits.
    AnyBit(u32),
    /// It has none of these bits.
    NoBit(u32),
}

/// An answer for when every test holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) tests: &'static [Test],
    pub(super) answer: Answer,
}

/// Cases in order, the first that fits decides, and the answer when none does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) cases: &'static [Case],
    pub(super) otherwise: Answer,
    /// What is refused, for the documentation.
    pub(super) refused: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Always(Answer),
    Judged(&'static Conditions),
}

/// Calls that are refused for one reason; one layer that a test can take away.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and for the list that a test keeps"))]
    pub(super) why: &'static str,
    pub(super) applies: fn(Class) -> bool,
    pub(super) rules: &'static [(Rule, &'static [&'static str])],
}
