//! The account of PostgreSQL and the broker. PostgreSQL refuses to run as root, so a root caller runs it as `postgres` or
//! `nobody`; other callers run it as themselves. The kernel signals every child when this process dies, so that even SIGKILL
//! leaves no process behind.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::environment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Another user to become; `None` stays the caller.
    switch: Option<(u32, u32)>,
    /// The other user may not enter the folder (a checkout under /root), so it needs a capability to do so.
    pass: bool,
}

impl Account {
    pub const CALLER: Self = Self { switch: None, pass: false };

    /// The account of the servers with their data in `dir`, which exists: the owner of the data, if there are any.
    pub fn for_servers(dir: &Path) -> Result<Self> {
        let me = rustix::process::geteuid().as_raw();
        let owner = fs::metadata(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        if me != 0 {
            if owner.uid() != me {
                bail!(
                    "{} belongs to another user (an earlier run as root?): remove it as that user and try again",
                    dir.display()
                );
            }
            return Ok(Self::CALLER);
        }
        let (uid, gid) = match owner.uid() {
            0 => stand_in(&fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?).context(
                "PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it",
            )?,
            uid => (uid, owner.gid()),
        };
        let mut pass = false;
        for folder in dir.canonicalize()?.ancestors().skip(1) {
            pass |= !may_enter(&fs::metadata(folder)?, uid, gid);
        }
        Ok(Self { switch: Some((uid, gid)), pass })
    }

    /// A command for `program` under this account that gets `death_signal` when the thread that started it ends.
    pub fn command(&self, program: &Path, death_signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", death_signal]);
        if let Some((uid, gid)) = self.switch {
            command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
            if self.pass {
                // no_setuid_fixup: without it access(2), which Erlang calls, ignores the capability.
                command.args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]);
                command.arg("--securebits=+no_setuid_fixup");
            }
        }
        command.arg("--").arg(program);
        command
    }

    /// The same for a server, without the variables of the caller's shell.
    pub fn server(&self, program: &Path, death_signal: &str) -> Command {
        let mut command = self.command(program, death_signal);
        environment::only_needed(&mut command);
        command
    }

    /// Gives a file or folder to this account.
    pub fn own(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.switch else { return Ok(()) };
        chown(path, Some(uid), Some(gid))
            .with_context(|| format!("cannot give {} to user {uid}", path.display()))
    }
}

/// `postgres` if there is one, else `nobody`, from the text of /etc/passwd.
fn stand_in(passwd: &str) -> Option<(u32, u32)> {
    ["postgres", "nobody"].iter().find_map(|wanted| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(wanted)).then_some(())?;
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    })
}

fn may_enter(folder: &Metadata, uid: u32, gid: u32) -> bool {
    let bit = match (folder.uid() == uid, folder.gid() == gid) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    folder.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_is_postgres_before_nobody() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:n:/:/bin/false\npostgres:x:101:104:p:/:/bin/sh\n";
        assert_eq!(stand_in(passwd), Some((101, 104)));
        assert_eq!(stand_in("nobody:x:65534:65533:n:/:/bin/false"), Some((65534, 65533)));
        assert_eq!(stand_in("root:x:0:0:root:/root:/bin/sh"), None);
    }
}
