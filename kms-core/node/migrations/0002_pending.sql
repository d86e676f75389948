-- A restart reads what is pending page by page, oldest first.
DROP INDEX requests_unfinished;
CREATE INDEX requests_pending ON requests (received_at) WHERE stage < 4;
