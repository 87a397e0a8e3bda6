-- How the limits hold over several tills: 'lenient' or 'strict'.
ALTER TABLE account ADD COLUMN limit_mode TEXT NOT NULL DEFAULT 'lenient';
-- The day in whose windows the shares of strict limits were issued last.
ALTER TABLE account ADD COLUMN shares_on TEXT;
-- What is kept back of strict limits for an order that has been asked for.
ALTER TABLE account ADD COLUMN limit_wish INTEGER NOT NULL DEFAULT 0;

-- The newest business day that the hub has seen; never goes back. Shares are issued for its windows.
ALTER TABLE hub ADD COLUMN day TEXT NOT NULL DEFAULT '';

-- Whether the program that writes the epoch's ledger keeps strict limits, as its entries say.
ALTER TABLE till_epoch ADD COLUMN strict_limits INTEGER NOT NULL DEFAULT 0;

-- The till's latest booking by anybody when it asked for more on the account.
ALTER TABLE ceiling ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;

-- A till's share of one strict limit: `ceiling` is the highest sum of its sales, gross over the epoch
-- as in the table of that name, for the window of the account's `shares_on`; `ahead` is what it may
-- sell in each later window. `highest` and `ahead_highest` are the highest ones that may still be in
-- force. `carried` is what it may sell in this window by something that was in force before: what it
-- was granted ahead in an earlier window, or its ceiling before the limits were strict. They differ
-- from what was issued last, and `carried` is above zero, until the epoch has acknowledged `rv`.
CREATE TABLE limit_share (
  account INTEGER NOT NULL REFERENCES account,
  till TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  -- 'day', 'week' or 'month'.
  window TEXT NOT NULL,
  ceiling INTEGER NOT NULL,
  highest INTEGER NOT NULL,
  ahead INTEGER NOT NULL,
  ahead_highest INTEGER NOT NULL,
  carried INTEGER NOT NULL,
  rv INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (account, window, till, epoch),
  FOREIGN KEY (till, epoch) REFERENCES till_epoch,
  CHECK (highest >= ceiling AND ahead_highest >= ahead AND ahead >= 0 AND carried >= 0)
) STRICT, WITHOUT ROWID;
CREATE INDEX share_not_acknowledged ON limit_share (till, epoch, rv)
  WHERE highest > ceiling OR ahead_highest > ahead OR carried > 0;
