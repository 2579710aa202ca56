-- The lane of a row: empty while it goes with the next batch, else the destination that it waits for. Both are ranges of the
-- primary key, so a batch never reads past rows that wait, and a destination's rows are found in their order.
ALTER TABLE outbox ADD COLUMN waits_for text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE outbox DROP CONSTRAINT outbox_pkey, ADD PRIMARY KEY (waits_for, seq);
