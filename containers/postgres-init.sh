#!/bin/sh
# Runs once, in an empty volume: a login and a schema for each service, and nothing for anybody else.
set -eu

sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="${SERVICE_DB_PASSWORD:?}" "$@"; }

echo "REVOKE ALL ON SCHEMA public FROM PUBLIC;
    REVOKE CREATE, TEMPORARY ON DATABASE $POSTGRES_DB FROM PUBLIC;" | sql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
for service in user payment product report order analytics email search cache inventory; do
    echo "CREATE ROLE ${service}service LOGIN PASSWORD :'password';
        CREATE SCHEMA ${service}service AUTHORIZATION ${service}service;"
done | sql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
