//! The digest that tells one submission from another under the same id.

use portcullis_core::{Fingerprint, Submission};
use sha2::{Digest, Sha256};

/// Digests a submission; every member counts but where it came from: sent again, it may come another way.
///
/// Each field goes in with its length before it, and an optional one with a mark of its presence, so that
/// two submissions never share an encoding. The encoding is part of stored records: a change of it makes
/// a repeated submission look like another one.
pub(crate) fn fingerprint(submission: &Submission) -> Fingerprint {
    // Taken apart whole, so that a new member cannot be forgotten here.
    let Submission { command, timeout, stdin, env, working_directory, provenance: _ } = submission;
    let mut digest = Sha256::new();
    let mut field = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    field(b"portcullis submission 1");
    field(command.as_bytes());
    match timeout {
        Some(timeout) => field(&timeout.as_nanos().to_be_bytes()),
        None => field(b""),
    }
    for text in [stdin, working_directory] {
        match text {
            Some(text) => {
                field(b"some");
                field(text.as_bytes());
            }
            None => field(b""),
        }
    }
    field(&(env.len() as u64).to_be_bytes());
    for (name, value) in env {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    Fingerprint(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_member_of_a_submission_counts() {
        let plain = Submission::of("echo a");
        let with = |change: fn(&mut Submission)| {
            let mut submission = plain.clone();
            change(&mut submission);
            submission
        };
        let different = [
            plain.clone(),
            with(|s| s.command = "echo b".into()),
            with(|s| s.timeout = Some(Duration::ZERO)),
            with(|s| s.timeout = Some(Duration::from_secs(1))),
            with(|s| s.stdin = Some(String::new())),
            with(|s| s.stdin = Some("x".into())),
            with(|s| s.working_directory = Some(String::new())),
            with(|s| s.working_directory = Some("x".into())),
            with(|s| s.env = BTreeMap::from([("A".into(), "BC".into())])),
            with(|s| s.env = BTreeMap::from([("AB".into(), "C".into())])),
            with(|s| s.env = BTreeMap::from([("A".into(), "B".into()), ("C".into(), String::new())])),
        ];
        let digests: HashSet<_> = different.iter().map(fingerprint).collect();
        assert_eq!(digests.len(), different.len());
    }

    #[test]
    fn equal_submissions_have_equal_fingerprints_for_ever() {
        let digest = fingerprint(&Submission::of("echo a"));
        assert_eq!(digest, fingerprint(&Submission::of("echo a")));
        // Stored records hold it: this value must not change.
        let hex: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f0cfe20f4977c7944271400383e0647ae06bd946264e4ac67d44d8d3f957b372");
    }
}
