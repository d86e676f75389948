-- Ciphertexts that could not be squashed: tried again a few times, each after a longer pause.
CREATE TABLE squash_failures (
    handle     BLOB    NOT NULL PRIMARY KEY,
    attempts   INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    reason     TEXT    NOT NULL
);

-- How often in a row this commitment was refused when it stood alone, and why the last time.
ALTER TABLE submissions ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE submissions ADD COLUMN failure TEXT;
-- How often in a row a transaction that held it ended without effect: the next one is half as large.
ALTER TABLE submissions ADD COLUMN setbacks INTEGER NOT NULL DEFAULT 0;

-- An attempt that only fills the nonce: an empty transaction to ourselves.
ALTER TABLE attempts ADD COLUMN fills INTEGER NOT NULL DEFAULT 0;
