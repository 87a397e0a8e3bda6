-- The newest top-ups of all accounts.
CREATE INDEX top_up_in_order ON top_up (created_at);
-- Whether a till's ledger has raised an alarm already.
CREATE INDEX flag_of_till ON flag (till, code, epoch) WHERE till IS NOT NULL;
