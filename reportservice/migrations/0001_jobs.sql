CREATE TABLE report_jobs (
    job_id                   text        PRIMARY KEY,
    report_type              text        NOT NULL,
    status                   text        NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'failed')),
    report_hash              text,
    iterations               bigint,
    computation_time_seconds double precision,
    created_at               timestamptz NOT NULL DEFAULT now(),
    started_at               timestamptz,
    finished_at              timestamptz
);
CREATE INDEX report_jobs_unfinished ON report_jobs (created_at) WHERE status IN ('queued', 'running');
