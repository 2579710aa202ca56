-- One welcome e-mail a user, however often it is asked for.
CREATE TABLE emails (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint      NOT NULL,
    email   text        NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT emails_user_id_key UNIQUE (user_id)
);
