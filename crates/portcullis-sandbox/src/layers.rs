//! Which layers of the confinement are in force: all of them.
//!
//! With the feature `fault-injection`, which nothing but tests turns on, a test takes one away, to see that something
//! is missed when it is gone. It is asked at the kernel's door, where the call is then not made, so that nothing above
//! knows of it. Without the feature there is nothing to ask: [`is_gone`] is `false`, and no name of a layer is built in.

/// Whether a test has taken this layer away.
#[cfg(not(feature = "fault-injection"))]
pub(crate) const fn is_gone(_layer: &str) -> bool {
    false
}

#[cfg(feature = "fault-injection")]
pub(crate) use crate::faults::is_gone;

/// Returns the flags without those whose layer is gone.
pub(crate) fn all_but_gone<T>(flags: T, layers: &[(T, &str)]) -> T
where
    T: Copy + std::ops::BitAnd<Output = T> + std::ops::Not<Output = T>,
{
    layers.iter().filter(|(_, layer)| is_gone(layer)).fold(flags, |left, (flag, _)| left & !*flag)
}
