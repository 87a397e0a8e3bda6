-- Rises while the program runs, beside the store and in it, so that an older copy of the store is
-- known when it is put back.
ALTER TABLE hub ADD COLUMN lease INTEGER NOT NULL DEFAULT 0;
-- Since when no card is charged because charges may be missing here.
ALTER TABLE hub ADD COLUMN top_ups_paused_at INTEGER;

-- Since when the store, restored from a backup, waits to hear what the canteen's tills may sell; null
-- when it knows.
ALTER TABLE canteen ADD COLUMN frozen_at INTEGER;

-- The life of the store to which the epoch has told what it may sell.
ALTER TABLE till_epoch ADD COLUMN reported INTEGER;
UPDATE till_epoch SET reported = (SELECT hub_epoch FROM hub);

-- The parts of a till's report that have come.
CREATE TABLE report_part (
  till TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  hub_epoch INTEGER NOT NULL,
  part INTEGER NOT NULL,
  PRIMARY KEY (till, epoch, hub_epoch, part),
  FOREIGN KEY (till, epoch) REFERENCES till_epoch
) STRICT, WITHOUT ROWID;
