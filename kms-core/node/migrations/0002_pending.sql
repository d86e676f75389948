-- A restart reads what is pending on each chain page by page, oldest first.
DROP INDEX requests_unfinished;
CREATE INDEX requests_pending ON requests (chain_id, received_at) WHERE stage < 4;
