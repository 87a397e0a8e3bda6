-- What every booking of a holder did: to the money, and whether it counts against the limits. A
-- refund gives them back on the day of the purchase only.
CREATE VIEW booking_of_holder_in_order AS
SELECT b.id, b.holder, b.day, b.happened_at, b.till, b.kind,
  CASE WHEN b.from_account = b.holder THEN -b.amount ELSE b.amount END AS moved,
  CASE b.kind
    WHEN 'sale' THEN 1
    WHEN 'order' THEN 1
    WHEN 'void' THEN 1
    WHEN 'refund' THEN s.day IS b.day
    ELSE 0
  END AS counts
FROM booking b LEFT JOIN booking s ON b.kind = 'refund' AND s.id = b.reference
WHERE b.holder IS NOT NULL;

-- The sums of what counts against the limits of an account, by day, so that nobody adds up a month
-- of purchases to book one more.
CREATE TABLE spent_by_day (
  account INTEGER NOT NULL REFERENCES account,
  day TEXT NOT NULL,
  spent INTEGER NOT NULL,
  PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;
INSERT INTO spent_by_day (account, day, spent)
SELECT holder, day, -sum(moved) FROM booking_of_holder_in_order WHERE counts GROUP BY holder, day;
CREATE TRIGGER booking_counts_in_its_day AFTER INSERT ON booking
WHEN NEW.holder IS NOT NULL AND NEW.kind IN ('sale', 'order', 'void', 'refund')
BEGIN
  INSERT INTO spent_by_day (account, day, spent)
  SELECT holder, day, -moved FROM booking_of_holder_in_order WHERE id = NEW.id AND counts
  ON CONFLICT (account, day) DO UPDATE SET spent = spent + excluded.spent;
END;

-- The order in which everything happened on an account.
DROP INDEX booking_by_day;
CREATE INDEX booking_in_order ON booking (holder, day, happened_at, till, id)
  WHERE holder IS NOT NULL;

-- The flags of a booking, and the entry that it came from.
CREATE INDEX flag_of_booking ON flag (booking) WHERE booking IS NOT NULL;
CREATE INDEX quarantine_of_booking ON quarantine (booking) WHERE booking IS NOT NULL;
CREATE UNIQUE INDEX batch_by_first_id ON batch (first_id);
CREATE UNIQUE INDEX branch_batch_by_first_id ON branch_batch (first_id);
