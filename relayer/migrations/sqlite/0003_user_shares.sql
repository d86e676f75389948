-- Sealed shares for users, authenticated, as the parties sent them. Those with one `grp` (epoch, key and digests) can be put
-- together; a party that has moved on between two answers stands in two.
CREATE TABLE user_shares (
    job BLOB NOT NULL,
    party BIGINT NOT NULL,
    grp BLOB NOT NULL,
    share BLOB NOT NULL,
    signature BLOB NOT NULL,
    extra_data BLOB NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (job, party, grp)
);
