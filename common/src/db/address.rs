//! Where the database is, from DATABASE_URL or POSTGRES_*. sqlx takes missing parts from the variables and the password file of
//! `psql`. A service has removed these variables (`environment`), and the file is never read.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::DatabaseSettings;
use crate::config::address::{Address, given, host};

/// What sqlx understands. It would ignore anything else, also a misspelt `sslmode`.
const OPTIONS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// With the name of its setting.
///
/// # Errors
/// One line that names the setting that is missing or wrong.
pub(super) fn options(settings: &DatabaseSettings) -> Result<(PgConnectOptions, &'static str), String> {
    match (given(settings.database_url.as_ref()), given(settings.postgres_host.as_ref())) {
        (Some(url), _) => match from_url(url.trim()) {
            Ok(options) => Ok((options, "DATABASE_URL")),
            Err(error) => Err(format!("DATABASE_URL: {error}")),
        },
        (None, Some(host)) => Ok((from_parts(settings, host)?, "POSTGRES_HOST")),
        (None, None) => {
            Err("DATABASE_URL is missing (or POSTGRES_HOST, POSTGRES_USER, POSTGRES_PASSWORD)".into())
        }
    }
}

fn from_url(url: &str) -> Result<PgConnectOptions, String> {
    let address = Address::split(url, &["postgres", "postgresql"], &OPTIONS)?;
    let has = |wanted: &[&str]| address.options.iter().any(|(name, _)| wanted.contains(name));
    if address.host.is_empty() && !has(&["host", "hostaddr"]) {
        return Err("the address names no host".into());
    }
    let plain = |error: sqlx::Error| error.to_string().replace("error with configuration: ", "");
    let mut options = PgConnectOptions::from_str(url).map_err(plain)?;
    if matches!(options.get_ssl_mode(), PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull) {
        return Err("sslmode asks for TLS, which is not built in: use disable or prefer".into());
    }
    // sqlx looks an IPv6 address up with its brackets.
    let bare = options.get_host().trim_matches(['[', ']']).to_owned();
    options = options.host(&bare);
    if !address.has_password && !has(&["password"]) {
        options = options.password("");
    }
    Ok(options)
}

fn from_parts(settings: &DatabaseSettings, place: &str) -> Result<PgConnectOptions, String> {
    for (name, value) in [("POSTGRES_USER", &settings.postgres_user), ("POSTGRES_DB", &settings.postgres_db)]
    {
        if value.is_empty() || value.contains('\0') {
            return Err(format!("{name} is empty or holds the character NUL"));
        }
    }
    let options = PgConnectOptions::new_without_pgpass()
        .port(settings.postgres_port)
        .username(&settings.postgres_user)
        .password(&settings.postgres_password)
        .database(&settings.postgres_db);
    // The folder of a server's socket.
    if place.starts_with('/') {
        return Ok(options.socket(place));
    }
    Ok(options.host(host(place).map_err(|error| format!("POSTGRES_HOST: {error}"))?))
}

/// For people.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        database: DatabaseSettings,
    }

    fn of(url: &str, parts: &[&str]) -> Result<PgConnectOptions, String> {
        let url = format!("--database-url={url}");
        let given = ["x", &url].into_iter().chain(parts.iter().copied());
        options(&<Only as clap::Parser>::try_parse_from(given).unwrap().database).map(|(options, _)| options)
    }

    #[test]
    fn parts_are_taken_as_they_are_beside_an_empty_url() {
        let parts = ["--postgres-host=::1", "--postgres-user=a@b", "--postgres-db=a?b#c/%41"];
        let options = of("", &parts).unwrap();
        assert_eq!(place(&options), "[::1]:5432");
        assert_eq!((options.get_username(), options.get_database()), ("a@b", Some("a?b#c/%41")));
        let options = of("", &["--postgres-host=/var/run/postgresql", "--postgres-port=5433"]).unwrap();
        assert_eq!(place(&options), "/var/run/postgresql/.s.PGSQL.5433");
    }

    #[test]
    fn a_url_is_taken_with_every_option_that_sqlx_has() {
        for (url, at) in [
            ("postgres://u:p@db/d", "db:5432"),
            ("postgresql://u@[::1]:5433/d?sslmode=disable", "[::1]:5433"),
            (
                "postgres:///d?user=u&password=p&host=/run/postgresql&port=5433",
                "/run/postgresql/.s.PGSQL.5433",
            ),
            ("postgres://u:p@%2Frun%2Fpostgresql/d", "/run/postgresql/.s.PGSQL.5432"),
            ("postgres://u:p@db/d?options[geqo]=off&application_name=x", "db:5432"),
            (" postgres://u:p@db/d\n", "db:5432"),
        ] {
            let options =
                of(url, &["--postgres-host=other"]).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(place(&options), at, "{url}");
        }
    }

    #[test]
    fn the_setting_that_is_wrong_is_named_and_its_password_is_not() {
        let url = |error: &str| format!("DATABASE_URL: {error}");
        for (given, wrong) in [
            ("secret", url("the address does not begin with postgres://")),
            ("mysql://u:secret@db/d", url("the address does not begin with postgres://")),
            ("postgres:u:secret@db/d", url("the address does not begin with postgres://")),
            ("postgres://u:secret@db:port/d", url("invalid port")),
            ("postgres://u:secret@db:0/d", url("0 is no port")),
            ("postgres://u:secret@/d", url("")),
            ("postgres://u:secret@d b/d", url("")),
            ("postgres://u:secret@db/d?sslmod=require", url("sslmod is no option")),
            ("postgres://u:secret@db/d?sslmode=always", url("unknown value")),
            ("postgres://u:secret@db/d?sslmode=require", url("sslmode asks for TLS")),
            ("postgres://u:secret@db/d#x", url("a # in the address")),
        ] {
            let error = of(given, &["--postgres-host=db"]).unwrap_err();
            assert!(error.starts_with(&wrong) && !error.contains("secret"), "{given}: {error}");
        }
        for (part, name) in [
            ("--postgres-host= 127.0.0.1", "POSTGRES_HOST: "),
            ("--postgres-host=db:5432", "POSTGRES_HOST: "),
            ("--postgres-host=postgres://db", "POSTGRES_HOST: "),
            ("--postgres-host=", "DATABASE_URL is missing (or POSTGRES_HOST"),
        ] {
            let error = of("", &[part]).unwrap_err();
            assert!(error.starts_with(name), "{part}: {error}");
        }
        let error = of("", &["--postgres-host=db", "--postgres-user="]).unwrap_err();
        assert!(error.starts_with("POSTGRES_USER "), "{error}");
    }
}
