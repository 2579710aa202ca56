-- The orders of each log: a set keyed by the order, so that a record that comes again changes nothing. The times are the first and
-- the last `timestamp` of the order's records, seconds since 1970.
CREATE TABLE placed (
    order_id text PRIMARY KEY,
    first_at float8,
    last_at  float8
);
CREATE TABLE decided (
    order_id text PRIMARY KEY,
    failed   boolean NOT NULL,
    first_at float8,
    last_at  float8
);
-- Resets whose replay has not begun: the groups still have to go back to their first records.
CREATE TABLE replays_due (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
);
