CREATE TABLE product_index (
    product_id bigint PRIMARY KEY,
    name       text        NOT NULL,
    stock      bigint      NOT NULL,
    version    bigint      NOT NULL,
    words      tsvector    GENERATED ALWAYS AS (to_tsvector('simple', name)) STORED,
    indexed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX product_index_words ON product_index USING gin (words);

-- The products that every installation starts with, as productservice has them.
INSERT INTO product_index (product_id, name, stock, version)
VALUES (1, 'Laptop', 50, 1), (2, 'Mouse', 100, 1), (3, 'Keyboard', 75, 1);
