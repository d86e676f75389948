-- Generations of keys that this party was told to take part in. Whatever is not open any more never opens again.
CREATE TABLE keygens (
    run_id     BLOB PRIMARY KEY NOT NULL CHECK (length(run_id) = 32),
    params     INTEGER NOT NULL,
    compressed INTEGER NOT NULL CHECK (compressed IN (0, 1)),
    crs_digest BLOB NOT NULL CHECK (length(crs_digest) = 32),
    -- sealed: this party has its share and still helps the others; finished: what led to it is erased.
    state      TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'finished', 'aborted', 'failed')),
    key_id     BLOB CHECK (length(key_id) = 32),
    -- What this party has to say about how it ended, for the API.
    result     BLOB,
    detail     TEXT,
    started_at INTEGER NOT NULL,
    since      INTEGER NOT NULL
) STRICT;
-- One at a time.
CREATE UNIQUE INDEX keygens_open ON keygens (state) WHERE state = 'open';
