-- Money that an operator takes out while tills may be spending it: it is set aside (`reserve`) in
-- the hub's own account until all tills have acknowledged that there is less to sell by.
CREATE TABLE debit (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL REFERENCES account,
  -- Where the money goes in the end.
  target INTEGER NOT NULL REFERENCES account,
  kind TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount > 0),
  text TEXT NOT NULL,
  state TEXT NOT NULL,
  reserve INTEGER NOT NULL UNIQUE REFERENCES booking,
  -- What ended it: the money went on, or back.
  booking INTEGER UNIQUE REFERENCES booking,
  created_at INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  CHECK ((state = 'pending') = (booking IS NULL))
) STRICT;
CREATE INDEX debit_pending ON debit (account) WHERE state = 'pending';

-- An account on its way to be closed: blocked, and waiting until no till can sell on it.
CREATE TABLE closing (
  account INTEGER PRIMARY KEY REFERENCES account,
  -- What becomes of what it holds then: 'nothing' (it must be empty), 'paid_out' or 'moved'.
  rest TEXT NOT NULL,
  successor INTEGER REFERENCES account,
  since INTEGER NOT NULL,
  CHECK ((rest = 'moved') = (successor IS NOT NULL))
) STRICT;

-- The account that a closed one was moved to.
ALTER TABLE account ADD COLUMN moved_to INTEGER REFERENCES account;
