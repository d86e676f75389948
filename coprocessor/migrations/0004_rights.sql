-- Whether somebody asked for the decryption, or the handle is only one that a user may read. What was asked for is squashed first.
ALTER TABLE wanted ADD COLUMN asked INTEGER NOT NULL DEFAULT 1;

-- The first account with a lasting right on a handle. With a second one it may be read by a user: a user decryption needs the
-- right of the user and that of the contract.
CREATE TABLE first_holders (
    handle       BLOB    NOT NULL PRIMARY KEY,
    account      BLOB    NOT NULL,
    chain_id     INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash   BLOB    NOT NULL
);
CREATE INDEX first_holders_by_block ON first_holders (chain_id, block_number);
