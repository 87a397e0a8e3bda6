-- The version of the newest change of a status; 0 while it never changed. Of two statuses the one
-- with the higher version holds, in whatever order a till hears of them.
ALTER TABLE account ADD COLUMN status_rv INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chip ADD COLUMN status_rv INTEGER NOT NULL DEFAULT 0;
UPDATE account SET status_rv = coalesce((SELECT r.rv FROM record r
  WHERE r.canteen = account.canteen AND r.kind = 'account' AND r.id = CAST(account.id AS TEXT)), 0)
WHERE status <> 'active';
UPDATE chip SET status_rv = coalesce((SELECT r.rv FROM record r
  WHERE r.canteen = chip.canteen AND r.kind = 'chip' AND r.id = chip.uid), 0)
WHERE status <> 'active';
CREATE INDEX account_by_status ON account (canteen, status_rv) WHERE status_rv > 0;
CREATE INDEX chip_by_status ON chip (canteen, status_rv) WHERE status_rv > 0;

-- What was blocked when: a sale that arrives late is held against the status of its own moment.
CREATE TABLE status_change (
  id INTEGER PRIMARY KEY,
  account INTEGER REFERENCES account,
  chip INTEGER REFERENCES chip,
  status TEXT NOT NULL,
  at INTEGER NOT NULL,
  CHECK ((account IS NULL) <> (chip IS NULL))
) STRICT;
CREATE INDEX status_change_of_account ON status_change (account, at) WHERE account IS NOT NULL;
CREATE INDEX status_change_of_chip ON status_change (chip, at) WHERE chip IS NOT NULL;
CREATE TRIGGER status_change_is_never_changed BEFORE UPDATE ON status_change
BEGIN SELECT raise(ABORT, 'changes of statuses are append-only'); END;
CREATE TRIGGER status_change_is_never_deleted BEFORE DELETE ON status_change
BEGIN SELECT raise(ABORT, 'changes of statuses are append-only'); END;
INSERT INTO status_change (account, status, at)
SELECT id, status, blocked_at FROM account WHERE blocked_at IS NOT NULL;
INSERT INTO status_change (chip, status, at)
SELECT number, status, blocked_at FROM chip WHERE blocked_at IS NOT NULL;

-- The newest status that a till says it has applied; told to operators, nothing is decided by it.
ALTER TABLE till_epoch ADD COLUMN statuses INTEGER NOT NULL DEFAULT 0;

-- Sales made longer after a block than this, in milliseconds, are the operator's loss.
ALTER TABLE canteen ADD COLUMN block_grace INTEGER NOT NULL DEFAULT 3600000;
