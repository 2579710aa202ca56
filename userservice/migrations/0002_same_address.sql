-- What all spellings of an address have in common, as common::email::identity writes it: the database's own lower() depends
-- on its locale and knows no composed letters. Addresses from before keep what they were compared by.
ALTER TABLE users ADD COLUMN identity text;
UPDATE users SET identity = lower(email);
ALTER TABLE users ALTER COLUMN identity SET NOT NULL;
DROP INDEX users_email_key;
CREATE UNIQUE INDEX users_identity_key ON users (identity);
