-- A row names the destination of its event instead of RabbitMQ's exchange and routing key. Rows that are stored keep theirs.
ALTER TABLE outbox ADD COLUMN destination text CHECK (destination <> '');
UPDATE outbox SET destination = coalesce(nullif(exchange, ''), nullif(routing_key, ''), '(none)');
ALTER TABLE outbox ALTER COLUMN destination SET NOT NULL;
ALTER TABLE outbox DROP COLUMN exchange, DROP COLUMN routing_key;
