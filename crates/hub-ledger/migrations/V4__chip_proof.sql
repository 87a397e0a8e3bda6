-- The version of the keys that the chip was enrolled with, and must prove itself by from then on;
-- null for a chip that pays by its UID alone.
ALTER TABLE chip ADD COLUMN key_version INTEGER CHECK (key_version BETWEEN 0 AND 255);
