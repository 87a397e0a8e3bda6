-- Since when the tills of a canteen may sell more beyond what the accounts hold than an operator
-- wants; null while they may not.
ALTER TABLE canteen ADD COLUMN exposed_since INTEGER;
