CREATE TABLE notifications (
    order_id    text PRIMARY KEY,
    seq         bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    item        text   NOT NULL,
    quantity    bigint,
    status      text   NOT NULL,
    -- Seconds since 1970.
    notified_at float8 NOT NULL DEFAULT extract(epoch FROM now())
);
