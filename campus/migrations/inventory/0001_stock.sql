-- The stock of an item is its seed, which the stack defines, less the units that are taken.
CREATE TABLE taken (
    item  text   PRIMARY KEY,
    units bigint NOT NULL CHECK (units >= 0)
);
-- One row per order, whatever became of it. A row `released` without an item is a tombstone: a reservation that comes later
-- finds it.
CREATE TABLE reservations (
    order_id text PRIMARY KEY,
    item     text,
    quantity bigint,
    state    text NOT NULL CHECK (state IN ('reserved', 'unknown_item', 'insufficient_stock', 'released'))
);
