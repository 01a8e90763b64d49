//! What the end of an execution means to who ran it, where its exit code alone says too little.

use portcullis_api::ExecutionView;
use portcullis_core::{Reason, Status};

/// Returns one sentence about an end that is more than an exit code; `None` for what a shell would not mention.
pub(crate) fn remark(record: &ExecutionView) -> Option<String> {
    let what = match (record.status, record.reason?) {
        (Status::Completed, _) | (Status::Failed, Reason::Exit) if !record.truncated => return None,
        (Status::Completed, _) | (_, Reason::Exit) => "its output was cut at the limit".to_owned(),
        (_, Reason::Signal) => match record.signal {
            Some(signal) => format!("ended by signal {signal}"),
            None => "ended by a signal".into(),
        },
        (_, Reason::TimeLimit) => format!("timed out after {}", seconds(record.limits.wall_time_ms)),
        (_, Reason::CpuLimit) => format!("used up its CPU time of {}", seconds(record.limits.cpu_time_ms)),
        (_, Reason::MemoryLimit) => format!("used up its memory of {}", bytes(record.limits.memory_bytes)),
        (_, Reason::ProcessLimit) => format!("was refused more than {} processes", record.limits.processes),
        (_, Reason::OutputLimit) => format!("wrote more than {}", bytes(record.limits.output_bytes)),
        (_, Reason::FileSizeLimit) => format!("wrote a file above {}", bytes(record.limits.file_size_bytes)),
        (_, Reason::Cancelled) => "cancelled".into(),
        (_, Reason::Shutdown) => "ended because the service shut down".into(),
        (_, Reason::StartFailed) => "did not start".into(),
        (_, Reason::Interrupted) => "never started: the service ended before".into(),
        (_, Reason::ServiceDied) => {
            "lost: the service died while it ran, and what it had done is unknown".into()
        }
    };
    // Why nothing ran only the service can say; of the rest, its message says the same again.
    let more = record.reason == Some(Reason::StartFailed);
    Some(match record.message.as_deref().filter(|message| more && !message.is_empty()) {
        Some(message) => format!("{what}: {message}"),
        None => what,
    })
}

/// Writes milliseconds as seconds, without zeros that say nothing.
pub(crate) fn seconds(milliseconds: u64) -> String {
    let (whole, rest) = (milliseconds / 1000, milliseconds % 1000);
    if rest == 0 {
        return format!("{whole} s");
    }
    format!("{whole}.{} s", format!("{rest:03}").trim_end_matches('0'))
}

/// Writes bytes in the largest unit of 1024 that fits.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = "bytes";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Returns a record as the service would send it, with some members of one's own.
    pub(crate) fn record(members: serde_json::Value) -> ExecutionView {
        let mut record = json!({
            "executionId": "test-123", "status": "completed", "command": "true", "output": null, "exitCode": null,
            "startTime": "2025-03-25T16:17:12.000Z", "endTime": "2025-03-25T16:17:13.000Z", "reason": "exit",
            "stdout": null, "stderr": null, "signal": null, "progress": 100, "truncated": false,
            "outputBytes": 0, "outputOmittedBytes": 0, "usage": null, "confinement": null,
            "limits": {"wallTimeMs": 60000, "cpuTimeMs": 60000, "memoryBytes": 536_870_912, "processes": 64,
                "openFiles": 256, "fileSizeBytes": 67_108_864, "diskBytes": 268_435_456, "outputBytes": 8_388_608,
                "gracePeriodMs": 2000},
            "user": "local", "acceptedAt": "2025-03-25T16:17:12.000Z", "message": null, "rules": [],
            "programs": ["true"],
        });
        record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(record).unwrap()
    }

    #[track_caller]
    fn check(members: serde_json::Value, code: u8, said: Option<&str>) {
        let record = record(members);
        assert_eq!(record.shell_code(), code);
        assert_eq!(remark(&record).as_deref(), said);
    }

    #[test]
    fn the_commands_own_code_is_ours() {
        check(json!({"status": "completed", "exitCode": 0}), 0, None);
        check(json!({"status": "failed", "exitCode": 1}), 1, None);
        check(json!({"status": "failed", "exitCode": 255}), 255, None);
        check(json!({"status": "failed", "exitCode": 125}), 125, None);
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        check(json!({"status": "failed", "reason": "signal", "signal": 11}), 139, Some("ended by signal 11"));
    }

    #[test]
    fn what_we_ended_says_so() {
        check(
            json!({"status": "timeout", "reason": "time_limit", "signal": 15}),
            124,
            Some("timed out after 60 s"),
        );
        check(
            json!({"status": "cancelled", "reason": "cancelled", "message": "it was cancelled"}),
            130,
            Some("cancelled"),
        );
        check(
            json!({"status": "failed", "reason": "memory_limit"}),
            137,
            Some("used up its memory of 512 MiB"),
        );
        check(json!({"status": "failed", "reason": "output_limit"}), 137, Some("wrote more than 8 MiB"));
        check(json!({"status": "failed", "reason": "cpu_limit"}), 152, Some("used up its CPU time of 60 s"));
        check(
            json!({"status": "failed", "reason": "file_size_limit"}),
            153,
            Some("wrote a file above 64 MiB"),
        );
    }

    #[test]
    fn what_never_ran_or_is_unknown_is_125() {
        check(
            json!({"status": "failed", "reason": "start_failed", "message": "cannot run `jq`: it is missing"}),
            125,
            Some("did not start: cannot run `jq`: it is missing"),
        );
        check(
            json!({"status": "failed", "reason": "interrupted"}),
            125,
            Some("never started: the service ended before"),
        );
        check(
            json!({"status": "lost", "reason": "service_died"}),
            125,
            Some("lost: the service died while it ran, and what it had done is unknown"),
        );
    }

    #[test]
    fn cut_output_is_mentioned() {
        check(json!({"exitCode": 0, "truncated": true}), 0, Some("its output was cut at the limit"));
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!([seconds(60_000), seconds(1_500), seconds(7)], ["60 s", "1.5 s", "0.007 s"]);
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(8 << 20)],
            ["0 bytes", "1023 bytes", "1.5 KiB", "8 MiB"]
        );
    }
}
