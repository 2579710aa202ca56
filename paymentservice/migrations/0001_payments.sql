CREATE TABLE payments (
    payment_id     text             PRIMARY KEY,
    status         text             NOT NULL CHECK (status IN ('processing', 'success', 'failed', 'refunded')),
    -- As the client wrote it: amounts are shown again, never added up.
    amount         double precision NOT NULL,
    currency       text             NOT NULL,
    order_id       bigint,
    -- Taken by the saga of the order, not by POST /process_payment.
    saga           boolean          NOT NULL DEFAULT false,
    transaction_id text,
    reason         text,
    created_at     timestamptz      NOT NULL DEFAULT now(),
    updated_at     timestamptz      NOT NULL DEFAULT now()
);

-- At most one payment an order.
CREATE UNIQUE INDEX payments_saga_order_key ON payments (order_id) WHERE saga;
CREATE INDEX payments_processing ON payments (created_at) WHERE status = 'processing';

-- What was taken, noted apart from the payments.
CREATE TABLE payment_audit (
    payment_id     text        PRIMARY KEY,
    transaction_id text        NOT NULL,
    status         text        NOT NULL,
    noted_at       timestamptz NOT NULL DEFAULT now()
);
