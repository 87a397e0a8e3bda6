-- The flags that follow from the order of all that happened on an account are found anew when
-- something arrives late, by what was in force at the time.
CREATE TABLE terms_change (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL REFERENCES account,
  at INTEGER NOT NULL,
  credit INTEGER NOT NULL,
  limit_day INTEGER,
  limit_week INTEGER,
  limit_month INTEGER
) STRICT;
CREATE INDEX terms_change_of_account ON terms_change (account, at);
CREATE INDEX booking_by_day ON booking (holder, day) WHERE holder IS NOT NULL;
CREATE INDEX flag_of_account ON flag (account) WHERE account IS NOT NULL;
