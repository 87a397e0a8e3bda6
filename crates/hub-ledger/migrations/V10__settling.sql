-- Z reports of tills, held against what is booked and quarantined.
CREATE TABLE z_report (
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL REFERENCES tenant,
  till TEXT NOT NULL REFERENCES till,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  -- What the till says, as JSON.
  report TEXT NOT NULL,
  -- What the hub had of the same entries, as JSON; null when the report stands in a branch of the
  -- till's ledger, so that nothing was compared.
  books TEXT
) STRICT;

-- Pieces of a sale's lines that have been taken back; a line has its place in the sale, from 0.
CREATE TABLE taken_back_line (
  sale INTEGER NOT NULL REFERENCES booking,
  line INTEGER NOT NULL,
  quantity INTEGER NOT NULL,
  PRIMARY KEY (sale, line)
) STRICT, WITHOUT ROWID;

-- A sale on an account that was unknown, and the account that it was given to since.
CREATE TABLE assignment (
  sale INTEGER PRIMARY KEY REFERENCES booking,
  account INTEGER NOT NULL REFERENCES account,
  booking INTEGER NOT NULL UNIQUE REFERENCES booking
) STRICT;

-- What has become of an entry in quarantine, and whose money it seems to be about: that much is
-- reckoned as spent until somebody knows better.
ALTER TABLE quarantine ADD COLUMN resolved_at INTEGER;
ALTER TABLE quarantine ADD COLUMN booking INTEGER REFERENCES booking;
ALTER TABLE quarantine ADD COLUMN account INTEGER REFERENCES account;
ALTER TABLE quarantine ADD COLUMN amount INTEGER;
CREATE INDEX quarantine_of_entry ON quarantine (journal);
CREATE INDEX quarantine_of_account ON quarantine (account)
  WHERE account IS NOT NULL AND resolved_at IS NULL;
