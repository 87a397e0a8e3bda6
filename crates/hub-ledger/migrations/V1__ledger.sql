-- Times are milliseconds since 1970 in UTC, amounts are whole øre, days are dates in
-- Europe/Copenhagen. Till epochs are the 64 bits of the epoch as a signed number.

CREATE TABLE hub (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  hub_epoch INTEGER NOT NULL,
  -- The version of the newest change; rises with every change of a record.
  rv INTEGER NOT NULL
) STRICT;

CREATE TABLE tenant (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE canteen (
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL REFERENCES tenant,
  name TEXT NOT NULL,
  UNIQUE (tenant, name)
) STRICT;

-- A till's code, token and key belong to its newest enrolment.
CREATE TABLE till (
  id TEXT PRIMARY KEY,
  canteen INTEGER NOT NULL REFERENCES canteen,
  code_hash BLOB NOT NULL,
  -- The key that used the code up; null while the code is unused.
  code_used_by BLOB,
  token_hash BLOB UNIQUE,
  epoch INTEGER,
  created_at INTEGER NOT NULL,
  enrolled_at INTEGER,
  revoked_at INTEGER,
  seen_at INTEGER,
  version TEXT,
  unsent INTEGER
) STRICT, WITHOUT ROWID;

-- The watermark: all entries of the epoch up to `seq` are in the journal, and `hash` covers them.
CREATE TABLE till_epoch (
  till TEXT NOT NULL REFERENCES till,
  epoch INTEGER NOT NULL,
  public_key BLOB NOT NULL,
  seq INTEGER NOT NULL,
  hash BLOB NOT NULL,
  enrolled_at INTEGER NOT NULL,
  PRIMARY KEY (till, epoch)
) STRICT, WITHOUT ROWID;

-- Every place that money can be. Holders' accounts have positive numbers, the hub's own accounts
-- have negative ones. The sum of all balances is zero.
CREATE TABLE account (
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL REFERENCES tenant,
  canteen INTEGER REFERENCES canteen,
  kind TEXT NOT NULL,
  till TEXT REFERENCES till,
  status TEXT NOT NULL DEFAULT 'active',
  blocked_at INTEGER,
  balance INTEGER NOT NULL DEFAULT 0,
  paid_in INTEGER NOT NULL DEFAULT 0,
  credit INTEGER NOT NULL DEFAULT 0,
  limit_day INTEGER,
  limit_week INTEGER,
  limit_month INTEGER,
  spent_on TEXT,
  spent_day INTEGER NOT NULL DEFAULT 0,
  spent_week INTEGER NOT NULL DEFAULT 0,
  spent_month INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  CHECK ((id > 0) = (kind = 'holder')),
  CHECK ((canteen IS NOT NULL) = (kind = 'holder')),
  CHECK ((till IS NOT NULL) = (kind = 'till_sales'))
) STRICT;
CREATE UNIQUE INDEX own_account ON account (tenant, kind, till) WHERE kind <> 'holder' AND till IS NOT NULL;
CREATE UNIQUE INDEX own_account_of_tenant ON account (tenant, kind) WHERE kind <> 'holder' AND till IS NULL;
CREATE INDEX account_of_canteen ON account (canteen, id) WHERE canteen IS NOT NULL;

-- Personal data stands apart, so that it can be erased while the money stays.
CREATE TABLE holder (
  account INTEGER PRIMARY KEY REFERENCES account,
  name TEXT NOT NULL,
  school TEXT,
  class TEXT,
  photo TEXT
) STRICT;

CREATE TABLE chip (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  canteen INTEGER NOT NULL REFERENCES canteen,
  uid TEXT NOT NULL,
  card TEXT,
  account INTEGER NOT NULL REFERENCES account,
  status TEXT NOT NULL,
  blocked_at INTEGER,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX chip_in_use ON chip (canteen, uid) WHERE status <> 'closed';
CREATE UNIQUE INDEX card_in_use ON chip (canteen, card) WHERE status <> 'closed' AND card IS NOT NULL;
CREATE INDEX chip_of_account ON chip (account);
CREATE INDEX chip_by_uid ON chip (uid);

CREATE TABLE product (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  canteen INTEGER NOT NULL REFERENCES canteen,
  name TEXT NOT NULL,
  category TEXT NOT NULL,
  price INTEGER NOT NULL CHECK (price > 0),
  position INTEGER NOT NULL,
  UNIQUE (canteen, name)
) STRICT;

-- What tills have written, byte for byte. There is no unique index: the watermark knows what is
-- here, and `batch` finds an entry by its number.
CREATE TABLE journal (
  id INTEGER PRIMARY KEY,
  seq INTEGER NOT NULL,
  hash BLOB NOT NULL,
  header TEXT NOT NULL,
  body TEXT NOT NULL,
  -- The booking that the entry became, if it moved money.
  booking INTEGER
) STRICT;
CREATE TRIGGER journal_is_never_changed BEFORE UPDATE ON journal
BEGIN SELECT raise(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_is_never_shortened BEFORE DELETE ON journal
BEGIN SELECT raise(ABORT, 'the journal is append-only'); END;

-- The entries `first_seq` and on stand in the journal from `first_id` on.
CREATE TABLE batch (
  till TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  entries INTEGER NOT NULL,
  first_id INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  PRIMARY KEY (till, epoch, first_seq)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER batch_is_never_changed BEFORE UPDATE ON batch
BEGIN SELECT raise(ABORT, 'batches are append-only'); END;
CREATE TRIGGER batch_is_never_forgotten BEFORE DELETE ON batch
BEGIN SELECT raise(ABORT, 'batches are append-only'); END;

-- Money that moved from one account to another.
CREATE TABLE booking (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  from_account INTEGER NOT NULL REFERENCES account,
  to_account INTEGER NOT NULL REFERENCES account,
  amount INTEGER NOT NULL CHECK (amount > 0),
  -- The holder on whose statement it stands, if it concerns one, and their balance afterwards.
  holder INTEGER REFERENCES account,
  balance_after INTEGER,
  happened_at INTEGER NOT NULL,
  booked_at INTEGER NOT NULL,
  day TEXT NOT NULL,
  text TEXT NOT NULL,
  lines TEXT,
  till TEXT,
  reference TEXT,
  CHECK (from_account <> to_account),
  CHECK ((holder IS NULL) = (balance_after IS NULL))
) STRICT;
CREATE INDEX booking_of_holder ON booking (holder, id) WHERE holder IS NOT NULL;
CREATE TRIGGER booking_is_never_changed BEFORE UPDATE ON booking
BEGIN SELECT raise(ABORT, 'bookings are append-only'); END;
CREATE TRIGGER booking_is_never_deleted BEFORE DELETE ON booking
BEGIN SELECT raise(ABORT, 'bookings are append-only'); END;

-- How much of a sale has been taken back.
CREATE TABLE taken_back (
  sale INTEGER PRIMARY KEY REFERENCES booking,
  amount INTEGER NOT NULL
) STRICT;

-- The answers to requests that carry an Idempotency-Key.
CREATE TABLE request_key (
  tenant INTEGER NOT NULL REFERENCES tenant,
  key TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  booking INTEGER NOT NULL REFERENCES booking,
  PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- The newest version of every record that tills replicate.
CREATE TABLE record (
  canteen INTEGER NOT NULL REFERENCES canteen,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  rv INTEGER NOT NULL,
  PRIMARY KEY (canteen, kind, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX record_by_version ON record (canteen, rv);

CREATE TABLE flag (
  id INTEGER PRIMARY KEY,
  code TEXT NOT NULL,
  at INTEGER NOT NULL,
  tenant INTEGER NOT NULL REFERENCES tenant,
  till TEXT,
  epoch INTEGER,
  seq INTEGER,
  account INTEGER,
  booking INTEGER,
  detail TEXT NOT NULL
) STRICT;

CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY,
  code TEXT NOT NULL,
  at INTEGER NOT NULL,
  tenant INTEGER NOT NULL REFERENCES tenant,
  till TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  journal INTEGER NOT NULL REFERENCES journal,
  detail TEXT NOT NULL
) STRICT;

CREATE TABLE agreement (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL REFERENCES account,
  amount INTEGER NOT NULL CHECK (amount > 0),
  card TEXT NOT NULL,
  status TEXT NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0,
  retry_at INTEGER,
  made_at INTEGER NOT NULL,
  ended_at INTEGER
) STRICT;
CREATE UNIQUE INDEX one_agreement ON agreement (account) WHERE status <> 'cancelled';
CREATE INDEX agreement_retry ON agreement (retry_at) WHERE retry_at IS NOT NULL;

CREATE TABLE top_up (
  id TEXT PRIMARY KEY,
  account INTEGER NOT NULL REFERENCES account,
  agreement INTEGER NOT NULL REFERENCES agreement,
  amount INTEGER NOT NULL CHECK (amount > 0),
  card TEXT NOT NULL,
  chip INTEGER,
  state TEXT NOT NULL,
  -- When there is something to do next; null when nothing is.
  due_at INTEGER,
  reference TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  unsent INTEGER NOT NULL DEFAULT 0,
  sent_at INTEGER,
  look_ups INTEGER NOT NULL DEFAULT 0,
  not_found_at INTEGER,
  coalesced INTEGER NOT NULL DEFAULT 0,
  gateway_transaction TEXT,
  captured INTEGER,
  refund_reference TEXT,
  failure TEXT,
  code TEXT,
  detail TEXT,
  booking INTEGER REFERENCES booking,
  created_at INTEGER NOT NULL,
  changed_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_active_top_up ON top_up (account)
  WHERE state IN ('intent', 'requested', 'unknown', 'refunding', 'stuck');
CREATE UNIQUE INDEX one_booking_of_top_up ON top_up (booking) WHERE booking IS NOT NULL;
CREATE INDEX top_up_due ON top_up (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX top_up_of_account ON top_up (account, created_at);

-- Every charge that may have reached the gateway, for spacing equal charges on one card.
CREATE TABLE top_up_attempt (
  reference TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  top_up TEXT NOT NULL REFERENCES top_up,
  card TEXT NOT NULL,
  amount INTEGER NOT NULL,
  sent_at INTEGER NOT NULL,
  reached INTEGER NOT NULL DEFAULT 1,
  answer TEXT,
  PRIMARY KEY (reference, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_by_card ON top_up_attempt (card, amount, sent_at);
