//! A service reads its documented settings, and no variables that the shell has for other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stack::Mode;

use crate::fixture;

fn programs() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned()
}

/// Variables of a developer who also works on other servers.
const SHELL: [(&str, &str); 14] = [
    ("PGHOST", "192.0.2.1"),
    ("PGPORT", "1"),
    ("PGUSER", "x"),
    ("PGDATABASE", "x"),
    ("PGPASSWORD", "x"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/nowhere"),
    ("PGOPTIONS", "-c no_such_setting=1"),
    ("PGAPPNAME", "x"),
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("http_proxy", "http://127.0.0.1:9"),
    ("ALL_PROXY", "http://127.0.0.1:9"),
    ("OTEL_SDK_DISABLED", "true"),
    ("LC_ALL", "xx_YY"),
];

/// A stack has started when its services are ready.
#[test]
fn services_work_whatever_the_shell_holds_for_other_programs() {
    let (stack, _folder) = fixture::start("shell", Mode::Async, &SHELL);
    for (name, pid) in stack.pids() {
        let told = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let foreign = |one: &&[u8]| one.starts_with(b"PG") || one.starts_with(b"OTEL_");
        let foreign = told.split(|byte| *byte == 0).find(foreign).map(String::from_utf8_lossy);
        assert_eq!(foreign, None, "{name}");
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert!(name.starts_with(program.trim()), "{name} calls itself {program}");
    }
    stack.stop().unwrap();
}

/// Exit code and output; a service that does not end is killed.
fn start(program: &Path, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.arg("20").arg(program).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("COMM_MODE", "async").env("LISTEN_ADDR", "127.0.0.1:0");
    command.env("DATABASE_URL", "postgres://u:p@127.0.0.1:1/d").env("AMQP_URL", "amqp://u:p@127.0.0.1:1/v");
    let output = command.envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_address_that_cannot_be_one_ends_the_start_in_one_line_that_names_the_setting() {
    let program = programs().join("userservice");
    for (name, value) in [
        ("DATABASE_URL", "mysql://u:secret@127.0.0.1/d"),
        ("DATABASE_URL", "postgres://u:secret@127.0.0.1/d?sslmode=verify-full"),
        ("AMQP_URL", "http://u:secret@127.0.0.1:5672"),
        ("AMQP_URL", "amqp://127.0.0.1/?heartbeat=abc"),
        ("AMQP_URL", "amqp://127.0.0.1/v?heart_beat=10"),
        ("AMQP_URL", "amqps://u:secret@127.0.0.1/v"),
        ("AMQP_URL", ""),
        ("LISTEN_ADDR", "localhost"),
        ("JOURNAL_DIR", "/dev/null/x"),
        ("EMAIL_SERVICE_URL", "emailservice:8000"),
        ("EMAIL_SERVICE_URL", "https://emailservice"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("DB_SCHEMA", "pg_mine"),
        ("POSTGRES_PORT", "0"),
        ("RUST_LOG", "loud=="),
    ] {
        let (code, said) = start(&program, &[(name, value)]);
        assert_eq!(code, Some(2), "{name}={value}: {said}");
        assert!(said.contains(name) && said.lines().count() == 1, "{name}={value}: {said}");
        assert!(!said.contains("secret"), "{name}={value}: {said}");
    }
    for (given, named) in [
        ([("DATABASE_URL", ""), ("POSTGRES_HOST", " db")], "POSTGRES_HOST"),
        ([("DATABASE_URL", ""), ("POSTGRES_HOST", "db:5432")], "POSTGRES_HOST"),
        ([("AMQP_URL", ""), ("RABBITMQ_HOST", "/var/run")], "RABBITMQ_HOST"),
    ] {
        let (code, said) = start(&program, &given);
        assert_eq!(code, Some(2), "{given:?}: {said}");
        assert!(said.contains(named) && !said.contains("_URL"), "{given:?}: {said}");
    }
}
