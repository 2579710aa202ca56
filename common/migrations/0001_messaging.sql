-- Events that are durably on their way: written with the effect, deleted when the broker has confirmed them.
CREATE TABLE outbox (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id  uuid        NOT NULL,
    event       text        NOT NULL,
    exchange    text        NOT NULL,
    routing_key text        NOT NULL,
    context     jsonb       NOT NULL,
    body        bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Events that were applied: written with the effect, so that a second delivery is recognised.
CREATE TABLE inbox (
    queue       text        NOT NULL,
    message_id  text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, message_id)
);
CREATE INDEX inbox_applied_at ON inbox (applied_at);

-- Answers by Idempotency-Key. No answer yet: at work until the lease ends, then free to be resumed at its subject.
CREATE TABLE idempotency_keys (
    key          text        PRIMARY KEY,
    fingerprint  bytea       NOT NULL,
    subject      text,
    answer       jsonb,
    leased_until timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
