-- 1 when the chip must prove itself: its bare UID does not pay.
ALTER TABLE chip ADD COLUMN must_prove INTEGER NOT NULL DEFAULT 0 CHECK (must_prove IN (0, 1));
