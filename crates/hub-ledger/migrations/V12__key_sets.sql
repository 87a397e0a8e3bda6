-- The master keys of a canteen's chips, one row for each version, sealed by the hub's own key.
-- A revoked version is never used again, and stays for the record.
CREATE TABLE key_set (
  canteen INTEGER NOT NULL REFERENCES canteen,
  version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 255),
  sealed BLOB NOT NULL,
  made_at INTEGER NOT NULL,
  revoked_at INTEGER,
  PRIMARY KEY (canteen, version)
) STRICT, WITHOUT ROWID;
