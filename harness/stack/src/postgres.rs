//! A PostgreSQL of the stack: data in the stack's folder, loopback only, no Unix socket (its path could be too long), durable by
//! default. One database; one login and one schema per service.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contract::Service;
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};

use super::database::Database;
use super::process::{self, Process};
use super::run_as::Account;
use super::signals;

pub const DATABASE: &str = "microservices_db";
/// Superuser and password; the port is on loopback only.
pub const SUPERUSER: &str = "postgres";

/// `durable` is false only for tests, which discard their data.
pub fn start(dir: &Path, port: u16, log: PathBuf, durable: bool) -> Result<Process> {
    let data = dir.join("postgres");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data)
        .with_context(|| format!("cannot create {}", data.display()))?;
    let account = Account::for_servers(&data)?;
    account.own(&data)?;
    let programs = programs(fs::read_to_string(data.join("PG_VERSION")).ok().as_deref())?;
    if !data.join("PG_VERSION").exists() {
        initialize(&programs, &data, &account, durable)?;
    }
    let mut command = account.server(&programs.join("postgres"), "INT");
    command.arg("-D").arg(&data).arg("-p").arg(port.to_string());
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"] {
        command.args(["-c", setting]);
    }
    // The details of an error contain the row, such as an e-mail address.
    command.args(["-c", "log_error_verbosity=terse"]);
    if !durable {
        command.args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]);
    }
    command.current_dir(&data);
    Process::spawn("postgresql", port, log, Signal::INT, &mut command)
}

fn initialize(programs: &Path, data: &Path, account: &Account, durable: bool) -> Result<()> {
    let password = data.with_extension("password");
    fs::write(&password, SUPERUSER)?;
    account.own(&password)?;
    let mut command = account.server(&programs.join("initdb"), "TERM");
    command.arg("-D").arg(data).args([
        "-U",
        SUPERUSER,
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
    ]);
    command.arg("--pwfile").arg(&password);
    if !durable {
        command.arg("--no-sync");
    }
    let output = command.current_dir(data).stdin(Stdio::null()).output().context("cannot run initdb")?;
    fs::remove_file(&password)?;
    if !output.status.success() {
        // An incomplete data folder would be used at the next start.
        fs::remove_dir_all(data).ok();
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The folder of `initdb` and `postgres`: of the data's version, else of the newest.
fn programs(made_by: Option<&str>) -> Result<PathBuf> {
    let mut folders: Vec<(u32, PathBuf)> = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/pgsql", "/usr/local/pgsql"] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            folders.push((version, entry.path().join("bin")));
        }
    }
    if let Some(folder) = process::on_path("initdb").and_then(|file| file.canonicalize().ok()) {
        folders.extend(folder.parent().map(|folder| (0, folder.to_owned())));
    }
    folders.retain(|(_, folder)| folder.join("initdb").exists() && folder.join("postgres").exists());
    let wanted: u32 = made_by.and_then(|version| version.trim().parse().ok()).unwrap_or(0);
    folders
        .into_iter()
        .max_by_key(|(version, _)| (*version == wanted, *version))
        .map(|(_, folder)| folder)
        .context("PostgreSQL is not installed (no initdb found): install the package postgresql")
}

pub fn url(user: &str, password: &str, port: u16, database: &str) -> String {
    format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
}

/// Waits until it answers.
pub fn wait(process: &mut Process, limit: Duration) -> Result<()> {
    let url = url(SUPERUSER, SUPERUSER, process.port, "postgres");
    let deadline = Instant::now() + limit;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        process.check()?;
        let answer = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(2), async {
                PgConnection::connect(&url).await?.close().await
            })
            .await
        });
        match answer {
            Ok(Ok(())) => break,
            Ok(Err(error)) if Instant::now() > deadline => {
                bail!(
                    "PostgreSQL does not answer ({error}); its log ends:{}",
                    process::tail(&process.log, 12)
                )
            }
            Err(_) if Instant::now() > deadline => {
                bail!("PostgreSQL does not answer on port {}", process.port)
            }
            _ => signals::pause(Duration::from_millis(30))?,
        }
    }
    process.ready_after = Some(process.started.elapsed());
    Ok(())
}

/// Creates the database, and for each service its login and the schema it owns, where they are missing.
/// `server` is the URL of a superuser without the database.
pub fn prepare(server: &str, database: &str, logins: &[&str]) -> Result<()> {
    let make = || -> Result<()> {
        let mut all = Database::connect(&format!("{server}/postgres"))?;
        // Logins belong to the server, not to the database: two stacks on one server must not create them at the same time.
        all.execute("SELECT pg_advisory_lock(20260101)")?;
        for service in logins {
            let known: Vec<(i32,)> =
                all.rows(&format!("SELECT 1 FROM pg_roles WHERE rolname = '{service}'"))?;
            // In a container they exist, with other passwords.
            let verb = if known.is_empty() { "CREATE" } else { "ALTER" };
            all.execute(&format!("{verb} ROLE {service} LOGIN PASSWORD '{service}'"))?;
        }
        let known: Vec<(i32,)> =
            all.rows(&format!("SELECT 1 FROM pg_database WHERE datname = '{database}'"))?;
        if known.is_empty() {
            all.execute(&format!("CREATE DATABASE {database}"))?;
        }
        all.close()?;

        let mut sql = format!(
            "REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC;"
        );
        for service in logins {
            sql += &format!("CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {service};");
        }
        let mut own = Database::connect(&format!("{server}/{database}"))?;
        own.execute(&sql)?;
        own.close()
    };
    make().context("cannot prepare the database")
}

/// Ends the connections of one login, or of all ten services.
pub fn terminate_backends(server: &str, login: Option<&str>) -> Result<u64> {
    let logins = login.map_or_else(|| Service::ALL.map(Service::name).join("', '"), ToOwned::to_owned);
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename IN ('{logins}')"
    );
    let mut database = Database::connect(&format!("{server}/postgres"))?;
    let (ended,): (i64,) = database.row(&sql)?;
    database.close()?;
    Ok(ended.unsigned_abs())
}

pub fn drop_database(server: &str, database: &str) -> Result<()> {
    let mut all = Database::connect(&format!("{server}/postgres"))?;
    all.execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))?;
    all.close()
}
