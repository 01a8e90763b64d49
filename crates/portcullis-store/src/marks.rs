//! What is kept of what is gone: a number for each removed record, so that who asks for it learns that it was there.

use portcullis_core::ExecutionId;

/// How many are kept, the newest: some 30 MB at most.
pub(crate) const MOST: usize = 1_000_000;

/// Returns the number for an owner's execution: FNV-1a of 64 bits over both.
///
/// Two may share one, once in 18 million million questions about a full table; and who looks for such a pair finds
/// one. Then somebody is told of an id of his own that it had been removed, while it never was: nothing rests on that.
pub(crate) fn mark(owner: &str, id: &ExecutionId) -> i64 {
    let bytes = owner.bytes().chain([0]).chain(id.as_str().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kept on disk, so it must not change.
    #[test]
    fn a_mark_is_the_same_for_ever() {
        let id = |text: &str| ExecutionId::parse(text).unwrap();
        // FNV-1a of `u-1`, a zero byte, and `a`; reckoned apart from this code.
        assert_eq!(mark("u-1", &id("a")), -4_782_988_423_808_040_283);
        assert_ne!(mark("u-1", &id("ab")), mark("u-1a", &id("b")));
    }
}
