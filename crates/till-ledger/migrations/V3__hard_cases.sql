-- The version of a status: of two, the higher one holds, in whatever order they come.
ALTER TABLE chip ADD COLUMN status_rv INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN status_rv INTEGER NOT NULL DEFAULT 0;

-- The canteen's other tills, as of the positions in `account`.
CREATE TABLE sibling (
    till TEXT PRIMARY KEY,
    epoch TEXT NOT NULL CHECK (length(epoch) = 16),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    address TEXT,
    accepted_seq INTEGER NOT NULL CHECK (accepted_seq >= 0),
    accepted_hash BLOB NOT NULL CHECK (length(accepted_hash) = 32)
) STRICT, WITHOUT ROWID;

-- Which entry is which report of a day's totals.
CREATE TABLE z_report (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    seq INTEGER NOT NULL
) STRICT;

-- Whether the wall clock is believed, and if not, the last moment that was.
CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    state TEXT NOT NULL CHECK (state IN ('right', 'back', 'forward')),
    utc_ms INTEGER,
    boot_ms INTEGER,
    boot BLOB CHECK (length(boot) = 16)
) STRICT;

INSERT INTO clock VALUES (1, 'right', NULL, NULL, NULL);
