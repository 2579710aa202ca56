#!/bin/sh
# Runs once, in an empty volume: creates a login and a schema for each service, and revokes all other rights.
set -eu

# contract: services (written by ./study contract --write)
logins="userservice paymentservice productservice reportservice orderservice analyticsservice emailservice searchservice cacheservice inventoryservice"
# contract: end

sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="${SERVICE_DB_PASSWORD:?}" "$@"; }

echo "REVOKE ALL ON SCHEMA public FROM PUBLIC;
    REVOKE CREATE, TEMPORARY ON DATABASE $POSTGRES_DB FROM PUBLIC;" | sql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
# LOGINS: those of another stack than the study's.
for login in ${LOGINS:-$logins}; do
    echo "CREATE ROLE ${login} LOGIN PASSWORD :'password';
        CREATE SCHEMA ${login} AUTHORIZATION ${login};"
done | sql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
