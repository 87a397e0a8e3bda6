-- Strict limits. `shares` is the record of the feed (sync-proto, LimitSharesRecord) as JSON; null
-- while the hub gave none.
ALTER TABLE account ADD COLUMN limit_mode TEXT NOT NULL DEFAULT 'lenient'
    CHECK (limit_mode IN ('lenient', 'strict'));
ALTER TABLE account ADD COLUMN shares TEXT;

-- Own sales, counted gross, in the windows of sold_on, and those of them up to incl_seq.
ALTER TABLE account ADD COLUMN sold_on TEXT NOT NULL DEFAULT '2000-01-01';
ALTER TABLE account ADD COLUMN sold_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN sold_week INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN sold_month INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN sold_incl_on TEXT NOT NULL DEFAULT '2000-01-01';
ALTER TABLE account ADD COLUMN sold_incl_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN sold_incl_week INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN sold_incl_month INTEGER NOT NULL DEFAULT 0;

-- How much of the sales fell in the windows of that day is not known here. All of them is never too
-- little, and the figures are looked at only in windows that are still to come.
UPDATE account SET
    sold_on = spent_on, sold_day = gross, sold_week = gross, sold_month = gross,
    sold_incl_on = spent_on, sold_incl_day = gross_incl, sold_incl_week = gross_incl,
    sold_incl_month = gross_incl;
