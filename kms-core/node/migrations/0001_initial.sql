-- Times are milliseconds since 1970. Ids are 32 bytes.

CREATE TABLE requests (
    id          BLOB NOT NULL CHECK (length(id) = 32),
    job_id      BLOB NOT NULL CHECK (length(job_id) = 32),
    chain_id    INTEGER NOT NULL,
    epoch_id    BLOB NOT NULL CHECK (length(epoch_id) = 32),
    payload     BLOB NOT NULL,
    stage       INTEGER NOT NULL CHECK (stage BETWEEN 1 AND 5),
    stage_since INTEGER NOT NULL,
    detail      TEXT,
    answer      BLOB,
    refusal     BLOB,
    receipt     BLOB,
    received_at INTEGER NOT NULL,
    -- When this party's share may have left it first.
    shared_at   INTEGER,
    answered_at INTEGER,
    mpc_micros  INTEGER,
    PRIMARY KEY (id, epoch_id)
) STRICT;
CREATE INDEX requests_by_job ON requests (job_id);
CREATE INDEX requests_unfinished ON requests (stage) WHERE stage < 3;

CREATE TABLE epochs (
    epoch_id   BLOB PRIMARY KEY NOT NULL CHECK (length(epoch_id) = 32),
    context_id BLOB NOT NULL CHECK (length(context_id) = 32),
    key_id     BLOB NOT NULL CHECK (length(key_id) = 32),
    state      TEXT NOT NULL CHECK (state IN ('live', 'erased')),
    since      INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    key_id       BLOB NOT NULL CHECK (length(key_id) = 32),
    epoch_id     BLOB NOT NULL CHECK (length(epoch_id) = 32) REFERENCES epochs (epoch_id),
    params       INTEGER NOT NULL,
    object       TEXT NOT NULL UNIQUE,
    share_digest BLOB NOT NULL CHECK (length(share_digest) = 32),
    state        TEXT NOT NULL CHECK (state IN ('usable', 'quarantined', 'destroyed')),
    detail       TEXT,
    since        INTEGER NOT NULL,
    PRIMARY KEY (key_id, epoch_id)
) STRICT;

-- What this party did, in order: start-ups, phases, imports, quarantines, verdicts that end a request.
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
