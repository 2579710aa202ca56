-- The oldest open reservation of a product and quantity is the first entry, without a sort. No other index has this order,
-- so the planner cannot read the primary key through all reservations that have ended.
DROP INDEX reservations_open_without_order;
CREATE INDEX reservations_open_without_order ON reservations (product_id, quantity, created_at)
    WHERE order_id IS NULL AND state = 'reserved';
