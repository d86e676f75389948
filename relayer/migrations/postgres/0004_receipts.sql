-- The time of the parties' MPC is read from their receipts.
ALTER TABLE jobs DROP COLUMN mpc_micros;
