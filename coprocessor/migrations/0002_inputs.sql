-- Inputs that the chain has not used take room for a limited time, and all of them together limited room.
ALTER TABLE inputs ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
-- What the input takes on disk, its handles included.
ALTER TABLE inputs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
-- Who posted it, as long as it waits: an IPv4 address, or the first half of an IPv6 one.
ALTER TABLE inputs ADD COLUMN client BLOB;
UPDATE inputs SET bytes = LENGTH(ciphertext), used = EXISTS (
    SELECT 1 FROM input_handles AS h JOIN operations AS o ON o.handle = h.handle
    WHERE h.chain_id = inputs.chain_id AND h.input_id = inputs.id
);
CREATE INDEX inputs_waiting ON inputs (chain_id, accepted_at, bytes) WHERE used = 0;
CREATE INDEX inputs_waiting_by_client ON inputs (client, bytes) WHERE used = 0;
