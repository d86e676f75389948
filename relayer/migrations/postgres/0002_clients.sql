-- Who asked, for jobs that came over HTTP: an IPv4 address, or the first half of an IPv6 one. So many may be open per client.
ALTER TABLE jobs ADD COLUMN client BYTEA;
CREATE INDEX jobs_by_client ON jobs (client, state);
CREATE INDEX jobs_by_kind ON jobs (kind, state, since);
