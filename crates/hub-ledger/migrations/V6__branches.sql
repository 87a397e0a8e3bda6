-- Entries under numbers where the main chain of the epoch has others: a disk was copied or restored.
-- `from_seq` and `from_hash` are the last entry before the branch, `seq` and `hash` its last one.
CREATE TABLE branch (
  id INTEGER PRIMARY KEY,
  till TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  from_seq INTEGER NOT NULL,
  from_hash BLOB NOT NULL,
  seq INTEGER NOT NULL,
  hash BLOB NOT NULL,
  began_at INTEGER NOT NULL,
  FOREIGN KEY (till, epoch) REFERENCES till_epoch
) STRICT;
CREATE INDEX branch_of_till ON branch (till, epoch);

-- The same for branches as `batch` is for the main chain.
CREATE TABLE branch_batch (
  branch INTEGER NOT NULL REFERENCES branch,
  first_seq INTEGER NOT NULL,
  entries INTEGER NOT NULL,
  first_id INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  PRIMARY KEY (branch, first_seq)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER branch_batch_is_never_changed BEFORE UPDATE ON branch_batch
BEGIN SELECT raise(ABORT, 'batches are append-only'); END;
CREATE TRIGGER branch_batch_is_never_forgotten BEFORE DELETE ON branch_batch
BEGIN SELECT raise(ABORT, 'batches are append-only'); END;

-- Where an entry of a till that has a branch stands, by its id. Tills without branches need none:
-- their numbers and hashes say what is here.
CREATE TABLE entry_id (
  till TEXT NOT NULL,
  id TEXT NOT NULL,
  journal INTEGER NOT NULL REFERENCES journal,
  PRIMARY KEY (till, id)
) STRICT, WITHOUT ROWID;

-- Tokens that an operator took away, so that a machine that shows one is told so.
CREATE TABLE revoked_token (
  token_hash BLOB PRIMARY KEY,
  till TEXT NOT NULL REFERENCES till
) STRICT, WITHOUT ROWID;
