//! Ten logins on one database: each uses its own schema, and none can read another's or gain privileges.

use contract::Service;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection};
use stack::Mode;

use crate::fixture;

const DENIED: &str = "42501";
const WRONG_PASSWORD: &str = "28P01";

/// The SQLSTATE of the refusal; `None` if it was allowed.
async fn refusal(connection: &mut PgConnection, sql: String) -> Option<String> {
    let refused = connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.err()?;
    Some(refused.as_database_error().unwrap().code().unwrap().into_owned())
}

#[test]
fn each_login_uses_its_own_schema_and_nothing_else() {
    let (stack, _folder) = fixture::start("roles", Mode::Sync, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(look_around(stack.database_url().parse().unwrap()));
    stack.stop().unwrap();
}

async fn look_around(superuser: PgConnectOptions) {
    let mut root = PgConnection::connect_with(&superuser).await.unwrap();
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE '%service' ORDER BY 1, 2",
    )
    .fetch_all(&mut root)
    .await
    .unwrap();
    let owners =
        Service::ALL.iter().filter(|service| tables.iter().any(|(schema, _)| schema == service.name()));
    assert_eq!(owners.count(), 9, "all but the cache store something: {tables:?}");

    for service in Service::ALL {
        let name = service.name();
        let login = superuser.clone().username(name).password(name);
        let mut own = PgConnection::connect_with(&login).await.unwrap();
        for (schema, table) in &tables {
            let expected = (schema != name).then(|| DENIED.to_owned());
            for sql in
                [format!("SELECT * FROM {schema}.{table}"), format!("SELECT count(*) FROM {schema}.{table}")]
            {
                assert_eq!(refusal(&mut own, sql).await, expected, "{name}: {schema}.{table}");
            }
            if schema != name {
                for sql in [
                    format!("DELETE FROM {schema}.{table}"),
                    format!("DROP TABLE {schema}.{table}"),
                    format!("GRANT ALL ON {schema}.{table} TO {name}"),
                    format!("CREATE TABLE {schema}.planted (x int)"),
                ] {
                    assert_eq!(
                        refusal(&mut own, sql.clone()).await.as_deref(),
                        Some(DENIED),
                        "{name}: {sql}"
                    );
                }
            }
        }
        let made = format!("CREATE TABLE {name}.made (x int); DROP TABLE {name}.made");
        assert_eq!(refusal(&mut own, made).await, None, "{name} owns its schema");
        let other = if name == "userservice" { "orderservice" } else { "userservice" };
        for sql in [
            "CREATE TABLE public.planted (x int)".to_owned(),
            "CREATE SCHEMA planted".to_owned(),
            "CREATE TEMPORARY TABLE planted (x int)".to_owned(),
            "CREATE ROLE planted".to_owned(),
            "CREATE DATABASE planted".to_owned(),
            format!("SET ROLE {other}"),
            "SET ROLE postgres".to_owned(),
            format!("ALTER ROLE {name} SUPERUSER"),
            format!("GRANT pg_read_server_files TO {name}"),
            format!("ALTER ROLE {other} PASSWORD 'mine'"),
            "SELECT pg_read_file('postgresql.conf')".to_owned(),
            "COPY (SELECT 1) TO PROGRAM 'true'".to_owned(),
            "SELECT rolpassword FROM pg_authid".to_owned(),
        ] {
            assert_eq!(refusal(&mut own, sql.clone()).await.as_deref(), Some(DENIED), "{name}: {sql}");
        }
        let more: bool = sqlx::query_scalar(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
             OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid) FROM pg_roles WHERE rolname = current_user",
        )
        .fetch_one(&mut own)
        .await
        .unwrap();
        assert!(!more, "{name} is or may be more than a plain login");
        let stolen = PgConnection::connect_with(&login.username(other)).await.unwrap_err();
        let code = stolen.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        assert_eq!(code.as_deref(), Some(WRONG_PASSWORD), "{name} as {other}");
    }
}
