-- What made an order fail, as a type: the answer to the client follows from it, not from the text of the reason.
ALTER TABLE orders ADD COLUMN cause text CHECK (cause IN ('stock', 'payment', 'interrupted', 'overdue'));
UPDATE orders SET cause = CASE
    WHEN reason IN ('Unknown product', 'Insufficient stock',
        'The reservation of this order is for another product or quantity') THEN 'stock'
    WHEN reason = 'Interrupted' THEN 'interrupted'
    WHEN reason = 'Order given up: it was pending for too long' THEN 'overdue'
    ELSE 'payment' END
WHERE status = 'failed';
