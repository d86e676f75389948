-- Sealed shares for users, authenticated, as the parties sent them. Those with one `grp` (epoch, key and digests) can be put
-- together; a party that has moved on between two answers stands in two.
CREATE TABLE user_shares (
    job BYTEA NOT NULL,
    party BIGINT NOT NULL,
    grp BYTEA NOT NULL,
    share BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    extra_data BYTEA NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (job, party, grp)
);
