-- The event's id is the natural key: stored once, however often it is delivered.
CREATE TABLE clicks (
    event_id   uuid        PRIMARY KEY,
    user_id    bigint      NOT NULL,
    page       text        NOT NULL,
    session_id text,
    stored_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE product_updates (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id  bigint      NOT NULL,
    version     bigint      NOT NULL,
    name        text,
    stock       bigint,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT product_updates_version_key UNIQUE (product_id, version)
);
