-- A database as schema version 3 wrote it. Never changed: what it holds must be readable for ever.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 0x50434C53;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE chunks (
    execution INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    stream    TEXT    NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    at        INTEGER NOT NULL,
    bytes     BLOB    NOT NULL,
    PRIMARY KEY (execution, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO "chunks" VALUES(1,1,'stdout',1772366401123456789,X'78FF00');
INSERT INTO "chunks" VALUES(1,2,'stderr',1772366402123456789,X'79');
CREATE TABLE executions (
    n            INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,
    owner        TEXT    NOT NULL,
    owner_name   TEXT    NOT NULL,
    command      TEXT    NOT NULL,
    fingerprint  BLOB    NOT NULL,
    programs     TEXT    NOT NULL,
    rules        TEXT    NOT NULL,
    limits       TEXT    NOT NULL,
    accepted_at  INTEGER NOT NULL,
    started_at   INTEGER,
    confinement  TEXT,
    status       TEXT    NOT NULL,
    last_seq     INTEGER NOT NULL DEFAULT 0,
    output_bytes INTEGER NOT NULL DEFAULT 0,
    reason       TEXT,
    exit_code    INTEGER,
    signal       INTEGER,
    ended_at     INTEGER,
    usage        TEXT,
    truncated    INTEGER,
    message      TEXT,
    delivery     TEXT    NOT NULL DEFAULT 'undelivered'
                         CHECK (delivery IN ('undelivered', 'delivered', 'given_up')),
    CHECK ((ended_at IS NULL) = (status IN ('scheduled', 'running')))
) STRICT;
INSERT INTO "executions" VALUES(1,'done','u-1','ann','echo done | cat',X'0707070707070707070707070707070707070707070707070707070707070707','["echo","cat"]','["text tools"]','{"wall_time":{"secs":60,"nanos":1},"cpu_time":{"secs":60,"nanos":0},"memory_bytes":18446744073709551615,"processes":64,"open_files":256,"file_size_bytes":67108864,"disk_bytes":268435456,"output_bytes":8388608,"grace_period":{"secs":2,"nanos":0}}',1772366400123456789,1772366401123456789,'{"level":"namespaces","landlock_abi":7,"cgroup":"v2","weaker":["memory is limited for each process alone"]}','completed',2,4,'exit',0,NULL,1772366402123456789,'{"cpu_time":{"secs":1,"nanos":234567891},"peak_memory_bytes":1099511627776,"wall_time":{"secs":0,"nanos":3000000}}',0,NULL,'undelivered');
INSERT INTO "executions" VALUES(2,'waiting','u-1','ann','echo waiting | cat',X'0707070707070707070707070707070707070707070707070707070707070707','["echo","cat"]','["text tools"]','{"wall_time":{"secs":60,"nanos":1},"cpu_time":{"secs":60,"nanos":0},"memory_bytes":18446744073709551615,"processes":64,"open_files":256,"file_size_bytes":67108864,"disk_bytes":268435456,"output_bytes":8388608,"grace_period":{"secs":2,"nanos":0}}',1772366400123456789,NULL,NULL,'scheduled',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'undelivered');
CREATE TABLE refusals (
    n              INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    principal      TEXT    NOT NULL,
    principal_name TEXT    NOT NULL,
    execution_id   TEXT,
    command        TEXT    NOT NULL,
    denial         TEXT    NOT NULL
) STRICT;
INSERT INTO "refusals" VALUES(1,1772366403123456789,'u-1','ann','chosen','cat /etc/passwd','{"code":"path/protected","kind":"Forbidden","span":{"start":4,"end":15},"subject":"/etc/passwd","rule":{"name":"text tools","line":3},"message":"`cat` names a protected path","suggestion":"ask","further":[{"code":"path/protected","kind":"Forbidden","span":{"start":4,"end":15},"subject":"/etc/passwd","rule":{"name":"text tools","line":3},"message":"`cat` names a protected path","suggestion":null,"further":[]}]}');
CREATE INDEX executions_by_acceptance ON executions (accepted_at, id);
CREATE INDEX executions_by_owner ON executions (owner, accepted_at, id);
CREATE INDEX executions_by_end ON executions (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX executions_unsettled ON executions (ended_at, id) WHERE delivery = 'undelivered';
CREATE INDEX refusals_by_time ON refusals (at);
ALTER TABLE executions ADD COLUMN provenance TEXT;
ALTER TABLE refusals ADD COLUMN provenance TEXT;
UPDATE executions SET provenance = '{"peer":"192.0.2.1:4321"}' WHERE id = 'done';
UPDATE refusals SET provenance = '{"peer":"192.0.2.1:4321"}';
CREATE TABLE postings (
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint  TEXT    NOT NULL,
    execution INTEGER NOT NULL,
    made_at   INTEGER NOT NULL,
    due_at    INTEGER NOT NULL,
    attempts  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX postings_by_due ON postings (endpoint, due_at, n);
CREATE INDEX postings_by_execution ON postings (execution);

CREATE TABLE disabled_endpoints (
    name TEXT    NOT NULL PRIMARY KEY,
    url  TEXT    NOT NULL,
    at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE expired (
    n    INTEGER PRIMARY KEY,
    mark INTEGER NOT NULL UNIQUE
) STRICT;
INSERT INTO "postings" VALUES(7,'ci',1,1772366402123456789,1772366460123456789,3);
INSERT INTO "disabled_endpoints" VALUES('gone','https://gone.example/hook',1772366403123456789);
INSERT INTO "expired" VALUES(1,-4611686018427387904);
COMMIT;
