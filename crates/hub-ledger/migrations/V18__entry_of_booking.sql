-- Which entry became a booking: a flag that follows from the order of all entries names it.
CREATE INDEX journal_of_booking ON journal (booking) WHERE booking IS NOT NULL;
