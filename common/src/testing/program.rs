//! A service as a process of its own, from its binary, which can be made to die on the way: in the build with failpoints.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::{Client, DEADLINE, Method, Reply, Sandbox, client, eventually, journal_dir};
use crate::Mode;

/// A running process; ended by force when dropped.
pub struct Program {
    client: Client,
    child: Child,
}

impl Deref for Program {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Sandbox {
    /// Starts the binary `file`, such as `env!("CARGO_BIN_EXE_userservice")`, and waits until it is ready.
    pub async fn spawn(&self, file: &str, mode: Mode, env: &[(&str, &str)]) -> Program {
        let program = self.spawn_unready(file, mode, env).await;
        let ready = async || program.try_request(Method::GET, "/ready", &[], None).await;
        eventually("the program is ready", async || ready().await.is_some_and(|reply| reply.status == 200))
            .await;
        program
    }

    /// Starts a binary that may lack what it needs, or die while it starts.
    pub async fn spawn_unready(&self, file: &str, mode: Mode, env: &[(&str, &str)]) -> Program {
        let log = std::env::temp_dir().join(format!("{}.log", Uuid::now_v7().simple()));
        let output = File::create(&log).expect("a folder for temporary files");
        let mut command = Command::new(file);
        command
            .env_clear()
            .env("COMM_MODE", mode.as_str())
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("DATABASE_URL", &self.database_url)
            .env("DB_SCHEMA", &self.schema)
            .envs(self.broker())
            .env("LOG_FORMAT", "json")
            .env("JOURNAL_DIR", journal_dir())
            .envs(std::env::vars().filter(|(n, _)| n == contract::DISABLED_PROTECTION))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut program = Program { client: Client { base: String::new(), http: client() }, child };
        let address = || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines
                .find_map(|line| line["addr"].as_str().or(line["fields"]["addr"].as_str()).map(str::to_owned))
        };
        eventually("the program listens", async || address().is_some()).await;
        program.client.base = format!("http://{}", address().unwrap_or_default());
        std::fs::remove_file(&log).ok();
        program
    }
}

impl Program {
    /// `POST` that the program may not live to answer.
    pub async fn try_post(&self, path: &str, key: Option<&str>, body: Value) -> Option<Reply> {
        let key = key.map(|key| ("idempotency-key", key));
        self.try_request(Method::POST, path, key.as_slice(), Some(body.to_string())).await
    }

    /// Waits until it has died at its failpoint.
    ///
    /// # Panics
    /// When it lives on, or ends in another way.
    pub async fn died(mut self) {
        use std::os::unix::process::ExitStatusExt;
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let ended = loop {
            if let Some(ended) = self.child.try_wait().expect("our child") {
                break ended;
            }
            assert!(tokio::time::Instant::now() < deadline, "the failpoint was not reached");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(ended.signal(), Some(6), "abort() is SIGABRT; it ended with {ended}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Sandbox {
    /// How often witnesses recorded each subject of a kind, such as `effect:email` or `applied:<queue>`.
    pub async fn witnessed(&self, kind: &str) -> Vec<(String, i64)> {
        let select =
            "SELECT subject, count(*) FROM witness WHERE kind = $1 GROUP BY subject ORDER BY subject";
        sqlx::query_as(select).bind(kind).fetch_all(&self.pool().await).await.expect("witnesses")
    }

    /// The ids of the messages in a queue, each once.
    pub async fn message_ids(&self, queue: &str) -> BTreeSet<String> {
        let id = |message: Value| message["properties"]["message_id"].as_str().unwrap_or_default().to_owned();
        self.messages(queue).await.into_iter().map(id).collect()
    }

    /// As if so much time had passed that no request can still be at work on its `Idempotency-Key`.
    pub async fn lease_ends(&self) {
        let update = sqlx::query("UPDATE idempotency_keys SET leased_until = now()");
        update.execute(&self.pool().await).await.expect("the database answers");
    }

    /// Waits until the outbox is empty.
    pub async fn relayed(&self) {
        let pool = self.pool().await;
        let waiting = async || -> i64 {
            sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&pool).await.expect("an outbox")
        };
        eventually("the outbox is empty", async || waiting().await == 0).await;
    }
}

impl Client {
    /// Waits until this many messages of the queue are settled, and returns how: `ok`, `duplicate`, and so on.
    pub async fn settled(&self, queue: &str, messages: usize) -> Vec<String> {
        let all = async || {
            let mut settled = Vec::new();
            for outcome in ["ok", "duplicate", "retry", "dead"] {
                let times = self.consumed(queue, outcome).await as usize;
                settled.extend(std::iter::repeat_n(outcome.to_owned(), times));
            }
            settled
        };
        eventually("the messages are settled", async || all().await.len() >= messages).await;
        all().await
    }
}
