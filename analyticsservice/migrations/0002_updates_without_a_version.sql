-- A call that names no version must not take the number of one that comes later: each NULL is distinct.
ALTER TABLE product_updates ALTER COLUMN version DROP NOT NULL;
