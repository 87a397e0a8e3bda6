-- What guardians and operators are to be told, written together with what it tells of. Names and
-- purchases are not in here.
CREATE TABLE notice (
  id INTEGER PRIMARY KEY,
  -- What the receiver knows it by; another life of the store draws other names.
  name TEXT NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES account,
  reason TEXT NOT NULL,
  day TEXT NOT NULL,
  amount INTEGER NOT NULL,
  top_up TEXT NOT NULL REFERENCES top_up,
  created_at INTEGER NOT NULL,
  -- When it is sent next; null once it was delivered or given up.
  due_at INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  -- Why it could not be delivered the last time.
  failure TEXT,
  delivered_at INTEGER,
  CHECK (delivered_at IS NULL OR due_at IS NULL),
  -- Nobody is told the same twice in a day.
  UNIQUE (account, reason, day)
) STRICT;
CREATE INDEX notice_due ON notice (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX notice_of_top_up ON notice (top_up);
