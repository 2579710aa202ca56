-- An index of the sweeper alone: only the sweeper writes `status || ''`, so no other statement can imply this predicate.
-- With the predicate `status = 'processing'` the planner could read all of these payments to find the one with a given id.
DROP INDEX payments_processing;
CREATE INDEX payments_processing ON payments (created_at) WHERE (status || '') = 'processing';
