CREATE TABLE users (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email      text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One user an address, compared without case.
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
