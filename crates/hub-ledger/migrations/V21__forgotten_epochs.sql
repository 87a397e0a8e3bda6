-- Whether the epoch was taken from what the till sent, because a restored store knew nothing of it:
-- its token is unknown, so the till is still at work in it and needs a new code.
ALTER TABLE till_epoch ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1));
UPDATE till_epoch SET forgotten = 1
WHERE EXISTS (SELECT 1 FROM flag f WHERE f.code = 'forgotten_epoch' AND f.till = till_epoch.till
  AND f.epoch = till_epoch.epoch);
