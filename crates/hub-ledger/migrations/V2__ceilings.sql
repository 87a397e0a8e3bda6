-- What several tills that cannot ask may overspend together on one account of the canteen, and
-- what one till may sell on an account before the hub has heard of it.
ALTER TABLE canteen ADD COLUMN overspend_max INTEGER NOT NULL DEFAULT 20000;
ALTER TABLE canteen ADD COLUMN till_max INTEGER NOT NULL DEFAULT 20000;

-- The highest feed cursor that a booked entry of the epoch carries.
ALTER TABLE till_epoch ADD COLUMN acked INTEGER NOT NULL DEFAULT 0;
-- Cursors from here on are proof that the till has its ceilings; null while it is not given any.
ALTER TABLE till_epoch ADD COLUMN heeds_from INTEGER;
-- When an operator has said that nothing more will come of it.
ALTER TABLE till_epoch ADD COLUMN retired_at INTEGER;

-- What a till may sell on an account in one epoch: `gross` is what it has sold and the hub has
-- booked, never lowered by a void; `ceiling` is the highest sum of sales as issued last, null while
-- none was issued; `highest` is the highest one that may still be in force at the till. The two
-- differ until the epoch has acknowledged `rv`.
CREATE TABLE ceiling (
  account INTEGER NOT NULL REFERENCES account,
  till TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  gross INTEGER NOT NULL DEFAULT 0,
  ceiling INTEGER,
  highest INTEGER,
  rv INTEGER NOT NULL DEFAULT 0,
  -- The till's latest booking on the account.
  used INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (account, till, epoch),
  FOREIGN KEY (till, epoch) REFERENCES till_epoch,
  CHECK ((ceiling IS NULL) = (highest IS NULL)),
  CHECK (highest >= ceiling)
) STRICT, WITHOUT ROWID;
CREATE INDEX till_of_canteen ON till (canteen);
CREATE INDEX ceiling_not_acknowledged ON ceiling (till, epoch, rv) WHERE highest > ceiling;

-- The batches lead, so that every entry is found by its number.
INSERT INTO ceiling (account, till, epoch, gross, used)
SELECT k.from_account, b.till, b.epoch, sum(k.amount), max(k.id)
FROM batch b
CROSS JOIN journal j ON j.id >= b.first_id AND j.id < b.first_id + b.entries
CROSS JOIN booking k ON k.id = j.booking
WHERE k.kind = 'sale' AND k.from_account > 0
GROUP BY k.from_account, b.till, b.epoch;
