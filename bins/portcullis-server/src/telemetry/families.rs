//! Every metric there is. `docs/telemetry.md` has the same table, and a test holds the two together.

use super::exposition::{Family, Kind};

macro_rules! families {
    ($($constant:ident $name:literal $kind:ident $unit:literal [$($label:literal),*] $help:literal)+) => {
        $(pub(crate) const $constant: Family = Family {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric there is, in the order of the answer. Those of this process are last.
        pub const FAMILIES: &[Family] = &[$($constant),+];
    };
}

families! {
    BUILD "portcullis_build_info" Gauge "" ["version"]
        "The release that runs; always 1"
    CONFINEMENT "portcullis_confinement_info" Gauge "" ["level", "cgroup", "landlock_abi"]
        "What is in force around every execution; always 1"

    ACCEPTED "portcullis_executions_accepted_total" Counter "" []
        "New executions: their records are safe"
    REPEATED "portcullis_submissions_repeated_total" Counter "" []
        "Submissions that were answered with an execution that was there already"
    TURNED_AWAY "portcullis_submissions_turned_away_total" Counter "" ["reason"]
        "Permitted submissions that were not accepted"
    DENIALS "portcullis_denials_total" Counter "" ["code"]
        "Submissions that the rules refused, by the code of the first denial"
    ENDED "portcullis_executions_ended_total" Counter "" ["status", "reason"]
        "Executions whose ending is recorded; what the start found open counts as well"
    QUEUED "portcullis_executions_queued" Gauge "" []
        "Executions accepted and not started"
    RUNNING "portcullis_executions_running" Gauge "" []
        "Executions that have a place to run"
    DRAINING "portcullis_draining" Gauge "" []
        "Whether the service refuses new work because it is to end: 1 or 0"
    QUEUE_WAIT "portcullis_execution_queue_seconds" Histogram "seconds" []
        "Time from acceptance to the record of the start; 0 for what is started in the record of its acceptance"
    LAUNCH "portcullis_launch_seconds" Histogram "seconds" []
        "Time from when the launcher is asked until a cell is there and the start is recorded"
    WHOLE "portcullis_execution_seconds" Histogram "seconds" []
        "Time from acceptance to the end of the last process"
    RUN "portcullis_execution_run_seconds" Histogram "seconds" []
        "Time from the first process to the end of the last, as the cell measures it"
    COMMANDS_CPU "portcullis_executions_cpu_seconds_total" Counter "seconds" []
        "CPU time of all processes of executions that have ended"
    OUTPUT "portcullis_execution_output_bytes_total" Counter "bytes" []
        "Output that was stored, both streams"
    PANICS "portcullis_panics_total" Counter "" []
        "Mistakes of ours that were caught in the engine"

    CELLS "portcullis_cells" Gauge "" ["state"]
        "Places in which an execution can run: ready for one, taken by one, or missing (being made, or not to be had)"
    CELLS_MADE "portcullis_cells_made_total" Counter "" []
        "Cells that the launcher has made"
    CELLS_GONE "portcullis_cells_gone_total" Counter "" []
        "Cells that have ended; each is made again"
    CELLS_LATE "portcullis_cells_late_total" Counter "" []
        "Executions that found no cell ready, and waited for one"

    STORE "portcullis_store_operation_seconds" Histogram "seconds" ["operation"]
        "Time of the store's operations, failed ones included"
    STORE_FAILURES "portcullis_store_failures_total" Counter "" ["operation"]
        "Operations of the store that failed because of its medium"

    AUTHENTICATIONS "portcullis_authentications_total" Counter "" ["result"]
        "Requests that had to say who asks, by what came of it; most are answered from memory"
    CALLS "portcullis_peer_calls_total" Counter "" ["peer", "result"]
        "Requests to peer services: answered, refused for good, failed (its own trouble), or silent (no answer)"
    CALL "portcullis_peer_call_seconds" Histogram "seconds" ["peer"]
        "Time of requests to peer services"
    FAILING "portcullis_peer_failing" Gauge "" ["peer"]
        "Whether a peer service counts as out of order: 1 or 0; absent for one that is not configured"
    FINAL_UPDATES "portcullis_final_updates_total" Counter "" ["result"]
        "Final updates that the Socket Service took, or that were given up"
    UPDATES_PENDING "portcullis_updates_pending" Gauge "" []
        "Executions with updates that wait to be sent to the Socket Service"
    UPDATES_DROPPED "portcullis_updates_dropped_total" Counter "" []
        "Progress updates that were dropped: newer ones took their place, or the Socket Service was away"

    WEBHOOK_ATTEMPTS "portcullis_webhook_attempts_total" Counter "" ["endpoint"]
        "Messages sent to webhooks, repeated ones included; absent without webhooks"
    WEBHOOK_FAILURES "portcullis_webhook_failures_total" Counter "" ["endpoint"]
        "Those of them that failed"
    WEBHOOK_MESSAGES "portcullis_webhook_messages_total" Counter "" ["endpoint", "result"]
        "Messages that came to an end: delivered, given_up after a day, or dropped because too many waited"
    WEBHOOK_WAITING "portcullis_webhook_messages_waiting" Gauge "" ["endpoint"]
        "Messages that wait for a webhook, as counted within the last minute"
    WEBHOOK_FAILING "portcullis_webhook_failing" Gauge "" ["endpoint"]
        "Whether the latest message to a webhook failed, or it is disabled: 1 or 0"

    AUDIT_ENTRIES "portcullis_audit_entries_total" Counter "" []
        "Entries written to the audit log; absent without one"
    AUDIT_FAILURES "portcullis_audit_failures_total" Counter "" []
        "Entries that could not be written to the audit log"
    AUDIT_FAILING "portcullis_audit_failing" Gauge "" []
        "Whether the latest entry could not be written: 1 or 0"

    SPANS "portcullis_spans_total" Counter "" ["result"]
        "Spans by what became of them: sent, rejected by the collector, given_up after a minute, or dropped because the queue was full; absent where none are exported"

    REQUESTS "portcullis_http_requests_total" Counter "" ["route", "method", "status"]
        "Requests answered; a route is `-` where none was reached"
    REQUEST "portcullis_http_request_seconds" Histogram "seconds" ["route"]
        "Time from a request's head to its answer's, waiting that was asked for included"
    WATCHERS "portcullis_watchers" Gauge "" []
        "Streams of events that are open"

    PROCESS_CPU "process_cpu_seconds_total" Counter "seconds" []
        "CPU time of the server, user and system"
    PROCESS_RESIDENT "process_resident_memory_bytes" Gauge "bytes" []
        "Resident memory of the server"
    PROCESS_VIRTUAL "process_virtual_memory_bytes" Gauge "bytes" []
        "Virtual memory of the server"
    PROCESS_FILES "process_open_fds" Gauge "" []
        "Open descriptors of the server"
    PROCESS_FILES_LIMIT "process_max_fds" Gauge "" []
        "Descriptors that the server may open"
    PROCESS_STARTED "process_start_time_seconds" Gauge "seconds" []
        "When the server started, since 1970"
}
