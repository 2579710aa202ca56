-- An index of the sweeper alone: only the sweeper writes `status || ''`, so no other statement can imply this predicate.
-- With the predicate `status = 'pending'` the planner could read all pending orders to find the one with a given id.
DROP INDEX orders_pending;
CREATE INDEX orders_pending ON orders (tried_at) WHERE (status || '') = 'pending';
