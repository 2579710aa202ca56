#!/bin/sh
# Runs once, in an empty volume: creates a login and a schema for each service, and revokes all other rights.
set -eu

# contract: services (written by ./study contract --write)
services="user payment product report order analytics email search cache inventory"
# contract: end

sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="${SERVICE_DB_PASSWORD:?}" "$@"; }

echo "REVOKE ALL ON SCHEMA public FROM PUBLIC;
    REVOKE CREATE, TEMPORARY ON DATABASE $POSTGRES_DB FROM PUBLIC;" | sql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
for service in $services; do
    echo "CREATE ROLE ${service}service LOGIN PASSWORD :'password';
        CREATE SCHEMA ${service}service AUTHORIZATION ${service}service;"
done | sql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
