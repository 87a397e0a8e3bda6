-- Deposits and top-ups that were taken back: charged back by the bank, or booked by mistake.
CREATE TABLE deposit_reversal (
  deposit INTEGER PRIMARY KEY REFERENCES booking,
  reversal INTEGER NOT NULL UNIQUE REFERENCES booking
) STRICT;
CREATE TRIGGER deposit_reversal_is_never_changed BEFORE UPDATE ON deposit_reversal
BEGIN SELECT raise(ABORT, 'reversals are append-only'); END;
CREATE TRIGGER deposit_reversal_is_never_deleted BEFORE DELETE ON deposit_reversal
BEGIN SELECT raise(ABORT, 'reversals are append-only'); END;

-- What a guardian's own deposit by card was charged as. The same amount is not charged to that card
-- again before the spacing of top-ups is over.
CREATE TABLE card_deposit (
  booking INTEGER PRIMARY KEY REFERENCES booking,
  -- The portal's name for the charge, and the gateway's.
  reference TEXT NOT NULL,
  gateway_transaction TEXT NOT NULL UNIQUE,
  -- The gateway's name for the stored card, where it is one.
  card TEXT,
  amount INTEGER NOT NULL,
  charged_at INTEGER NOT NULL,
  -- When a settlement file of the gateway had it, or was found to lack it.
  reconciled_at INTEGER
) STRICT;
CREATE INDEX card_deposit_by_card ON card_deposit (card, amount, charged_at) WHERE card IS NOT NULL;
CREATE INDEX card_deposit_not_reconciled ON card_deposit (charged_at) WHERE reconciled_at IS NULL;

-- Since when the gateway holds a charge back that it had approved; nothing but its settlement file,
-- or a person, says what becomes of the money.
ALTER TABLE top_up ADD COLUMN suspended_at INTEGER;
-- As in card_deposit.
ALTER TABLE top_up ADD COLUMN reconciled_at INTEGER;
CREATE INDEX top_up_by_transaction ON top_up (gateway_transaction)
  WHERE gateway_transaction IS NOT NULL;
CREATE INDEX top_up_not_reconciled ON top_up (sent_at)
  WHERE reconciled_at IS NULL AND state = 'settled';
