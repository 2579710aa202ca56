-- An index of the sweeper alone: only the sweeper writes `status || ''`, so no other statement can imply this predicate.
-- With a predicate on `status` the planner could read all unfinished jobs to find the one with a given id.
DROP INDEX report_jobs_unfinished;
CREATE INDEX report_jobs_unfinished ON report_jobs (created_at) WHERE (status || '') IN ('queued', 'running');
