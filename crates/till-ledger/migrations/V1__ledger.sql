-- One file is one epoch of one till.
CREATE TABLE identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    till TEXT NOT NULL,
    epoch TEXT NOT NULL CHECK (length(epoch) = 16),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32)
) STRICT;

CREATE TRIGGER identity_is_never_changed BEFORE UPDATE ON identity
BEGIN SELECT RAISE(ABORT, 'the identity of a ledger is never changed'); END;
CREATE TRIGGER identity_is_never_removed BEFORE DELETE ON identity
BEGIN SELECT RAISE(ABORT, 'the identity of a ledger is never removed'); END;

-- What happened, for ever. Header and body are the bytes that the hash covers.
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY CHECK (seq > 0),
    header TEXT NOT NULL,
    body TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Also refuses to replace an entry, which would go past the trigger for deletions. FAIL and not
-- ABORT: a statement that may abort after a trigger is journalled first, which costs a sale more
-- than the rest of the insert.
CREATE TRIGGER entries_are_numbered_without_gaps BEFORE INSERT ON entry
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM entry)
BEGIN SELECT RAISE(FAIL, 'entries are numbered without gaps'); END;
CREATE TRIGGER entries_are_never_changed BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'entries are never changed; write a new one'); END;
CREATE TRIGGER entries_are_never_removed BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'entries are never removed; write a new one'); END;

-- Finds entries by their id. Filled behind the sales, in idle time, up to progress.indexed_through.
CREATE TABLE entry_id (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    acked_seq INTEGER NOT NULL CHECK (acked_seq >= 0),
    durable_through INTEGER NOT NULL CHECK (durable_through >= 0),
    -- 64 bits without a sign, kept as the signed number with the same bits.
    hub_epoch INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    indexed_through INTEGER NOT NULL CHECK (indexed_through >= 0),
    unknown_chips INTEGER NOT NULL CHECK (unknown_chips >= 0),
    -- The hub's clock when it last answered, and this machine's time since boot at that moment.
    hub_clock_ms INTEGER,
    hub_clock_boot_ms INTEGER,
    hub_clock_boot BLOB,
    heartbeat INTEGER NOT NULL
) STRICT;

INSERT INTO progress VALUES (1, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0);

-- The replica: what the hub says. It can be fetched again, entries cannot.
CREATE TABLE chip (
    uid BLOB PRIMARY KEY CHECK (length(uid) IN (4, 7, 10)),
    number INTEGER NOT NULL,
    account INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'blocked', 'closed')),
    card TEXT CHECK (length(card) = 14),
    rv INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX chip_by_card ON chip (card);
CREATE INDEX chip_by_number ON chip (number);

CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    -- 0 once the hub took the account away; the row stays for the sake of `gross`.
    known INTEGER NOT NULL CHECK (known IN (0, 1)),
    rv INTEGER NOT NULL,
    -- From the hub's record.
    status TEXT NOT NULL CHECK (status IN ('active', 'blocked', 'closed')),
    position INTEGER NOT NULL,
    incl_seq INTEGER NOT NULL CHECK (incl_seq >= 0),
    hub_spent_on TEXT NOT NULL,
    hub_spent_day INTEGER NOT NULL,
    hub_spent_week INTEGER NOT NULL,
    hub_spent_month INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    limit_day INTEGER,
    limit_week INTEGER,
    limit_month INTEGER,
    ceiling INTEGER,
    top_up_amount INTEGER,
    top_up_armed INTEGER NOT NULL CHECK (top_up_armed IN (0, 1)),
    top_up_state TEXT NOT NULL CHECK (top_up_state IN ('idle', 'pending', 'failed')),
    -- All own sales up to incl_seq.
    gross_incl INTEGER NOT NULL CHECK (gross_incl >= 0),
    -- The hub's figures with the own entries after incl_seq added; can be reckoned anew from
    -- them at any time. In the same row, so that a sale writes one page here.
    balance INTEGER NOT NULL,
    spent_on TEXT NOT NULL,
    spent_day INTEGER NOT NULL,
    spent_week INTEGER NOT NULL,
    spent_month INTEGER NOT NULL,
    gross INTEGER NOT NULL CHECK (gross >= gross_incl),
    -- The last own entry that moved money, and the last that asked for a top-up; 0 is none.
    last_seq INTEGER NOT NULL CHECK (last_seq >= 0),
    top_up_seq INTEGER NOT NULL CHECK (top_up_seq >= 0)
) STRICT;

-- Personal; kept apart from money so that it can be wiped alone.
CREATE TABLE holder (
    account INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    photo TEXT,
    rv INTEGER NOT NULL
) STRICT;

CREATE TABLE product (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    category TEXT NOT NULL,
    price INTEGER NOT NULL,
    position INTEGER NOT NULL,
    rv INTEGER NOT NULL
) STRICT;
