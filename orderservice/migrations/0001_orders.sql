-- The row is the log of the order's saga: what is pending for too long is taken up again from here.
CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id  bigint      NOT NULL,
    quantity    bigint      NOT NULL,
    status      text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'failed', 'completed')),
    reason      text,
    compensated boolean     NOT NULL DEFAULT false,
    -- Identity and start of the workflow, so that what is taken up later still belongs to it.
    context     jsonb       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    tried_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_pending ON orders (tried_at) WHERE status = 'pending';
