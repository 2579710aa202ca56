CREATE TABLE orders (
    order_id    uuid PRIMARY KEY,
    seq         bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    item        text        NOT NULL,
    quantity    bigint      NOT NULL,
    -- Only in the stack orders003.
    student_id  text,
    status      text        NOT NULL DEFAULT 'placed'
                CHECK (status IN ('placed', 'reserved', 'notified', 'failed', 'timeout')),
    -- Inventory may have reserved stock for this order after its end: it has to be asked to release it.
    release_due boolean     NOT NULL DEFAULT false,
    -- Identity and start of the workflow, so that what is done later still belongs to it.
    context     jsonb       NOT NULL,
    -- Seconds since 1970.
    placed_at   float8      NOT NULL DEFAULT extract(epoch FROM now())
);
CREATE INDEX orders_release ON orders (seq) WHERE release_due;
-- Of the sweeper alone: no other statement can imply a predicate on `status || ''`.
CREATE INDEX orders_placed ON orders (placed_at) WHERE (status || '') = 'placed';
