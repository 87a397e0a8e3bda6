-- Charges that the gateway has taken and of which nobody can tell from the books what they were for.
-- While one is open, its card is not charged again.
CREATE TABLE unmatched_charge (
  id INTEGER PRIMARY KEY,
  gateway_transaction TEXT NOT NULL UNIQUE,
  reference TEXT NOT NULL,
  card TEXT NOT NULL,
  amount INTEGER NOT NULL,
  charged_at INTEGER NOT NULL,
  found_at INTEGER NOT NULL,
  resolved_at INTEGER,
  -- taken_in: credited as a top-up; paid_in: as a deposit; dismissed: it is nobody's here.
  resolution TEXT CHECK (resolution IN ('taken_in', 'paid_in', 'dismissed')),
  CHECK ((resolved_at IS NULL) = (resolution IS NULL))
) STRICT;
CREATE INDEX unmatched_charge_open ON unmatched_charge (card) WHERE resolved_at IS NULL;

-- Whose card it is, and what waits for it.
CREATE INDEX agreement_by_card ON agreement (card, account);
CREATE INDEX top_up_by_card ON top_up (card) WHERE state IN ('intent', 'stuck');
