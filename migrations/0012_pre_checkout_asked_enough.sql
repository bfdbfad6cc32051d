-- Written by the completers when they ask a gateway about a failed payment for the last time. Alone in its file: who
-- adds a column keeps everybody out until the commit, and an index takes as long as the table.
ALTER TABLE checkout.payments ADD COLUMN asked_enough boolean NOT NULL DEFAULT false;
