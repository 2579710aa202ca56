CREATE TABLE inventory (
    product_id bigint PRIMARY KEY,
    -- What a reset brings back.
    seed_stock bigint NOT NULL,
    stock      bigint NOT NULL CHECK (stock >= 0),
    reserved   bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    CONSTRAINT inventory_reserved_check1 CHECK (reserved <= stock)
);

-- Enough for load runs: what they reserve is released again, but much may be reserved at once.
INSERT INTO inventory (product_id, seed_stock, stock) VALUES (1, 10000, 10000), (2, 10000, 10000), (3, 10000, 10000);

-- What is held for an order, and what became of it. A row without a product is a tombstone: the order was given up before
-- its reservation came, which then must not be made.
CREATE TABLE reservations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id   bigint,
    product_id bigint,
    quantity   bigint      NOT NULL,
    state      text        NOT NULL CHECK (state IN ('reserved', 'released', 'committed', 'rejected')),
    reason     text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reservations_order_id_key UNIQUE (order_id)
);
CREATE INDEX reservations_open_without_order ON reservations (product_id, quantity)
    WHERE order_id IS NULL AND state = 'reserved';
