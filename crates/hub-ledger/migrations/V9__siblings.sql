-- Where hub and siblings may fetch a till's entries, as the till says.
ALTER TABLE till ADD COLUMN address TEXT;

-- Entries that an operator wants to have once more; both are null when there are none.
ALTER TABLE till ADD COLUMN resend_from INTEGER;
ALTER TABLE till ADD COLUMN resend_to INTEGER;

-- Entries up to here are in a backup that somebody has verified.
ALTER TABLE till_epoch ADD COLUMN durable_through INTEGER NOT NULL DEFAULT 0;

-- Backups of the hub, with the watermarks as they were when each began.
CREATE TABLE backup (
  id INTEGER PRIMARY KEY,
  began_at INTEGER NOT NULL,
  verified_at INTEGER
) STRICT;
CREATE TABLE backup_mark (
  backup INTEGER NOT NULL REFERENCES backup,
  till TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (backup, till, epoch)
) STRICT, WITHOUT ROWID;
