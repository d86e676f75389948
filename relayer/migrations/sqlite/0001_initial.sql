-- All times of our own clock are milliseconds since 1970, all times of a chain seconds. Hashes and addresses are raw
-- bytes, amounts decimal text. Integers are BIGINT everywhere, so that both backends give the same type back.

-- The chain as we followed it, kept down to the finalized block.
CREATE TABLE blocks (
    chain BIGINT NOT NULL,
    number BIGINT NOT NULL,
    hash BLOB NOT NULL,
    parent BLOB NOT NULL,
    timestamp BIGINT NOT NULL,
    PRIMARY KEY (chain, number)
);

-- How far each chain is followed; moves in the same transaction as the rows that its blocks cause.
CREATE TABLE cursors (
    chain BIGINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    hash BLOB NOT NULL,
    timestamp BIGINT NOT NULL,
    safe BIGINT NOT NULL,
    finalized BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Every gateway event of the canonical chain. A job's facts are a fold over its events, so a reorg is undone by deleting.
CREATE TABLE events (
    chain BIGINT NOT NULL,
    block BIGINT NOT NULL,
    block_hash BLOB NOT NULL,
    log_index BIGINT NOT NULL,
    tx_hash BLOB NOT NULL,
    job BLOB NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (chain, block_hash, log_index)
);
CREATE INDEX events_by_job ON events (job);
CREATE INDEX events_by_block ON events (chain, block);

-- One row per piece of work. What happens next follows from this row alone.
CREATE TABLE jobs (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    chain BIGINT NOT NULL,
    state TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    since BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_attempt BIGINT NOT NULL DEFAULT 0,
    lease_owner TEXT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    -- Why it waits or ended: a stable label and a sentence.
    reason TEXT,
    detail TEXT,
    -- Effective deadline: block time for on-chain jobs, our clock (seconds) for others.
    deadline BIGINT NOT NULL,
    -- The request is final once the latest block is `final_at`, and the one named by the tag ('latest', 'safe',
    -- 'finalized') is the request's own block or above it.
    final_tag TEXT NOT NULL,
    final_at BIGINT NOT NULL,
    fee TEXT NOT NULL DEFAULT '0',
    block BIGINT,
    block_hash BLOB,
    fulfilled_block BIGINT,
    fulfilled_tx BLOB,
    callback TEXT,
    -- The result, from quorum on (or from the chain, when another relayer was first).
    cleartexts BLOB,
    extra_data BLOB,
    mpc_micros BIGINT,
    -- Epoch that was asked for last.
    epoch BLOB
);
CREATE INDEX jobs_by_due ON jobs (state, next_attempt);
CREATE INDEX jobs_by_chain ON jobs (chain, state);
CREATE INDEX jobs_by_since ON jobs (since);

-- What each party said last about a job.
CREATE TABLE job_parties (
    job BLOB NOT NULL,
    party BIGINT NOT NULL,
    status TEXT NOT NULL,
    detail TEXT,
    at BIGINT NOT NULL,
    retry_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (job, party)
);

-- Verified answers. Content-bound, so they survive reorgs.
CREATE TABLE answers (
    job BLOB NOT NULL,
    party BIGINT NOT NULL,
    signer BLOB NOT NULL,
    cleartexts BLOB NOT NULL,
    extra_data BLOB NOT NULL,
    signature BLOB NOT NULL,
    late BIGINT NOT NULL DEFAULT 0,
    at BIGINT NOT NULL,
    PRIMARY KEY (job, party)
);

-- Signed receipts of the parties, as they sent them (protobuf bytes).
CREATE TABLE receipts (
    job BLOB NOT NULL,
    party BIGINT NOT NULL,
    receipt BLOB NOT NULL,
    mpc_micros BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (job, party)
);

-- The epoch that the parties of a chain were last asked for.
CREATE TABLE epochs (
    chain BIGINT NOT NULL PRIMARY KEY,
    epoch BLOB NOT NULL,
    at BIGINT NOT NULL
);

-- Next free nonce per sender.
CREATE TABLE nonces (
    chain BIGINT NOT NULL,
    sender BLOB NOT NULL,
    next BIGINT NOT NULL,
    PRIMARY KEY (chain, sender)
);

-- The outbox: one row per nonce ever reserved.
CREATE TABLE transactions (
    chain BIGINT NOT NULL,
    sender BLOB NOT NULL,
    nonce BIGINT NOT NULL,
    job BLOB,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL,
    target BLOB NOT NULL,
    data BLOB NOT NULL,
    gas_limit BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    error TEXT,
    mined_hash BLOB,
    mined_block BIGINT,
    mined_block_hash BLOB,
    succeeded BIGINT,
    gas_used BIGINT,
    gas_price TEXT,
    PRIMARY KEY (chain, sender, nonce)
);
CREATE INDEX transactions_by_state ON transactions (chain, sender, state, nonce);
CREATE INDEX transactions_by_job ON transactions (job);
CREATE INDEX transactions_by_block ON transactions (chain, mined_block_hash);

-- Every signed transaction of a nonce, stored before it is broadcast.
CREATE TABLE attempts (
    hash BLOB NOT NULL PRIMARY KEY,
    chain BIGINT NOT NULL,
    sender BLOB NOT NULL,
    nonce BIGINT NOT NULL,
    purpose TEXT NOT NULL,
    raw BLOB NOT NULL,
    max_fee TEXT NOT NULL,
    priority_fee TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    sent_at BIGINT,
    error TEXT
);
CREATE INDEX attempts_by_nonce ON attempts (chain, sender, nonce);

-- Every state a job ever reached.
CREATE TABLE timeline (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    detail TEXT
);
CREATE INDEX timeline_by_job ON timeline (job, id);

-- Logs of the gateway that could not be read.
CREATE TABLE quarantine (
    chain BIGINT NOT NULL,
    block BIGINT NOT NULL,
    block_hash BLOB NOT NULL,
    log_index BIGINT NOT NULL,
    tx_hash BLOB NOT NULL,
    address BLOB NOT NULL,
    topics BLOB NOT NULL,
    data BLOB NOT NULL,
    error TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (chain, block_hash, log_index)
);

-- Who does what only one may do at a time: following a chain, minding the nonces of a sender.
CREATE TABLE leads (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);
