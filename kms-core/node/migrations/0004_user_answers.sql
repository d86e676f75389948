-- What was sealed for users: one row per request and epoch, however often it was answered.
CREATE TABLE user_answers (
    id           BLOB NOT NULL CHECK (length(id) = 32),
    epoch_id     BLOB NOT NULL CHECK (length(epoch_id) = 32),
    key_id       BLOB NOT NULL CHECK (length(key_id) = 32),
    chain_id     INTEGER NOT NULL,
    -- Who signed the permit.
    user         BLOB NOT NULL CHECK (length(user) = 20),
    -- Whose handles they are, if not the user's own.
    delegator    BLOB CHECK (length(delegator) = 20),
    permit_hash  BLOB NOT NULL CHECK (length(permit_hash) = 32),
    -- One after the other.
    handles      BLOB NOT NULL CHECK (length(handles) % 32 = 0),
    -- The block that allowed the last answer.
    block_number INTEGER NOT NULL,
    first_at     INTEGER NOT NULL,
    last_at      INTEGER NOT NULL,
    times        INTEGER NOT NULL,
    PRIMARY KEY (id, epoch_id)
) STRICT;
