-- Blocks kept from the newest down to the finalized one: the cursor of the follower, and what a reorg is measured against.
CREATE TABLE blocks (
    chain_id  INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    parent    BLOB    NOT NULL,
    timestamp INTEGER NOT NULL,
    PRIMARY KEY (chain_id, number)
);

-- Logs of our contracts that this version could not read.
CREATE TABLE quarantine (
    chain_id     INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash   BLOB    NOT NULL,
    log_index    INTEGER NOT NULL,
    address      BLOB    NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (chain_id, block_hash, log_index)
);

-- Proven lists whose proof was checked. The list itself is kept, not its expansion: 19 KB instead of megabytes, and
-- what never reaches the chain is never expanded.
CREATE TABLE inputs (
    id          BLOB    NOT NULL,
    chain_id    INTEGER NOT NULL,
    contract    BLOB    NOT NULL,
    user        BLOB    NOT NULL,
    ciphertext  BLOB    NOT NULL,
    accepted_at INTEGER NOT NULL,
    PRIMARY KEY (chain_id, id)
);
CREATE TABLE input_handles (
    handle   BLOB    NOT NULL PRIMARY KEY,
    chain_id INTEGER NOT NULL,
    input_id BLOB    NOT NULL,
    position INTEGER NOT NULL,
    FOREIGN KEY (chain_id, input_id) REFERENCES inputs (chain_id, id)
);
CREATE INDEX input_handles_by_input ON input_handles (chain_id, input_id, position);

-- One row per result handle, in the order of the chain. A handle is a hash of its operation, so the same handle always
-- means the same operation; the block is the first one that holds it.
CREATE TABLE operations (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    handle       BLOB    NOT NULL UNIQUE,
    chain_id     INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash   BLOB    NOT NULL,
    kind         TEXT    NOT NULL,
    a            BLOB,
    b            BLOB,
    c            BLOB,
    plain        BLOB,
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'computed', 'missing', 'failed')),
    failure      TEXT
);
CREATE INDEX operations_by_state ON operations (state, seq);
CREATE INDEX operations_by_block ON operations (chain_id, block_number);

CREATE TABLE ciphertexts (
    handle BLOB NOT NULL PRIMARY KEY,
    bytes  BLOB NOT NULL
);

-- Handles that somebody may want decrypted: only these are squashed.
CREATE TABLE wanted (
    handle       BLOB    NOT NULL PRIMARY KEY,
    chain_id     INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash   BLOB    NOT NULL
);
CREATE INDEX wanted_by_block ON wanted (chain_id, block_number);

-- What this signer stands for. A row is never changed or deleted, also not by a reorg: one handle, one digest, for ever.
CREATE TABLE commitments (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    handle     BLOB    NOT NULL UNIQUE,
    chain_id   INTEGER NOT NULL,
    key_id     BLOB    NOT NULL,
    digest     BLOB    NOT NULL
);

-- How far the submission of a commitment is.
CREATE TABLE submissions (
    handle     BLOB    NOT NULL PRIMARY KEY REFERENCES commitments (handle),
    outbox_id  INTEGER REFERENCES outbox (id),
    attempts   INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    refused    TEXT
);

-- What the chain says is committed, by whoever.
CREATE TABLE committed (
    handle       BLOB    NOT NULL PRIMARY KEY,
    chain_id     INTEGER NOT NULL,
    key_id       BLOB    NOT NULL,
    digest       BLOB    NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash   BLOB    NOT NULL
);
CREATE INDEX committed_by_block ON committed (chain_id, block_number);

-- Transactions of ours: one row per nonce, one attempt per signed version of it. Both are stored before the broadcast.
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    chain_id     INTEGER NOT NULL,
    sender       BLOB    NOT NULL,
    nonce        INTEGER NOT NULL,
    destination  BLOB    NOT NULL,
    calldata     BLOB    NOT NULL,
    gas_limit    INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('open', 'mined', 'reverted', 'final', 'displaced')),
    block_number INTEGER,
    block_hash   BLOB
);
CREATE INDEX outbox_by_state ON outbox (chain_id, state);
CREATE TABLE attempts (
    hash         BLOB    NOT NULL PRIMARY KEY,
    outbox_id    INTEGER NOT NULL REFERENCES outbox (id),
    raw          BLOB    NOT NULL,
    max_fee      TEXT    NOT NULL,
    priority_fee TEXT    NOT NULL,
    signed_at    INTEGER NOT NULL
);
CREATE INDEX attempts_by_outbox ON attempts (outbox_id, signed_at);
